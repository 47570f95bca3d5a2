"""Folders of images: one folder per class, in one or two splits.

The order of classes and images, and so every label, is ``torchvision.datasets.ImageFolder``'s:
class folders sorted by name, within each the folders below it sorted by path, and files by name.
Other than there, hidden files are passed over, a folder that contains itself through a link ends,
and what is left out is counted.
"""

import difflib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from deit.data.classes import ClassList, listed
from deit.data.images import decode_image, read_file_size, read_image_file
from deit.data.names import Names, printable
from deit.errors import UserError

TRAIN = "train"
VALIDATION = ("val", "validation", "valid", "test")
"""What a validation split's folder may be called; of several, the first of these is used."""

_LIKE_SPLITS = frozenset({TRAIN, *VALIDATION, "training", "testing", "eval", "evaluation"})

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Endings by which image files are told from others; what is in them is found out by decoding."""

_ENDINGS = frozenset(ENDINGS)


@dataclass(frozen=True, slots=True, eq=False)
class FileSource:
    """Images in files below one folder.

    Attributes:
        root: the folder that names are relative to.
        names: the path of each image, with ``/`` between its parts.
        labels: the class of each image.
        classes: the class list that the labels index.
    """

    root: str
    names: Names
    labels: Int64[np.ndarray, "images"]
    classes: ClassList

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels of one image, RGB.

        Raises:
            BadImage: when it cannot be decoded.
        """
        name = self.names[index]
        return decode_image(read_image_file(f"{self.root}/{name}", name), name)

    def read_size(self, index: int) -> tuple[int, int]:
        """Height and width of one image, from its header.

        Raises:
            BadImage: when the header shows that it cannot be used.
        """
        name = self.names[index]
        return read_file_size(f"{self.root}/{name}", name)


def open_folder(root: Path) -> tuple[FileSource, FileSource | None, list[str]]:
    """The splits of a data folder.

    Args:
        root: a folder with ``train/`` and a validation split, each with class folders; or with
            ``train/`` alone; or a folder of class folders.

    Returns:
        Training images; validation images over the same class list, or None where there is no such
        split; notes on what was decided.

    Raises:
        UserError: for a folder that cannot be trained on, saying why.
    """
    _check_folder(root)
    if not _has_training_split(root):
        _check_no_split(root)
        source, notes = _scan_training_split(root, "")
        return source, None, notes
    train, notes = _scan_training_split(root, TRAIN)
    splits = _validation_splits(root)
    unused = sorted(set(_folders(root)) - {TRAIN, *splits[:1]})
    if unused:
        notes.append(f"{printable(str(root))}: folders that are not used: {listed(unused)}")
    if not splits:
        return train, None, notes
    val, val_notes = scan_split(root, splits[0])
    return train, _mapped(val, train.classes, splits[0]), notes + val_notes


def open_evaluation_folder(root: Path) -> tuple[FileSource, list[str]] | None:
    """The images of a folder that can be measured on but not trained on, with notes.

    That is a folder with a validation split but no ``train/``, or a validation split itself. None
    for any other folder.

    Raises:
        UserError: for a folder that is missing or holds no images.
    """
    _check_folder(root)
    if _has_training_split(root):
        return None
    splits = _validation_splits(root)
    if splits:
        return scan_split(root, splits[0])
    return scan_split(root, "") if root.resolve().name in VALIDATION else None


def scan_split(root: Path, split: str) -> tuple[FileSource, list[str]]:
    """All images of one split, with notes on what was left out.

    Args:
        root: the data folder, which names are relative to.
        split: the name of its subfolder that holds the class folders; empty for the root itself.

    Raises:
        UserError: when there is not one image in a class folder.
    """
    top = root / split if split else root
    found = _Found()
    try:
        class_names = _class_folders(top, found)
        above = {_identity(folder) for folder in (top, *top.resolve().parents)}
        prefix = f"{split}/" if split else ""
        per_class = [
            _files_below(f"{top}/{name}", f"{prefix}{name}", above, found) for name in class_names
        ]
    except OSError as error:
        where = printable(str(error.filename or top))
        raise UserError(
            f"{where}: {error.strerror}", "readable folders", "check the permissions"
        ) from error
    files = [name for names in per_class for name in names]
    if not files:
        raise _no_images(top, class_names, found)
    source = FileSource(
        os.path.abspath(root),
        Names.of(files),
        np.repeat(np.arange(len(per_class), dtype=np.int64), [len(names) for names in per_class]),
        ClassList(tuple(class_names)),
    )
    return source, found.notes(printable(str(top)))


@dataclass
class _Found:
    """What a scan came across besides images."""

    strays: list[str] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)
    loops: list[str] = field(default_factory=list)

    def notes(self, where: str) -> list[str]:
        notes = []
        if self.strays:
            notes.append(
                f"{where}: {len(self.strays)} files beside the class folders are not used: "
                f"{listed(self.strays)}"
            )
        if self.endings:
            kinds = listed(f"{number} {ending}" for ending, number in self.endings.most_common())
            notes.append(
                f"{where}: {self.endings.total()} files are not used because their ending is no "
                f"image's: {kinds}"
            )
        if self.loops:
            notes.append(
                f"{where}: {len(self.loops)} links lead back to a folder above them and are not "
                f"followed: {listed(self.loops)}"
            )
        return notes


def _class_folders(top: Path, found: _Found) -> list[str]:
    """The names of the folders in ``top``, sorted; files there are noted as strays."""
    names = []
    for entry in _entries(str(top)):
        if entry.is_dir():
            names.append(entry.name)
        else:
            found.strays.append(entry.name)
    found.strays.sort()
    return sorted(names)


def _files_below(folder: str, name: str, above: set[tuple[int, int]], found: _Found) -> list[str]:
    """The image files in a folder and all folders below it, in ImageFolder's order.

    Args:
        folder: its path on disk.
        name: its path as a prefix of the names.
        above: the folders that it lies in; a link back to one of them is not followed.
        found: notes what is no image.
    """
    files: dict[str, list[str]] = {}
    pending = [(folder, name, above)]
    while pending:
        folder, name, above = pending.pop()
        identity = _identity(folder)
        if identity in above:
            found.loops.append(name)
            continue
        files[name] = []
        for entry in _entries(folder):
            if entry.is_dir():
                inner = (f"{folder}/{entry.name}", f"{name}/{entry.name}", above | {identity})
                pending.append(inner)
            elif _ending(entry.name) in _ENDINGS:
                files[name].append(f"{name}/{entry.name}")
            else:
                found.endings[_ending(entry.name) or "without ending"] += 1
    return [file for path in sorted(files) for file in sorted(files[path])]


def _entries(folder: str) -> Iterator["os.DirEntry[str]"]:
    """What is in a folder, hidden files and the leavings of macOS archives passed over."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name != "__MACOSX":
                yield entry


def _ending(name: str) -> str:
    """The ending with its dot, in small letters; empty without a dot."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _scan_training_split(root: Path, split: str) -> tuple[FileSource, list[str]]:
    source, notes = scan_split(root, split)
    names = source.classes.names
    top = printable(str(root / split if split else root))
    counts = np.bincount(source.labels, minlength=len(names))
    empty = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if empty:
        raise UserError(
            f"{top}: class folders without an image: {listed(empty)}",
            f"one image or more for every class; endings: {' '.join(ENDINGS)}",
            "add images, or remove the empty folders",
        )
    if len(names) == 1:
        inner = root / names[0]
        nested = not split and ((inner / TRAIN).is_dir() or _validation_splits(inner))
        raise UserError(
            f"{top}: only one class folder, {listed(names)}",
            "two classes or more",
            f"did you mean {printable(str(inner))}?" if nested else "add a folder for each class",
        )
    return source, notes


def _mapped(val: FileSource, classes: ClassList, split: str) -> FileSource:
    """The validation images with labels of the training classes, translated by name."""
    counts = np.bincount(val.labels, minlength=len(val.classes))
    kept = [name for name, count in zip(val.classes.names, counts, strict=True) if count]
    new_index = np.zeros(len(counts), dtype=np.int64)
    new_index[counts > 0] = classes.map_from(
        ClassList(tuple(kept)),
        complete=False,
        these=f"the class folders of {TRAIN}/",
        others=f"those of {split}/",
    )
    return replace(val, labels=new_index[val.labels], classes=classes)


def _folders(root: Path) -> list[str]:
    return [entry.name for entry in _entries(str(root)) if entry.is_dir()]


def _validation_splits(root: Path) -> list[str]:
    return [name for name in VALIDATION if (root / name).is_dir()]


def _has_training_split(root: Path) -> bool:
    """Whether ``train/`` is a split: beside other classes, images right in it make it a class."""
    if not (root / TRAIN).is_dir():
        return False
    alone = len(_folders(root)) == 1
    return alone or bool(_validation_splits(root)) or bool(_folders(root / TRAIN))


def _check_folder(root: Path) -> None:
    """Raise unless ``root`` is a folder, with the nearest name that is one."""
    if root.is_dir():
        return
    given = f"no folder {printable(str(root))}"
    allowed = "a folder with train/ and val/ of class folders, or of class folders"
    if root.exists():
        raise UserError(f"{printable(str(root))} is a file", allowed, "give its folder")
    above = root.parent
    if not above.is_dir():
        raise UserError(given, allowed, f"check the path: no folder {printable(str(above))} either")
    near = difflib.get_close_matches(root.name, _folders(above), n=1)
    todo = f"did you mean {printable(str(above / near[0]))}?" if near else "check the path"
    raise UserError(given, allowed, todo)


def _check_no_split(root: Path) -> None:
    """Raise for a folder that is one split of a data set, or has a validation split only."""
    splits = _validation_splits(root)
    if splits:
        raise UserError(
            f"{printable(str(root))} has {splits[0]}/ but no {TRAIN}/",
            f"{TRAIN}/ and {splits[0]}/, or class folders only",
            f"add {TRAIN}/, or give another folder",
        )
    like_splits = [name for name in _folders(root) if name.lower() in _LIKE_SPLITS]
    if len(like_splits) > 1:
        raise UserError(
            f"{printable(str(root))}: class folders called {listed(sorted(like_splits))}",
            f"the splits of a data set are called {TRAIN}/ and {' or '.join(VALIDATION)}/",
            "rename the folders",
        )
    above = root.resolve().parent
    name = root.resolve().name
    others = VALIDATION if name == TRAIN else (TRAIN,) if name in VALIDATION else ()
    for other in others:
        if (above / other).is_dir():
            raise UserError(
                f"{printable(str(root))} is one split of a data set: {other}/ lies beside it",
                "the folder that holds both",
                f"give {printable(str(above))}",
            )


def _no_images(top: Path, class_names: Sequence[str], found: _Found) -> UserError:
    loose = [name for name in found.strays if _ending(name) in _ENDINGS]
    where = printable(str(top))
    if loose:
        given = f"{where}: {len(loose)} images, but none in a class folder"
        todo = "put the images of each class into a folder that is called like the class"
    elif class_names:
        given = f"{where}: no image in the folders {listed(class_names)}"
        todo = "; ".join(found.notes(where)) or "put images there"
    else:
        given = f"{where}: no class folders"
        todo = "make one folder for each class and put its images there"
    return UserError(given, f"class folders with images: {' '.join(ENDINGS)}", todo)
