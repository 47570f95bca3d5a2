"""`deit data check | stats | preview | prepare DATA`."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from deit.cli.data_prepare import Prepare, prepare
from deit.cli.options import metavar, parse
from deit.cli.tables import check_least, check_new_file, check_writable, count_on_terminal
from deit.data.limits import MAX_PIXELS, check_max_pixels
from deit.errors import UserError

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_PAGES = (".html", ".htm")


@dataclass(frozen=True, kw_only=True)
class Check:
    """Open a data set as training would, decode every image, and report what is wrong: what cannot
    be used, duplicates, odd sizes, classes that are missing, uneven or spelled in two ways.

    Exit code 1 if anything is an error, 0 if there are warnings only.
    """

    data: Annotated[tyro.conf.Positional[str], metavar("DATA")]
    """A folder, tar shards, a manifest, hf:NAME, torchvision:NAME or digits."""
    max_pixels: Annotated[int, metavar("N")] = MAX_PIXELS
    """Images of more pixels, width times height, cannot be used; as data.max_pixels in training."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """Also write all findings, with all names, to this file."""
    near: Annotated[int, metavar("BITS")] = 6
    """Bits of 64 in which the hashes of near duplicates may differ; more finds more, and more that
    only look alike. 0 looks for equal images only."""
    recipe: Annotated[str, metavar("NAME")] = "folder"
    """What sizes are compared with: the image size of this recipe (its name, a YAML file, or a run
    folder)."""
    show: Annotated[int, metavar("N")] = 5
    """How many of each finding to name on the terminal."""


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Images per class, sizes, formats, and the levels of the channels."""

    data: Annotated[tyro.conf.Positional[str], metavar("DATA")]
    """A folder, tar shards, a manifest, hf:NAME, torchvision:NAME or digits."""
    max_pixels: Annotated[int, metavar("N")] = MAX_PIXELS
    """Images of more pixels, width times height, cannot be used; as data.max_pixels in training."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """Also write the figures, with histograms, to this file."""
    html: Annotated[Path | None, metavar("FILE")] = None
    """Also write a page with plots and some images to this file; it opens offline."""
    sample: Annotated[int, metavar("N")] = 2000
    """How many images of each split to decode for sizes and levels; 0 for all. Counts are always of
    all images."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Draw the views that a recipe trains on, mixed as in training, with their targets."""

    data: Annotated[tyro.conf.Positional[str], metavar("DATA")]
    """A folder, tar shards, a manifest, hf:NAME, torchvision:NAME or digits."""
    recipe: Annotated[str, metavar("NAME")] = "folder"
    """Name of a recipe, a YAML file, or a run folder."""
    out: Annotated[Path, metavar("FILE")] = Path("preview.png")
    """What to write; its suffix says how: a picture (.png, .jpg, .webp and so on), or a page
    (.html) with each view beside its image and with what was done to it."""
    force: bool = False
    """Replace --out if it is there already."""
    only: Annotated[str | None, metavar("CLASS")] = None
    """Draw only views of images of this class."""
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
    from deit.data.duplicates import MAX_NEAR

    if not 0 <= options.near <= MAX_NEAR:
        raise UserError(f"--near {options.near}", f"0 to {MAX_NEAR} bits", "correct the number")
    check_least("--show", options.show, 0)
    check_writable(json=options.json)
    check_max_pixels("--max-pixels", options.max_pixels)
    from rich.console import Console

    from deit.cli.findings import print_checked
    from deit.cli.recipes import find_recipe
    from deit.programs.check_data import check_data
    from deit.recipes.book import SIZED_RECIPES
    from deit.run.folder import write_json

    sized = options.recipe in SIZED_RECIPES  # by the data, once they have been read
    checked = check_data(
        options.data,
        near=options.near,
        image_size=None if sized else find_recipe(options.recipe).model.img_size,
        max_pixels=options.max_pixels,
        progress=count_on_terminal("checking"),
    )
    print_checked(Console(), checked, options.show)
    if options.json:
        write_json(options.json, checked.plain())
        print(options.json)  # noqa: T201
    return 1 if checked.failed else 0


def stats(options: Stats) -> int:
    """`deit data stats`."""
    check_least("--sample", options.sample, 0)
    check_writable(json=options.json, html=options.html)
    check_max_pixels("--max-pixels", options.max_pixels)
    from rich.console import Console

    from deit.cli.data_tables import class_table, split_table
    from deit.data.sources import open_data
    from deit.data.statistics import describe
    from deit.run.folder import write_json

    opened = open_data(options.data, max_pixels=options.max_pixels)
    progress = count_on_terminal("measuring")
    described = describe(opened, sample=options.sample or None, progress=progress)
    console = Console()
    for table in (split_table(described), class_table(described)):
        console.print(table)
        console.print()
    if options.json:
        write_json(options.json, described)
        print(options.json)  # noqa: T201
    if options.html:
        from deit.programs.data_page import write_statistics

        print(write_statistics(options.html, options.data, opened, described))  # noqa: T201
    return 0


def preview(options: Preview) -> int:
    """`deit data preview`."""
    check_least("--count", options.count, 1)
    check_least("--epoch", options.epoch, 0)
    suffix = options.out.suffix.lower()
    if suffix not in (*_PICTURES, *_PAGES):
        endings = ", ".join((*_PICTURES, *_PAGES))
        raise UserError(f"--out {options.out}", f"a name that ends in {endings}", "change the name")
    check_new_file("--out", options.out, options.force)
    from deit.cli.recipes import find_recipe
    from deit.data.images import BadImage
    from deit.data.names import printable
    from deit.data.sources import open_data
    from deit.programs.preview import draw_sheet, draw_views, write_preview

    recipe = find_recipe(options.recipe, options.data)
    opened = open_data(options.data, max_pixels=recipe.data.max_pixels)
    for note in opened.notes:
        print(note)  # noqa: T201
    try:
        views = draw_views(recipe, opened, options.count, options.epoch, options.only)
        if suffix in _PAGES:
            write_preview(options.out, recipe, opened, views, options.data)
        else:
            draw_sheet(views).save(options.out)
    except BadImage as bad:
        raise UserError(
            f"{bad}",
            "images that can be decoded",
            "mend or remove it; all that cannot be used are listed by `deit data check "
            f"{printable(shlex.quote(options.data))}`",
        ) from bad
    print(options.out)  # noqa: T201
    return 0
