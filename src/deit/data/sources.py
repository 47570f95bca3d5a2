"""Where a data set comes from: a folder, tar shards, a manifest, a set that goes by a name.

`open_data` turns what a user writes as DATA into training and validation images over one class
list, and says in notes what it decided.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from deit.data.classes import listed
from deit.data.dataset import (
    ArraySource,
    DataSet,
    LimitedSource,
    Selection,
    SizedSource,
    Source,
    count_images,
    set_aside,
    take_per_class,
)
from deit.data.folder import open_evaluation_folder, open_folder
from deit.data.huggingface_sets import PREFIX as _HUGGING_FACE
from deit.data.huggingface_sets import HuggingFaceSet, is_saved_set, load_set
from deit.data.limits import MAX_PIXELS, check_max_pixels
from deit.data.manifest import MANIFESTS, Manifest, is_manifest, read_manifest
from deit.data.named_sets import NAMED_SETS, Opened, open_digits, open_torchvision
from deit.data.names import printable
from deit.data.prepared import is_prepared, open_prepared
from deit.data.shard_index import open_shards
from deit.data.shard_paths import find_shards
from deit.data.shards import Shards, index_shards
from deit.data.tree import TRAIN, VALIDATION
from deit.errors import UserError

__all__ = [
    "ArraySource",
    "DataConfig",
    "DataSet",
    "Selection",
    "SizedSource",
    "Source",
    "open_data",
    "open_evaluation",
]

ACCEPTED = (
    f"a folder with {TRAIN}/ and one of {', '.join(VALIDATION)}; a folder of class folders; "
    "tar shards of such folders, as 'train-{000..009}.tar'; a manifest with columns path, label "
    f"and split ({', '.join(MANIFESTS)}); a folder that `datasets` saved; hf:NAME; "
    "torchvision:NAME; digits"
)

_TORCHVISION = "torchvision:"

_ARCHIVES = (".zip", ".7z", ".rar")
_TABLES = (".json", ".xlsx", ".ods", ".txt", ".arrow", ".feather", ".csv.gz", ".jsonl.gz")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """The data of a run.

    Raises:
        UserError: for a value out of range, named as ``data.<field>``.
    """

    source: str = ""
    """The DATA of the command line: a folder, tar shards, a manifest (CSV, TSV, JSON lines,
    Parquet), ``hf:NAME``, ``torchvision:NAME`` or ``digits``."""

    images_per_class: int | None = None
    """Train on this many images of each class only, for studies of data efficiency; all when none.
    Chosen by a stable hash of their names: those for 10 are among those for 20."""

    bad_images: Literal["refuse", "leave-out"] = "refuse"
    """What to do about images that cannot be decoded, of either split: stop before the first step,
    or train and measure without them. They are named either way, and never replaced by others."""

    max_pixels: int = MAX_PIXELS
    """Images of more pixels (width times height) are bad: they are refused by their header, before
    they take memory. Decoding takes 3 to 8 bytes for each pixel, 16 from WebP."""

    def __post_init__(self) -> None:
        if self.images_per_class is not None and self.images_per_class < 1:
            raise UserError(
                f"data.images_per_class = {self.images_per_class}",
                "1 or more, or none for all images",
                "correct the number",
            )
        check_max_pixels("data.max_pixels =", self.max_pixels)


def open_data(
    spec: str,
    *,
    images_per_class: int | None = None,
    cache: Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> DataSet:
    """Open what a user calls DATA.

    Where there is no validation split, a tenth of each class is set aside by a stable hash of the
    file name: the same tenth in every run and on every machine, and said so in the notes.

    Args:
        spec: a folder; tar shards, as ``train-{000..009}.tar``; a manifest, ``train.csv``;
            ``hf:NAME``; ``torchvision:NAME``; ``digits``.
        images_per_class: as in `DataConfig`.
        cache: where torchvision's sets are kept; by default `named_sets.default_cache`.
        max_pixels: as in `DataConfig`.

    Raises:
        UserError: for everything that is wrong with the data, before any image is read.

    >>> data = open_data("digits", images_per_class=10)
    >>> len(data.classes), len(data.train), len(data.val)
    (10, 100, 359)
    """
    return _complete(spec, _open(spec, cache), images_per_class, max_pixels)


def open_evaluation(
    spec: str, *, cache: Path | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[Source, Sequence[str]]:
    """The images to measure a model on, with notes.

    Those are the validation images of the data. Other than for training, a validation split may
    stand alone: a folder with ``val/`` and no ``train/``, or the folder ``val`` itself, whose
    images are all taken. Its class list is then its own: map it onto the model's by name.

    Raises:
        UserError: as `open_data`.
    """
    if spec == "digits" or spec.startswith(_TORCHVISION) or is_prepared(spec):
        return _validation(open_data(spec, cache=cache, max_pixels=max_pixels))
    alone: tuple[Source, Sequence[str]] | None
    splits = _find_splits(spec)
    if splits is None:
        alone = open_evaluation_folder(_folder(spec))
        rest = None if alone else open_data(spec, max_pixels=max_pixels)
    else:
        alone = splits.open_evaluation()
        rest = None if alone else _complete(spec, splits.open(), max_pixels=max_pixels)
    if rest is not None:
        return _validation(rest)
    assert alone is not None
    return limited(alone[0], max_pixels), alone[1]


def _validation(data: DataSet) -> tuple[Source, Sequence[str]]:
    return data.val, data.notes


def _open(spec: str, cache: Path | None) -> Opened:
    if spec == "digits":
        return open_digits()
    if spec.startswith(_TORCHVISION):
        return open_torchvision(spec.removeprefix(_TORCHVISION), cache)
    if is_prepared(spec):
        return open_prepared(spec)
    table = _find_table(spec)
    if table is not None:
        return table.open()
    paths = find_shards(spec)
    return open_folder(_folder(spec)) if paths is None else open_shards(spec, paths)


def _find_table(spec: str) -> Manifest | HuggingFaceSet | None:
    """A manifest or a set of Hugging Face, where DATA is one."""
    if spec.startswith(_HUGGING_FACE) or is_saved_set(spec):
        return load_set(spec)
    return read_manifest(spec) if is_manifest(spec) else None


def _find_splits(spec: str) -> Shards | Manifest | HuggingFaceSet | None:
    """What is read as a whole before a split of it is opened; None for a folder of images."""
    table = _find_table(spec)
    if table is not None:
        return table
    paths = find_shards(spec)
    return None if paths is None else index_shards(spec, paths)


def _complete(
    spec: str,
    opened: Opened,
    images_per_class: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> DataSet:
    """Both splits of what was opened, and a check that there is something to measure on."""
    train, val, notes = opened
    train, val = limited(train, max_pixels), val and limited(val, max_pixels)
    if val is None:
        train, val = set_aside(train, one_in=10)
        notes.append(
            f"{printable(spec)} has no validation split: a tenth of each class, {len(val)} images, "
            "is set aside by a hash of the file names"
        )
    if len(val) == 0:
        raise UserError(
            f"{printable(spec)}: no image to measure on",
            "two images or more of some class, or a validation split",
            "add images",
        )
    unmeasured = [
        name for name, count in zip(val.classes.names, count_images(val), strict=True) if count == 0
    ]
    if unmeasured:
        notes.append(f"{len(unmeasured)} classes have no validation image: {listed(unmeasured)}")
    if images_per_class is not None:
        train = take_per_class(train, images_per_class)
        notes.append(f"training on {images_per_class} images of each class, {len(train)} in all")
    return DataSet(train, val, notes)


def limited(source: Source, max_pixels: int) -> Source:
    """The source with this limit; one whose images lie decoded in memory has none."""
    if isinstance(source, LimitedSource) and source.max_pixels != max_pixels:
        return replace(source, max_pixels=max_pixels)  # type: ignore[type-var]
    return source


def _folder(spec: str) -> Path:
    """The folder that is meant; what can be no folder is answered here."""
    if not spec:
        raise UserError("no data given", ACCEPTED, "name the data")
    folder = Path(spec).expanduser()
    if not folder.exists() and spec.lower() in {name.lower() for name in NAMED_SETS}:
        raise UserError(f"no folder {spec}", ACCEPTED, f"did you mean {_TORCHVISION}{spec}?")
    if not folder.is_dir() and spec.lower().endswith(_ARCHIVES):
        raise UserError(f"{printable(spec)} is an archive", ACCEPTED, "unpack it into a folder")
    if not folder.is_dir() and spec.lower().endswith(_TABLES):
        todo = f"write a manifest: {', '.join(MANIFESTS)}"
        raise UserError(f"{printable(spec)} is a file of another kind", ACCEPTED, todo)
    return folder
