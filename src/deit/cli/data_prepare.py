"""`deit data prepare DATA --out DIR`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from deit.cli.options import metavar
from deit.cli.tables import check_least, check_writable, count_on_terminal
from deit.data.limits import MAX_PIXELS, check_max_pixels

if TYPE_CHECKING:
    from deit.programs.prepare_data import Prepared

_MOST_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """Make the images of a data set smaller once and write them as tar shards: a new DATA, for slow
    disks and processors, with the same names, classes, order and splits.

    A command that was interrupted goes on when it is given again: whole shards, of 2,048 images,
    are kept.
    """

    data: Annotated[tyro.conf.Positional[str], metavar("DATA")]
    """A folder, tar shards, a manifest, hf:NAME, torchvision:NAME or digits."""
    out: Annotated[Path, metavar("DIR")]
    """The store's folder: new, or one whose preparation was interrupted."""
    size: int = 256
    """Shorter side of the stored images in pixels; smaller images stay as they are."""
    format: Literal["jpeg", "png", "webp"] = "jpeg"
    """What resized images are stored as."""
    quality: int | None = None
    """Of JPEG and WebP, 1 to 100; 95 when left out."""
    recipe: Annotated[str, metavar("NAME")] = "folder"
    """The recipe (its name, a YAML file, or a run folder) by whose views original and store are
    compared."""
    max_pixels: Annotated[int, metavar("N")] = MAX_PIXELS
    """Images of more pixels, width times height, are left out, as data.max_pixels does in training;
    a higher limit lets them in, smaller."""
    threads: int = 0
    """Images that are made at once; 0 for one per core."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """Also write the figures to this file."""


def prepare(options: Prepare) -> int:
    """`deit data prepare`."""
    check_least("--threads", options.threads, 0)
    check_writable(json=options.json)
    check_max_pixels("--max-pixels", options.max_pixels)
    from deit.cli.recipes import find_recipe
    from deit.data.shrinking import ShrinkConfig
    from deit.data.sources import open_data
    from deit.programs.prepare_data import prepare_data
    from deit.programs.prepared_views import compare_views
    from deit.run.folder import write_json

    config = ShrinkConfig(size=options.size, encoding=options.format, quality=options.quality)
    data = open_data(options.data, max_pixels=options.max_pixels)
    for note in data.notes:
        print(note)  # noqa: T201
    recipe = find_recipe(options.recipe, options.data)
    try:
        prepared = prepare_data(
            data,
            options.data,
            options.out,
            config,
            threads=options.threads or None,
            difference=lambda: compare_views(recipe, data, config),
            progress=count_on_terminal("preparing"),
        )
    except KeyboardInterrupt:
        print("interrupted: whole shards are kept; go on with the same command again")  # noqa: T201
        return 75
    _print_result(prepared, options.size)
    _print_difference(prepared, options.size)
    if options.json:
        figures = dataclasses.asdict(prepared) | {"path": str(prepared.path)}
        bad = [{"name": bad.name, "reason": bad.reason} for bad in prepared.bad]
        write_json(options.json, figures | {"bad": bad})
    return 0


def _print_result(prepared: "Prepared", size: int) -> None:
    for bad in prepared.bad[:_MOST_NAMED]:
        print(f"left out: {bad}")  # noqa: T201
    if len(prepared.bad) > _MOST_NAMED:
        print(f"left out: {len(prepared.bad) - _MOST_NAMED} more, see prepared.json")  # noqa: T201
    before, after = prepared.bytes_before, prepared.bytes_after
    was = f" of {before / 1e6:,.1f} MB ({after / before:.0%})" if before else ""
    speed = prepared.made / max(prepared.seconds, 1e-9)
    print(  # noqa: T201
        f"{prepared.path}: {prepared.images:,} images in {after / 1e6:,.1f} MB{was}, "
        f"{prepared.made:,} of them made now at {speed:,.0f} a second"
    )
    if not prepared.smaller:
        print(f"no image is larger than --size {size}: the store saves nothing")  # noqa: T201


def _print_difference(prepared: "Prepared", size: int) -> None:
    """What training on the store changes, in words."""
    found = prepared.difference
    if found is None or found["training"] is None or found["evaluation"] is None:
        return
    print(  # noqa: T201
        f"views of {found['image_size']} pixels (recipe {found['recipe']}) differ from the "
        f"original's by {found['training']:.2f} of 255 grey levels in training and "
        f"{found['evaluation']:.2f} in evaluation, on average; of the training crops "
        f"{found['enlarged_after']:.0%} are enlarged, {found['enlarged_before']:.0%} were before"
    )
    if size < found["image_size"]:
        print(  # noqa: T201
            f"every view is blurred: images of {size} pixels are enlarged to "
            f"{found['image_size']}. Prepare them at --size {found['image_size']} or more"
        )
