"""Where a data set comes from: a folder, tar shards, one of torchvision's sets, or the digits.

`open_data` turns what a user writes as DATA into training and validation images over one class
list, and says in notes what it decided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deit.data.classes import listed
from deit.data.dataset import (
    ArraySource,
    DataSet,
    Selection,
    SizedSource,
    Source,
    count_images,
    set_aside,
    take_per_class,
)
from deit.data.folder import open_evaluation_folder, open_folder
from deit.data.named_sets import NAMED_SETS, Opened, open_digits, open_torchvision
from deit.data.names import printable
from deit.data.prepared import is_prepared, open_prepared
from deit.data.shard_paths import find_shards
from deit.data.shards import index_shards
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
    "tar shards of such folders, as 'train-{000..009}.tar'; torchvision:NAME; digits"
)

_TORCHVISION = "torchvision:"

_ARCHIVES = (".zip", ".7z", ".rar", ".csv", ".parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """The data of a run.

    Raises:
        UserError: for a value out of range, named as ``data.<field>``.
    """

    source: str = ""
    """The DATA of the command line: a folder, tar shards, ``torchvision:NAME`` or ``digits``."""

    images_per_class: int | None = None
    """Train on this many images of each class only, for studies of data efficiency; all when none.
    Chosen by a stable hash of their names: those for 10 are among those for 20."""

    bad_images: Literal["refuse", "leave-out"] = "refuse"
    """What to do about training images that cannot be decoded: stop before the first step, or train
    without them. They are named either way, and never replaced by others."""

    def __post_init__(self) -> None:
        if self.images_per_class is not None and self.images_per_class < 1:
            raise UserError(
                f"data.images_per_class = {self.images_per_class}",
                "1 or more, or none for all images",
                "correct the number",
            )


def open_data(
    spec: str, *, images_per_class: int | None = None, cache: Path | None = None
) -> DataSet:
    """Open what a user calls DATA.

    Where there is no validation split, a tenth of each class is set aside by a stable hash of the
    file name: the same tenth in every run and on every machine, and said so in the notes.

    Args:
        spec: a folder; tar shards, as ``train-{000..009}.tar``; ``torchvision:NAME``; ``digits``.
        images_per_class: as in `DataConfig`.
        cache: where torchvision's sets are kept; by default `named_sets.default_cache`.

    Raises:
        UserError: for everything that is wrong with the data, before any image is read.

    >>> data = open_data("digits", images_per_class=10)
    >>> len(data.classes), len(data.train), len(data.val)
    (10, 100, 359)
    """
    return _complete(spec, _open(spec, cache), images_per_class)


def open_evaluation(spec: str, *, cache: Path | None = None) -> tuple[Source, Sequence[str]]:
    """The images to measure a model on, with notes.

    Those are the validation images of the data. Other than for training, a validation split may
    stand alone: a folder with ``val/`` and no ``train/``, or the folder ``val`` itself, whose
    images are all taken. Its class list is then its own: map it onto the model's by name.

    Raises:
        UserError: as `open_data`.
    """
    if spec == "digits" or spec.startswith(_TORCHVISION) or is_prepared(spec):
        return _validation(open_data(spec, cache=cache))
    paths = find_shards(spec)
    if paths is None:
        alone = open_evaluation_folder(_folder(spec))
        return alone or _validation(open_data(spec))
    shards = index_shards(spec, paths)
    return shards.open_evaluation() or _validation(_complete(spec, shards.open()))


def _validation(data: DataSet) -> tuple[Source, Sequence[str]]:
    return data.val, data.notes


def _open(spec: str, cache: Path | None) -> Opened:
    if spec == "digits":
        return open_digits()
    if spec.startswith(_TORCHVISION):
        return open_torchvision(spec.removeprefix(_TORCHVISION), cache)
    if is_prepared(spec):
        return open_prepared(spec)
    paths = find_shards(spec)
    return open_folder(_folder(spec)) if paths is None else index_shards(spec, paths).open()


def _complete(spec: str, opened: Opened, images_per_class: int | None = None) -> DataSet:
    """Both splits of what was opened, and a check that there is something to measure on."""
    train, val, notes = opened
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


def _folder(spec: str) -> Path:
    """The folder that is meant; what can be no folder is answered here."""
    if not spec:
        raise UserError("no data given", ACCEPTED, "name the data")
    folder = Path(spec).expanduser()
    if not folder.exists() and spec.lower() in {name.lower() for name in NAMED_SETS}:
        raise UserError(f"no folder {spec}", ACCEPTED, f"did you mean {_TORCHVISION}{spec}?")
    if not folder.is_dir() and spec.lower().endswith(_ARCHIVES):
        raise UserError(
            f"{printable(spec)} is an archive or a table", ACCEPTED, "unpack it into a folder"
        )
    return folder
