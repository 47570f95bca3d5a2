"""The index of a folder: what its class folders held when they were listed, kept between runs.

To know that a class folder is as it was, the folders in it are looked at, not their files: an entry
that comes, goes or is renamed changes its folder's times. Those that changed are listed again, the
others taken from the index. What is made of them (`deit.data.tree`) is made anew each time, so a
listing from the index is the listing without it.

No file is looked at: one that was written anew under its old name stays in the list, as it should.
"""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int64

from deit.data import cache
from deit.data.array_file import Stored
from deit.data.disk_tree import DiskTree, WatchedTree
from deit.data.file_systems import Signature, local_device, signature
from deit.data.names import Names
from deit.data.tree import Below, Tree, files_below

_KIND = "folder"

Result = TypeVar("Result")


def read_indexed(disk: DiskTree, read: Callable[[Tree], Result]) -> tuple[Result, list[str]]:
    """What ``read`` makes of a tree, helped by its index; the index is brought up to date.

    Returns:
        The result; notes: the reason, if the index cannot be kept.

    Raises:
        OSError: for a folder that cannot be listed.
    """
    if cache.index_folder() is None:
        return read(disk), []
    tree = _IndexedTree(disk, _load(disk))
    result = read(tree)
    if not tree.is_improved():
        return result, []
    reason = _save(disk, tree.records())
    if reason:
        return result, cache.say_once(f"the index of files cannot be kept: {reason}")
    if not tree.is_complete():
        return result, []
    return read(_IndexedTree(disk, _load(disk))), []  # from the file, that workers map too


@dataclass(frozen=True, slots=True, eq=False)
class _Record:
    """What is known of one class folder.

    Attributes:
        below: what was found.
        above: a digest of the folders that it lies in.
        seen: all that decides what is found, as it was seen then.
    """

    below: Below
    above: int
    seen: Mapping[str, Signature]


class _Kept:
    """The records in a file, by class folder.

    Raises:
        ValueError, TypeError, KeyError: for a file that is no index of this folder.
    """

    def __init__(self, stored: Stored, about: Mapping[str, Any]) -> None:
        if {name: stored.about.get(name) for name in about} != about:
            raise ValueError("the index of another folder")
        self._folders = _strings(stored, "folders")
        count = len(self._folders)
        self._names = Names.stored(stored)
        self._firsts = _bounds(stored, "firsts", count, len(self._names))
        self._above = stored.column("above", "<u8", count).tolist()
        paths = _strings(stored, "seen_paths")
        self._paths = paths
        self._paths_firsts = _bounds(stored, "seen_firsts", count, len(paths))
        seen = [stored.column(name, "<u8", len(paths)).tolist() for name in _SEEN]
        self._seen: list[Signature] = list(zip(*seen, strict=True))
        self._endings = {
            folder: {str(ending): int(number) for ending, number in endings.items()}
            for folder, endings in stored.about["endings"].items()
        }
        self._loops = {
            folder: [str(loop) for loop in loops] for folder, loops in stored.about["loops"].items()
        }
        self._places = {folder: place for place, folder in enumerate(self._folders)}

    def __len__(self) -> int:
        return len(self._folders)

    def find(self, folder: str) -> _Record | None:
        """The record of a class folder; whether it still holds is for the caller to see."""
        place = self._places.get(folder)
        if place is None:
            return None
        names = self._names[self._firsts[place] : self._firsts[place + 1]]
        if len(names) and not (_is_below(names[0], folder) and _is_below(names[-1], folder)):
            return None
        watched = slice(self._paths_firsts[place], self._paths_firsts[place + 1])
        seen = dict(zip(self._paths[watched], self._seen[watched], strict=True))
        below = Below(names, self._endings.get(folder, {}), self._loops.get(folder, ()))
        return _Record(below, self._above[place], seen) if seen else None


_SEEN = ("device", "inode", "size", "modified", "changed")


class _IndexedTree:
    """A folder whose class folders are taken from its index where they have not changed."""

    def __init__(self, disk: DiskTree, kept: _Kept | None) -> None:
        self._disk = disk
        self._kept = kept
        self._local_device = local_device(str(disk.root))
        self._records: dict[str, _Record] = {}
        self._num_fresh = 0  # of the records
        self._num_unsure = 0  # of which there is no record

    def entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        return self._disk.entries(folder)

    def identity(self, folder: str) -> Hashable:
        return self._disk.identity(folder)

    def above(self, folder: str) -> set[Hashable]:
        return self._disk.above(folder)

    def place(self, folder: str) -> str:
        return self._disk.place(folder)

    def files_below(self, folder: str, above: set[Hashable]) -> Below:
        """From the index if all is as it was seen then, else from the disk."""
        digest = _digest(above)
        known = self._kept.find(folder) if self._kept else None
        if known and known.above == digest and self._is_unchanged(known.seen):
            self._records[folder] = known
            return known.below
        watched = WatchedTree(self._disk, time.time_ns(), self._local_device)
        below = files_below(watched, folder, above)
        if watched.is_sure:
            self._records[folder] = _Record(below, digest, watched.seen)
            self._num_fresh += 1
        else:
            self._num_unsure += 1
        return below

    def is_improved(self) -> bool:
        """Whether it knows what its index does not, or the index has what is no longer there."""
        num_kept = len(self._kept) if self._kept else 0
        gone = num_kept - (len(self._records) - self._num_fresh) - self._num_unsure
        return self._num_fresh > 0 or gone > 0

    def is_complete(self) -> bool:
        """Whether nothing would have to be listed again."""
        return self._num_unsure == 0

    def records(self) -> dict[str, _Record]:
        """What is known for certain, by class folder."""
        return self._records

    def _is_unchanged(self, seen: Mapping[str, Signature]) -> bool:
        root = str(self._disk.root)
        try:
            return all(signature(os.path.join(root, path)) == was for path, was in seen.items())
        except OSError:
            return False


def _about(disk: DiskTree) -> dict[str, Any]:
    """What an index must be of to be this folder's."""
    return {
        "version": 1,
        "root": os.path.abspath(disk.root),
        "encoding": sys.getfilesystemencoding(),
    }


def _key(disk: DiskTree) -> bytes:
    return os.fsencode(os.path.abspath(disk.root))


def _load(disk: DiskTree) -> _Kept | None:
    stored = cache.load(_KIND, _key(disk))
    if stored is None:
        return None
    try:
        return _Kept(stored, _about(disk))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def _save(disk: DiskTree, records: Mapping[str, _Record]) -> str:
    """Keep the records; the reason if that is not possible."""
    names = Names.joined(record.below.names for record in records.values())
    if len(names) < cache.LEAST_IMAGES:
        return ""
    about = _about(disk) | {
        "endings": {f: dict(r.below.endings) for f, r in records.items() if r.below.endings},
        "loops": {f: list(r.below.loops) for f, r in records.items() if r.below.loops},
    }
    seen = [signature for record in records.values() for signature in record.seen.values()]
    columns = np.array(seen, dtype=np.uint64).reshape(-1, len(_SEEN)).T
    arrays = names.arrays() | {
        "folders": _text(list(records)),
        "firsts": _sums([len(record.below.names) for record in records.values()]),
        "above": np.array([record.above for record in records.values()], dtype=np.uint64),
        "seen_paths": _text([path for record in records.values() for path in record.seen]),
        "seen_firsts": _sums([len(record.seen) for record in records.values()]),
        **dict(zip(_SEEN, columns, strict=True)),
    }
    return cache.keep(_KIND, _key(disk), about, arrays)


def _digest(above: set[Hashable]) -> int:
    """Eight bytes that stand for a set of folders."""
    text = repr(sorted(above, key=repr)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _is_below(name: str, folder: str) -> bool:
    return name.startswith(f"{folder}/")


def _text(strings: Sequence[str]) -> np.ndarray:
    return np.frombuffer(os.fsencode("\0".join(strings)), dtype=np.uint8)


def _strings(stored: Stored, name: str) -> list[str]:
    text = stored.column(name, "|u1").tobytes()
    return os.fsdecode(text).split("\0") if text else []


def _sums(counts: Sequence[int]) -> Int64[np.ndarray, "bounds"]:
    return np.append(0, np.cumsum(np.array(counts, dtype=np.int64))).astype(np.int64)


def _bounds(stored: Stored, name: str, count: int, last: int) -> list[int]:
    """Where each of ``count`` parts of ``last`` things begins, and where the last one ends."""
    bounds = stored.column(name, "<i8", count + 1)
    if bounds[0] != 0 or bounds[-1] != last or (bounds[1:] < bounds[:-1]).any():
        raise ValueError(f"{name} out of order")
    return list(map(int, bounds))
