"""Folders of images on the disk: one folder per class, in one or two splits.

What is a split, a class and an image there, and in which order, is `deit.data.tree`'s.
"""

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from deit.data.classes import ClassList
from deit.data.disk_tree import DiskTree
from deit.data.folder_index import read_indexed
from deit.data.images import decode_image, read_file_size, read_image_file
from deit.data.limits import MAX_PIXELS
from deit.data.names import Names, printable
from deit.data.packing import pack_labels, unpack
from deit.data.tree import (
    TRAIN,
    VALIDATION,
    Listing,
    Tree,
    folders,
    has_training_split,
    open_evaluation_tree,
    open_tree,
    scan_tree,
    split_folders,
)
from deit.errors import UserError


@dataclass(frozen=True, slots=True, eq=False)
class FileSource:
    """Images in files.

    Attributes:
        root: the folder that names are relative to.
        names: the path of each image, with ``/`` between its parts; one that begins with ``/``
            leads elsewhere.
        labels: the class of each image.
        classes: the class list that the labels index.
        max_pixels: images of more are refused.
    """

    root: str
    names: Names
    labels: Int64[np.ndarray, "images"]
    classes: ClassList
    max_pixels: int = MAX_PIXELS

    def __getstate__(self) -> dict[str, Any]:
        """What a worker gets: names from the index as its place, labels as runs."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return state | {"labels": pack_labels(self.labels)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, unpack(value) if name == "labels" else value)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels of one image, RGB.

        Raises:
            BadImage: when it cannot be decoded.
        """
        data, name = self.read_bytes(index), self.names[index]
        return decode_image(data, name, max_pixels=self.max_pixels)

    def read_bytes(self, index: int) -> bytes:
        """The undecoded file of one image.

        Raises:
            BadImage: when it cannot be read.
        """
        name = self.names[index]
        return read_image_file(os.path.join(self.root, name), name)

    def read_size(self, index: int) -> tuple[int, int]:
        """Height and width of one image, from its header.

        Raises:
            BadImage: when the header shows that it cannot be used.
        """
        name = self.names[index]
        path = os.path.join(self.root, name)
        return read_file_size(path, name, max_pixels=self.max_pixels)


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
    tree = DiskTree(root)
    with _readable(root):
        if not has_training_split(tree):
            _check_not_a_split(root)
        (train, val, notes), more = read_indexed(tree, open_tree)
    return _source(root, train), None if val is None else _source(root, val), notes + more


def open_evaluation_folder(root: Path) -> tuple[FileSource, list[str]] | None:
    """The images of a folder that can be measured on but not trained on, with notes.

    That is a folder with a validation split but no ``train/``, or a validation split itself. None
    for any other folder.

    Raises:
        UserError: for a folder that is missing or holds no images.
    """
    _check_folder(root)
    itself = root.resolve().name in VALIDATION

    def read(tree: Tree) -> tuple[Listing, list[str]] | None:
        opened = open_evaluation_tree(tree)
        if opened is None and itself and not has_training_split(tree):
            return scan_tree(tree, "")
        return opened

    with _readable(root):
        opened, more = read_indexed(DiskTree(root), read)
    return None if opened is None else (_source(root, opened[0]), opened[1] + more)


def find_splits(root: Path) -> dict[str, str]:
    """The subfolder of each split that is there; see `deit.data.tree.split_folders`.

    Raises:
        UserError: for a folder that cannot be read.
    """
    with _readable(root):
        return split_folders(DiskTree(root))


def scan_split(root: Path, split: str) -> tuple[FileSource, list[str]]:
    """All images of one split, with notes on what was left out.

    Args:
        root: the data folder, which names are relative to.
        split: the name of its subfolder that holds the class folders; empty for the root itself.

    Raises:
        UserError: when there is not one image in a class folder.
    """
    with _readable(root):
        (listing, notes), more = read_indexed(DiskTree(root), lambda tree: scan_tree(tree, split))
    return _source(root, listing), notes + more


def _source(root: Path, listing: Listing) -> FileSource:
    return FileSource(os.path.abspath(root), listing.names, listing.labels, listing.classes)


@contextmanager
def _readable(root: Path) -> Iterator[None]:
    """Turn a failure of the file system into an error that names the folder."""
    try:
        yield
    except OSError as error:
        where = printable(str(error.filename or root))
        raise UserError(
            f"{where}: {error.strerror}", "readable folders", "check the permissions"
        ) from error


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
    near = difflib.get_close_matches(root.name, folders(DiskTree(above)), n=1)
    todo = f"did you mean {printable(str(above / near[0]))}?" if near else "check the path"
    raise UserError(given, allowed, todo)


def _check_not_a_split(root: Path) -> None:
    """Raise for a folder that is one split of a data set."""
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
