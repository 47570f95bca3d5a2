"""`deit data check | stats | preview | prepare DATA`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from deit.cli.data_prepare import Prepare, prepare
from deit.cli.options import metavar, parse
from deit.cli.tables import check_least, check_writable, count_on_terminal
from deit.data.limits import MAX_PIXELS, check_max_pixels
from deit.errors import UserError

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class Check:
    """Open a data set as training would, and decode every image; exit code 1 if any is bad."""

    data: Annotated[tyro.conf.Positional[str], metavar("DATA")]
    """A folder, tar shards, a manifest, hf:NAME, torchvision:NAME or digits."""
    max_pixels: Annotated[int, metavar("N")] = MAX_PIXELS
    """Images of more pixels, width times height, cannot be used; as data.max_pixels in training."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """Also write the findings to this file."""


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Images per class, sizes, and mean and standard deviation of the channels."""

    data: Annotated[tyro.conf.Positional[str], metavar("DATA")]
    """A folder, tar shards, a manifest, hf:NAME, torchvision:NAME or digits."""
    max_pixels: Annotated[int, metavar("N")] = MAX_PIXELS
    """Images of more pixels, width times height, cannot be used; as data.max_pixels in training."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """Also write the figures to this file."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Draw the views that a recipe trains on, mixed as in training, with their targets."""

    data: Annotated[tyro.conf.Positional[str], metavar("DATA")]
    """A folder, tar shards, a manifest, hf:NAME, torchvision:NAME or digits."""
    recipe: Annotated[str, metavar("NAME")] = "folder"
    """Name of a recipe, a YAML file, or a run folder."""
    out: Annotated[Path, metavar("FILE")] = Path("preview.png")
    """The picture to write; its suffix says how: .png, .jpg, .webp and so on."""
    count: Annotated[int, metavar("N")] = 48
    """How many views."""
    epoch: Annotated[int, metavar("N")] = 0
    """The epoch to show; the first is 0."""


def data(arguments: Sequence[str]) -> int:
    """`deit data`."""
    options = parse(Check | Stats | Preview | Prepare, arguments, verb="data")
    match options:
        case Check():
            return check(options)
        case Stats():
            return stats(options)
        case Preview():
            return preview(options)
        case Prepare():
            return prepare(options)
    raise AssertionError(options)


def check(options: Check) -> int:
    """`deit data check`."""
    check_writable(options.json)
    check_max_pixels("--max-pixels", options.max_pixels)
    from deit.data.check import check_images
    from deit.data.sources import open_data
    from deit.run.folder import write_json

    opened = open_data(options.data, max_pixels=options.max_pixels)
    for note in opened.notes:
        print(note)  # noqa: T201
    bad = check_images(opened, progress=count_on_terminal("checking"))
    for problem in bad:
        print(problem)  # noqa: T201
    counts = {name: len(source) for name, source in opened.splits().items()}
    print(  # noqa: T201
        f"{counts['train']:,} training and {counts['val']:,} validation images of "
        f"{len(opened.classes)} classes: {len(bad) or 'none'} cannot be used"
    )
    if options.json:
        found = [{"name": problem.name, "reason": problem.reason} for problem in bad]
        write_json(options.json, {**counts, "notes": list(opened.notes), "bad_images": found})
    return 1 if bad else 0


def stats(options: Stats) -> int:
    """`deit data stats`."""
    check_writable(options.json)
    check_max_pixels("--max-pixels", options.max_pixels)
    from rich.console import Console

    from deit.cli.tables import class_table, split_table
    from deit.data.check import describe
    from deit.data.sources import open_data
    from deit.run.folder import write_json

    opened = open_data(options.data, max_pixels=options.max_pixels)
    described = describe(opened, progress=count_on_terminal("measuring"))
    console = Console()
    console.print(split_table(described))
    console.print()
    console.print(class_table(described))
    if options.json:
        write_json(options.json, described)
    return 0


def preview(options: Preview) -> int:
    """`deit data preview`."""
    check_least("--count", options.count, 1)
    check_least("--epoch", options.epoch, 0)
    if options.out.suffix.lower() not in _PICTURES:
        raise UserError(
            f"--out {options.out}", f"a name that ends in {', '.join(_PICTURES)}", "change the name"
        )
    check_writable(options.out)
    from deit.cli.recipes import find_recipe
    from deit.data.sources import open_data
    from deit.programs.preview import draw_views

    recipe = find_recipe(options.recipe, options.data)
    opened = open_data(options.data, max_pixels=recipe.data.max_pixels)
    draw_views(recipe, opened, options.count, options.epoch).save(options.out)
    print(options.out)  # noqa: T201
    return 0
