"""The headers of tar archives, kept between runs as long as the archives are the same files.

Reading a header takes about 30 microseconds. An archive is known by its path, device, inode, size
and times; see `deit.data.file_systems` for when these are trusted.
"""

import os
import sys
import time
from typing import Literal

import numpy as np

from deit.data import cache
from deit.data.array_file import Stored
from deit.data.file_systems import Signature, is_settled, local_device, signature
from deit.data.names import Names
from deit.data.tar_index import Archive, Member, list_members

LEAST_MEMBERS = 200
"""The headers of smaller archives are read each time."""

_KIND = "archive"
_KINDS: tuple[Literal["file", "folder", "other"], ...] = ("file", "folder", "other")


def known_members(path: str) -> tuple[Archive, list[Member]]:
    """What `list_members` gives, from the index where the archive has not changed.

    Raises:
        UserError: as `list_members`.
    """
    now = time.time_ns()
    before = settled_signature(path, now)
    kept = cache.load(_KIND, _key(path)) if before is not None else None
    if kept is not None and (known := _unpacked(kept, path, before)) is not None:
        return known
    archive, members = list_members(path)
    if before is not None and len(members) >= LEAST_MEMBERS and signature(path) == before:
        _keep(path, before, members)
    return archive, members


def settled_signature(path: str, now: int) -> Signature | None:
    """What a file is known by; None where a change after ``now`` might not show in it."""
    try:
        seen = signature(path)
        return seen if is_settled(seen, now, local_device(path)) else None
    except OSError:
        return None


def _keep(path: str, seen: Signature, members: list[Member]) -> None:
    columns: dict[str, np.ndarray] = {
        "signature": np.array(seen, dtype=np.uint64),
        "kinds": np.array([_KINDS.index(member.kind) for member in members], dtype=np.uint8),
        "offsets": np.array([member.offset for member in members], dtype=np.int64),
        "sizes": np.array([member.size for member in members], dtype=np.int64),
    }
    names = Names.of("/".join(member.parts) for member in members)
    cache.keep(_KIND, _key(path), _about(path), columns | names.arrays())


def _unpacked(
    kept: Stored, path: str, seen: Signature | None
) -> tuple[Archive, list[Member]] | None:
    """The archive and its members; None for the index of another file."""
    try:
        if kept.about != _about(path) or tuple(kept.column("signature", "<u8").tolist()) != seen:
            return None
        names = Names.stored(kept)
        kinds = kept.column("kinds", "|u1", len(names))
        offsets = kept.column("offsets", "<i8", len(names))
        sizes = kept.column("sizes", "<i8", len(names))
    except ValueError:
        return None
    num_bytes, modified = seen[2], seen[3]
    is_file = kinds == _KINDS.index("file")
    if (kinds >= len(_KINDS)).any() or (is_file & ~_are_inside(offsets, sizes, num_bytes)).any():
        return None
    members = [
        Member(tuple(name.split("/")) if name else (), _KINDS[kind], offset, size)
        for name, kind, offset, size in zip(
            names, kinds.tolist(), offsets.tolist(), sizes.tolist(), strict=True
        )
    ]
    return Archive(os.path.abspath(path), num_bytes, modified), members


def _are_inside(offsets: np.ndarray, sizes: np.ndarray, num_bytes: int) -> np.ndarray:
    return (offsets >= 0) & (sizes >= 0) & (sizes <= num_bytes) & (offsets <= num_bytes - sizes)


def _about(path: str) -> dict[str, object]:
    return {
        "version": 1,
        "path": os.path.abspath(path),
        "encoding": sys.getfilesystemencoding(),
    }


def _key(path: str) -> bytes:
    return os.fsencode(os.path.abspath(path))
