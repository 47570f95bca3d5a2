"""Tar archives of class folders as data, read in place: nothing is unpacked to the disk.

The members of all shards together are one tree of folders, `<split>/<class>/.../<file>` below
whatever folders lie above a split in each shard, or `<class>/.../<file>`. Names, labels and order
are those of the unpacked tree (`deit.data.tree`), however the files are spread over the shards.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from deit.data.archive_index import known_members
from deit.data.classes import ClassList, listed
from deit.data.images import decode_image, decode_size
from deit.data.limits import MAX_PIXELS
from deit.data.names import Names, printable
from deit.data.packing import pack_labels, unpack
from deit.data.shard_tree import Folder, ShardTree
from deit.data.tar_index import Archive, Member, read_member
from deit.data.tree import (
    TRAIN,
    VALIDATION,
    Listing,
    folders,
    is_hidden,
    is_image_name,
    open_evaluation_tree,
    open_tree,
    scan_tree,
)
from deit.errors import UserError

_SPLITS = frozenset({TRAIN, *VALIDATION})

_Parts = tuple[str, ...]

_PLACES = frozenset({"archive_of", "offsets", "sizes"})


@dataclass(frozen=True, slots=True, eq=False)
class ShardSource:
    """Images in tar archives.

    Attributes:
        archives: the tar files.
        archive_of, offsets, sizes: which of them holds each image, and which of its bytes.
        names: the path of each image in the tree of folders, with ``/`` between its parts.
        labels: the class of each image.
        classes: the class list that the labels index.
        max_pixels: images of more are refused.
    """

    archives: tuple[Archive, ...]
    archive_of: Int32[np.ndarray, "images"]
    offsets: Int64[np.ndarray, "images"]
    sizes: Int64[np.ndarray, "images"]
    names: Names
    labels: Int64[np.ndarray, "images"]
    classes: ClassList
    max_pixels: int = MAX_PIXELS

    def __getstate__(self) -> dict[str, Any]:
        """What a worker gets: what came from the index as its place there, labels as runs."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.names.is_stored_with(self.offsets):
            state = {name: state[name] for name in state if name not in _PLACES}
        return state | {"labels": pack_labels(self.labels)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state |= {"labels": unpack(state["labels"])}
        if not state.keys() >= _PLACES:
            state |= state["names"].beside(_PLACES)
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels of one image, RGB.

        Raises:
            BadImage: when it cannot be decoded, or its shard is not what it was.
        """
        name = self.names[index]
        return decode_image(self.read_bytes(index), name, max_pixels=self.max_pixels)

    def read_size(self, index: int) -> tuple[int, int]:
        """Height and width of one image, from its header.

        Raises:
            BadImage: when the header shows that it cannot be used.
        """
        name = self.names[index]
        return decode_size(self.read_bytes(index), name, max_pixels=self.max_pixels)

    def read_bytes(self, index: int) -> bytes:
        """The undecoded file of one image.

        Raises:
            BadImage: when its shard is not what it was.
        """
        archive, name = self.archives[self.archive_of[index]], self.names[index]
        return read_member(archive, int(self.offsets[index]), int(self.sizes[index]), name)


@dataclass(frozen=True, slots=True)
class Shards:
    """The headers of some tar files, read; see `index_shards`.

    Attributes:
        tree: all members.
        archives: the files.
        splits: those that are known by the files' names.
        notes: what was decided or left out.
    """

    tree: ShardTree
    archives: tuple[Archive, ...]
    splits: frozenset[str]
    notes: Sequence[str]

    def open(self) -> tuple[ShardSource, ShardSource | None, list[str]]:
        """Training images, validation images where there is such a split, notes.

        Raises:
            UserError: for shards that cannot be trained on, saying why.
        """
        self._check_names()
        train, val, notes = open_tree(self.tree)
        val_source = None if val is None else self._source(val)
        return self._source(train), val_source, [*self.notes, *notes]

    def open_evaluation(self) -> tuple[ShardSource, list[str]] | None:
        """The images of a validation split that stands alone, with notes; None for other shards.

        Raises:
            UserError: when there are none in class folders.
        """
        opened = open_evaluation_tree(self.tree)
        if opened is None:
            return None
        return self._source(opened[0]), [*self.notes, *opened[1]]

    def scan(self, split: str) -> tuple[ShardSource, list[str]]:
        """All images of one split over its own classes, with notes on what was left out.

        Args:
            split: the name of its folder; empty where there are class folders only.

        Raises:
            UserError: when there are none in class folders.
        """
        listing, notes = scan_tree(self.tree, split)
        return self._source(listing), notes

    def _check_names(self) -> None:
        """Raise where, by their files' names, there are no training shards."""
        if self.splits and TRAIN not in folders(self.tree):
            raise UserError(
                f"{self.tree.place('')}: by their names, shards of {listed(sorted(self.splits))} "
                f"only, none of {TRAIN}",
                f"shards of both, as '{{{TRAIN}-{{000..009}},{VALIDATION[0]}-000}}.tar'; one split "
                "alone can be measured on",
                "add the training shards, or rename shards whose name is no split's",
            )

    def _source(self, listing: Listing) -> ShardSource:
        found = [self.tree.find(name) for name in listing.names]
        places = np.array(found, dtype=np.int64).reshape(-1, 3)
        return ShardSource(
            self.archives,
            places[:, 0].astype(np.int32),
            places[:, 1].copy(),
            places[:, 2].copy(),
            listing.names,
            listing.labels,
            listing.classes,
        )


def index_shards(title: str, paths: Sequence[str]) -> Shards:
    """Read the headers of tar files, and put their members into one tree.

    Args:
        title: how the data are called in messages.
        paths: the tar files, in any order.

    Raises:
        UserError: for what is no whole tar archive, a name that is there twice, and shards of
            which only some say to which split their images belong.
    """
    tree = ShardTree(title, paths)
    shards = [_add_shard(tree, number, path, paths) for number, path in enumerate(paths)]
    if any(shard.split or shard.roots for shard in shards):
        _check_all_split(title, paths, shards)
    else:
        tree.top = _without_wrapping(tree.top)
    archives = tuple(shard.archive for shard in shards)
    splits = frozenset(shard.split for shard in shards if shard.split)
    return Shards(tree, archives, splits, _notes(title, paths, shards))


@dataclass(frozen=True, slots=True)
class _Shard:
    """What was found in one tar file besides its images.

    Attributes:
        archive: the file.
        roots: the folders in which its split folders lie; none where it has no split folder.
        split: the split that the file's own name says, where no folder does.
        unsplit: whether it has images of which neither says it.
        strange: members that are neither files nor folders.
    """

    archive: Archive
    roots: frozenset[_Parts]
    split: str
    unsplit: bool
    strange: Sequence[str]


def _add_shard(tree: ShardTree, number: int, path: str, paths: Sequence[str]) -> _Shard:
    """Read the headers of one tar file and put its members into the tree."""
    archive, members = known_members(path)
    visible = [m for m in members if m.parts and not any(map(is_hidden, m.parts))]
    roots = _find_roots(visible)
    loose = not roots and any(_is_image(m) and m.parts[0] not in _SPLITS for m in visible)
    split = _named_split(path, paths) if loose else ""
    for member in visible:
        parts = _place(member, roots, split, path)
        if parts and member.kind != "other":
            tree.add(number, member, parts)
    strange = ["/".join(member.parts) for member in visible if member.kind == "other"]
    return _Shard(archive, roots, split, loose and not split, strange)


def _is_image(member: Member) -> bool:
    return member.kind == "file" and is_image_name(member.parts[-1])


def _find_roots(members: Sequence[Member]) -> frozenset[_Parts]:
    """The folders in which split folders lie that hold files in class folders.

    >>> _find_roots([Member(("photos", "train", "cat", "1.jpg"), "file", 512, 1)])
    frozenset({('photos',)})
    """
    roots = set()
    for member in members:
        names = member.parts[:-2] if member.kind == "file" else ()
        place = next((place for place, name in enumerate(names) if name in _SPLITS), None)
        if place is not None:
            roots.add(member.parts[:place])
    return frozenset(
        root for root in roots if not any(root[:depth] in roots for depth in range(len(root)))
    )


def _named_split(path: str, paths: Sequence[str]) -> str:
    """The split that a shard's name says; "" where it says none or several.

    Where shards lie in several folders and the file's name has no such word, its folder's name.
    """
    folder, name = os.path.split(path)
    words = _split_words(name)
    if not words and len({os.path.dirname(other) for other in paths}) > 1:
        words = _split_words(os.path.basename(folder))
    return words.pop() if len(words) == 1 else ""


def _split_words(name: str) -> set[str]:
    """The splits whose names stand by themselves in a name: not between other letters.

    >>> _split_words("cifar10-test.tar"), _split_words("trainval.tar")
    ({'test'}, set())
    """
    return set(re.findall(r"[a-z]+", name.lower())) & _SPLITS


def _place(member: Member, roots: frozenset[_Parts], split: str, path: str) -> _Parts:
    """Where a member stands in the common tree; nowhere for what lies above all splits."""
    parts = member.parts
    if not roots:
        return (split, *parts) if split and parts[0] not in _SPLITS else parts
    for root in roots:
        if parts[: len(root)] == root:
            return parts[len(root) :]
    if _is_image(member):
        inside = listed(sorted("/".join(root) for root in roots))
        raise UserError(
            f"{printable(path)}: {printable('/'.join(parts))} belongs to no split: others lie in "
            f"{inside}",
            f"all images below {TRAIN}/ or {VALIDATION[0]}/ in class folders, or none",
            "pack it again without that file, or with it in the folder of its split",
        )
    return ()


def _check_all_split(title: str, paths: Sequence[str], shards: Sequence[_Shard]) -> None:
    """Raise where some shards have splits and others do not."""
    unsplit = [path for path, shard in zip(paths, shards, strict=True) if shard.unsplit]
    if unsplit:
        raise UserError(
            f"{printable(title)}: shards that do not say to which split their images belong, "
            f"beside others that do: {listed(unsplit)}",
            f"folders {TRAIN}/ and {' or '.join(VALIDATION)}/ in all of them; or one of these "
            "words in each file's name",
            f"rename them: {TRAIN}-000.tar",
        )


def _without_wrapping(top: Folder) -> Folder:
    """The class folders: in the one outer folder, where nothing but that folder was packed."""
    while len(top.folders) == 1 and not any(map(is_image_name, top.files)):
        (inner,) = top.folders.values()
        if len(inner.folders) < 2 or any(map(is_image_name, inner.files)):
            break
        top = inner
    return top


def _notes(title: str, paths: Sequence[str], shards: Sequence[_Shard]) -> list[str]:
    notes = []
    named = [
        f"{os.path.basename(path)} ({shard.split})"
        for path, shard in zip(paths, shards, strict=True)
        if shard.split
    ]
    if named:
        notes.append(f"{printable(title)}: by their names, splits are {listed(named)}")
    strange = [name for shard in shards for name in shard.strange]
    if strange:
        notes.append(
            f"{printable(title)}: {len(strange)} members are no plain files (links, devices, "
            f"sparse files) and are not used: {listed(strange)}"
        )
    return notes
