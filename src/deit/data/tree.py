"""What a tree of folders means as a data set: its splits, classes and images, and their order.

The tree may lie on the disk (`deit.data.folder`) or in tar shards (`deit.data.shards`): the same
names, labels and order come out, and the same words about every mistake.

The order of classes and images, and so every label, is ``torchvision.datasets.ImageFolder``'s:
class folders sorted by name, within each the folders below it sorted by path, and files by name.
Other than there, hidden files are passed over, a folder that contains itself through a link ends,
and what is left out is counted.
"""

import difflib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from deit.data.classes import ClassList, listed
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


@runtime_checkable
class Tree(Protocol):
    """Folders and files. A folder is named by its path below the top, with ``/``; "" is the top."""

    def entries(self, folder: str) -> Iterable[tuple[str, bool]]:
        """The name of everything in a folder but what is hidden, and whether it is a folder."""

    def identity(self, folder: str) -> Hashable:
        """Equal for two paths that lead to one folder."""

    def above(self, folder: str) -> set[Hashable]:
        """The identities of a folder and of those that it lies in."""

    def place(self, folder: str) -> str:
        """How a folder is called in messages, printable."""


@dataclass(frozen=True, slots=True, eq=False)
class Below:
    """The images in a class folder and in all folders below it.

    Attributes:
        names: the path of each below the top of the tree, in order.
        endings: how many files of other endings there are.
        loops: links that lead back to a folder above them.
    """

    names: Names
    endings: Mapping[str, int]
    loops: Sequence[str]


@runtime_checkable
class KnownTree(Tree, Protocol):
    """A tree that may know what a search would find."""

    def files_below(self, folder: str, above: set[Hashable]) -> Below:
        """What `files_below` of this module finds."""


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """The images of one split.

    Attributes:
        names: the path of each image below the top of the tree.
        labels: the class of each image.
        classes: the class list that the labels index.
    """

    names: Names
    labels: Int64[np.ndarray, "images"]
    classes: ClassList


def open_tree(tree: Tree) -> tuple[Listing, Listing | None, list[str]]:
    """The splits of a data folder.

    Args:
        tree: with ``train/`` and a validation split, each with class folders; or with ``train/``
            alone; or of class folders.

    Returns:
        Training images; validation images over the same class list, or None where there is no such
        split; notes on what was decided.

    Raises:
        UserError: for a tree that cannot be trained on, saying why.
    """
    if not has_training_split(tree):
        _check_no_split(tree)
        listing, notes = _scan_training_split(tree, "")
        return listing, None, notes
    train, notes = _scan_training_split(tree, TRAIN)
    splits = validation_splits(tree)
    unused = sorted(set(folders(tree)) - {TRAIN, *splits[:1]})
    if unused:
        notes.append(f"{tree.place('')}: folders that are not used: {listed(unused)}")
    if not splits:
        meant = [name for name in unused if _is_like_validation(name)]
        notes += [
            f"{tree.place('')}: if {printable(name)} holds the validation images, call it "
            f"{VALIDATION[0]}"
            for name in meant
        ]
    if not splits:
        return train, None, notes
    val, val_notes = scan_tree(tree, splits[0])
    return train, _mapped(val, train.classes, splits[0]), notes + val_notes


def open_evaluation_tree(tree: Tree) -> tuple[Listing, list[str]] | None:
    """The images of a validation split that stands without ``train/``, with notes.

    None for any other tree.

    Raises:
        UserError: when the split holds no images.
    """
    splits = validation_splits(tree)
    if has_training_split(tree) or not splits:
        return None
    return scan_tree(tree, splits[0])


def scan_tree(tree: Tree, split: str) -> tuple[Listing, list[str]]:
    """All images of one split, with notes on what was left out.

    Args:
        tree: the data folder, which names are relative to.
        split: the name of its subfolder that holds the class folders; empty for the tree itself.

    Raises:
        UserError: when there is not one image in a class folder.
    """
    found = _Found()
    class_names = _class_folders(tree, split, found)
    above = tree.above(split)
    prefix = f"{split}/" if split else ""
    search = tree.files_below if isinstance(tree, KnownTree) else partial(files_below, tree)
    per_class = [search(f"{prefix}{name}", above) for name in class_names]
    for name, below in zip(class_names, per_class, strict=True):
        found.add(f"{prefix}{name}", below)
    names = Names.joined(below.names for below in per_class)
    if not len(names):
        raise _no_images(tree.place(split), class_names, found)
    counts = [len(below.names) for below in per_class]
    listing = Listing(
        names,
        np.repeat(np.arange(len(per_class), dtype=np.int64), counts),
        ClassList(tuple(class_names)),
    )
    notes = found.notes(tree.place(split))
    if found.nested and len(found.deep) == len(class_names):
        notes.append(
            f"{tree.place(split)}: no class folder holds images itself, only folders of images: "
            f"{listed(found.deep)}. All images below a class folder are of its class; where the "
            "inner folders are the classes, move them up, or write a manifest"
        )
    return listing, notes


def files_below(tree: Tree, folder: str, above: set[Hashable]) -> Below:
    """The image files in a folder and all folders below it, in ImageFolder's order.

    Args:
        tree: what to search.
        folder: its path below the top, the beginning of the names.
        above: the folders that it lies in; a link back to one of them is not followed.
    """
    files: dict[str, list[str]] = {}
    endings: Counter[str] = Counter()
    loops: list[str] = []
    pending = [(folder, above)]
    while pending:
        folder, above = pending.pop()
        identity = tree.identity(folder)
        if identity in above:
            loops.append(folder)
            continue
        files[folder] = []
        for name, is_folder in tree.entries(folder):
            if is_folder:
                pending.append((f"{folder}/{name}", above | {identity}))
            elif is_image_name(name):
                files[folder].append(f"{folder}/{name}")
            else:
                endings[_ending(name) or "without ending"] += 1
    names = Names.of([file for path in sorted(files) for file in sorted(files[path])])
    return Below(names, endings, loops)


def folders(tree: Tree, folder: str = "") -> list[str]:
    """The names of the folders in a folder."""
    return [name for name, is_folder in tree.entries(folder) if is_folder]


def validation_splits(tree: Tree, folder: str = "") -> list[str]:
    """What validation splits there are in a folder, the one to use first."""
    there = set(folders(tree, folder))
    return [name for name in VALIDATION if name in there]


def split_folders(tree: Tree) -> dict[str, str]:
    """The folder of each split that is there, whether or not the tree can be trained on.

    Where there are class folders only, they are ``train``, and their folder is "", the top.
    """
    found = {"train": TRAIN} if has_training_split(tree) else {}
    if splits := validation_splits(tree):
        found["val"] = splits[0]
    return found or {"train": ""}


def has_training_split(tree: Tree) -> bool:
    """Whether ``train/`` is a split: beside other classes, images right in it make it a class."""
    there = folders(tree)
    if TRAIN not in there:
        return False
    return len(there) == 1 or bool(validation_splits(tree)) or bool(folders(tree, TRAIN))


def _is_like_validation(name: str) -> bool:
    """Whether a folder beside ``train/`` may be meant as its validation split.

    >>> _is_like_validation("vaildation"), _is_like_validation("Eval"), _is_like_validation("cats")
    (True, True, False)
    """
    return name.lower() in _LIKE_SPLITS or bool(
        difflib.get_close_matches(name.lower(), VALIDATION, cutoff=0.8)
    )


def is_hidden(name: str) -> bool:
    """Whether a file or folder is passed over: hidden ones, and the leavings of macOS archives."""
    return name.startswith(".") or name == "__MACOSX"


def is_image_name(name: str) -> bool:
    """Whether a file counts as an image, by its ending."""
    return _ending(name) in _ENDINGS


@dataclass
class _Found:
    """What a scan came across besides images."""

    strays: list[str] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)
    loops: list[str] = field(default_factory=list)
    deep: list[str] = field(default_factory=list)
    """Class folders with images in inner folders only."""
    nested: list[str] = field(default_factory=list)
    """Those of them with several inner folders."""

    def add(self, folder: str, below: Below) -> None:
        self.endings.update(below.endings)
        self.loops.extend(below.loops)
        holders = {name.rpartition("/")[0] for name in (*below.names[:1], *below.names[-1:])}
        if holders and folder not in holders:  # a folder's own images come first
            self.deep.append(folder)
            if len(holders) > 1:
                self.nested.append(folder)

    def notes(self, where: str) -> list[str]:
        notes = []
        if self.strays:
            notes.append(
                f"{where}: {len(self.strays)} files beside the class folders are not used: "
                f"{listed(self.strays)}"
            )
        if self.endings:
            ranked = sorted(self.endings.items(), key=lambda item: (-item[1], item[0]))
            kinds = listed(f"{number} {ending}" for ending, number in ranked)
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


def _class_folders(tree: Tree, split: str, found: _Found) -> list[str]:
    """The names of the folders in a split, sorted; files there are noted as strays."""
    names: list[str] = []
    for name, is_folder in tree.entries(split):
        (names if is_folder else found.strays).append(name)
    found.strays.sort()
    return sorted(names)


def _ending(name: str) -> str:
    """The ending with its dot, in small letters; empty without a dot."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def _scan_training_split(tree: Tree, split: str) -> tuple[Listing, list[str]]:
    listing, notes = scan_tree(tree, split)
    names = listing.classes.names
    counts = np.bincount(listing.labels, minlength=len(names))
    empty = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if empty:
        raise UserError(
            f"{tree.place(split)}: class folders without an image: {listed(empty)}",
            f"one image or more for every class; endings: {' '.join(ENDINGS)}",
            "add images, or remove the empty folders",
        )
    if len(names) == 1:
        inner = names[0]
        nested = not split and (TRAIN in folders(tree, inner) or validation_splits(tree, inner))
        raise UserError(
            f"{tree.place(split)}: only one class folder, {listed(names)}",
            "two classes or more",
            f"did you mean {tree.place(inner)}?" if nested else "add a folder for each class",
        )
    return listing, notes


def _mapped(val: Listing, classes: ClassList, split: str) -> Listing:
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


def _check_no_split(tree: Tree) -> None:
    """Raise for a tree that has a validation split only, or splits under other names."""
    splits = validation_splits(tree)
    if splits:
        raise UserError(
            f"{tree.place('')} has {splits[0]}/ but no {TRAIN}/",
            f"{TRAIN}/ and {splits[0]}/, or class folders only",
            f"add {TRAIN}/, or give another folder",
        )
    like_splits = [name for name in folders(tree) if name.lower() in _LIKE_SPLITS]
    if len(like_splits) > 1:
        raise UserError(
            f"{tree.place('')}: class folders called {listed(sorted(like_splits))}",
            f"the splits of a data set are called {TRAIN}/ and {' or '.join(VALIDATION)}/",
            "rename the folders",
        )


def _no_images(where: str, class_names: Sequence[str], found: _Found) -> UserError:
    loose = [name for name in found.strays if is_image_name(name)]
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
