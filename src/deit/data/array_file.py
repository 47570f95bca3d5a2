"""A file of plain arrays that is mapped into memory: written whole or not at all, checked as read.

Layout: eight letters, the header's length, the header (JSON), the arrays, each at a multiple of 64
bytes, and 32 bytes of BLAKE2b over all that stands before. There is no code in it to be run, as a
pickle has.

A mapped file takes memory once per machine, whatever the number of processes, and can be dropped by
the system at any time. A file on a network drive is read instead: once deleted there by another
machine, a page of it that is needed again would end the process.
"""

import contextlib
import hashlib
import io
import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deit.data.file_systems import is_local

UNFINISHED = ".unfinished"
"""How the names of files end that are being written."""

_MAGIC = b"deitarr1"
_ALIGNMENT = 64
_DIGEST_BYTES = 32
_MOST_HEADER_BYTES = 2**26
_DTYPES = ("|u1", "<i4", "<i8", "<u8")
_TOUCHED_SECONDS = 24 * 3600

_INVALID = (ValueError, KeyError, TypeError, OverflowError, RecursionError, MemoryError)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file of arrays is and what it must be: what a worker is told instead of the arrays.

    Attributes:
        path: absolute.
        kind: as it was saved.
        digest: its last bytes.
    """

    path: str
    kind: str
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A file of arrays, in memory.

    Attributes:
        place: where it came from.
        about: what was saved with the arrays.
        arrays: by name, read-only.
    """

    place: Place
    about: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    def column(self, name: str, dtype: str, length: int | None = None) -> np.ndarray:
        """An array of one dimension.

        Raises:
            ValueError: when it is missing, or of another kind or length.
        """
        array = self.arrays.get(name)
        if array is None or array.ndim != 1 or array.dtype != np.dtype(dtype):
            raise ValueError(f"no column {name} of {dtype}")
        if length is not None and len(array) != length:
            raise ValueError(f"a column {name} of another length")
        return array

    def is_there(self) -> bool:
        """Whether the file still stands in its place, so that another process can open it."""
        try:
            with open(self.place.path, "rb") as file:
                file.seek(-_DIGEST_BYTES, os.SEEK_END)
                return file.read() == self.place.digest
        except OSError:
            return False


def save(path: Path, kind: str, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file: whoever opens it, at whatever time, sees the old one or the new one.

    Args:
        path: in a folder that exists.
        kind: what it is, asked for again by `load`.
        about: plain values for JSON.
        arrays: bytes and whole numbers of four and eight bytes.

    Raises:
        OSError: when it cannot be written; nothing is left then.
    """
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    head = _head(kind, about, plain)
    descriptor, temporary = tempfile.mkstemp(UNFINISHED, f".{path.name}.", path.parent)
    try:
        with open(descriptor, "wb") as file:
            digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
            for block in (head, *(part for array in plain.values() for part in _padded(array))):
                digest.update(block)
                file.write(block)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def load(path: Path, kind: str) -> Stored | None:
    """Open and check a file; None for one that is missing, damaged or something else."""
    try:
        with open(path, "rb", buffering=0) as file:
            buffer = _contents(file)
            status = os.fstat(file.fileno())
        checked = memoryview(buffer)[:-_DIGEST_BYTES]
        if hashlib.blake2b(checked, digest_size=_DIGEST_BYTES).digest() != _digest(buffer):
            return None
        stored = _parsed(buffer, os.path.abspath(path), kind)
    except (OSError, *_INVALID):
        return None
    if time.time() - status.st_mtime > _TOUCHED_SECONDS:
        with contextlib.suppress(OSError):
            os.utime(path)  # used: others are deleted first
    return stored


def reopen(place: Place) -> Stored:
    """Open a file that another process has checked: its last bytes are compared, and no others.

    Raises:
        RuntimeError: when it is not the same file any more.
    """
    try:
        with open(place.path, "rb", buffering=0) as file:
            buffer = _contents(file)
        if _digest(buffer) != place.digest:
            raise ValueError("another file")
        return _parsed(buffer, place.path, place.kind)
    except (OSError, *_INVALID) as error:
        raise RuntimeError(
            f"{place.path} was changed or deleted while a worker started: start again"
        ) from error


def _head(kind: str, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """The letters, the header's length and the header, with spaces up to a multiple of 64."""
    described = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    header = json.dumps({"kind": kind, "about": about, "arrays": described}).encode("ascii")
    room = -(len(_MAGIC) + 8 + len(header)) % _ALIGNMENT
    header += b" " * room
    if len(header) > _MOST_HEADER_BYTES:
        raise OSError(f"a header of {len(header):,} bytes is too long to be kept")
    return _MAGIC + len(header).to_bytes(8, "little") + header


def _padded(array: np.ndarray) -> tuple[memoryview, bytes]:
    """An array's bytes, and zeros up to a multiple of 64."""
    return array.reshape(-1).view(np.uint8).data, bytes(-array.nbytes % _ALIGNMENT)


def _contents(file: io.FileIO) -> mmap.mmap:
    """The whole of an open file, in pages that forked processes share.

    Raises:
        OSError, ValueError: when it cannot be read, or is empty.
    """
    if not sys.platform.startswith("linux") or is_local(os.fsdecode(file.name)):
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    memory = mmap.mmap(-1, os.fstat(file.fileno()).st_size)
    done = 0
    while done < len(memory):
        more = file.readinto(memoryview(memory)[done:])
        if not more:
            raise ValueError("it ends early")
        done += more
    return memory


def _digest(buffer: mmap.mmap) -> bytes:
    return buffer[-_DIGEST_BYTES:]


def _parsed(buffer: mmap.mmap, path: str, kind: str) -> Stored:
    """The arrays in a file's bytes.

    Raises:
        ValueError, KeyError, TypeError, OverflowError, RecursionError: for what is no such file.
    """
    start = len(_MAGIC) + 8
    length = int.from_bytes(buffer[len(_MAGIC) : start], "little")
    if buffer[: len(_MAGIC)] != _MAGIC or length > min(_MOST_HEADER_BYTES, len(buffer)):
        raise ValueError("not a file of arrays")
    header = json.loads(buffer[start : start + length])
    if header["kind"] != kind or not isinstance(header["about"], dict):
        raise ValueError("a file of another kind")
    arrays, offset = {}, start + length
    for name, dtype, shape in header["arrays"]:
        arrays[name] = array = _array(buffer, offset, dtype, shape)
        offset += array.nbytes + -array.nbytes % _ALIGNMENT
    if offset + _DIGEST_BYTES != len(buffer):
        raise ValueError("a file of another length")
    place = Place(path, kind, _digest(buffer))
    return Stored(place, header["about"], arrays)


def _array(buffer: mmap.mmap, offset: int, dtype: str, shape: list[int]) -> np.ndarray:
    if dtype not in _DTYPES or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError("an array of another kind")
    count = 1
    for size in shape:
        count *= size
    if offset + count * np.dtype(dtype).itemsize > len(buffer) - _DIGEST_BYTES:
        raise ValueError("an array that ends outside")
    array = np.frombuffer(buffer, dtype, count, offset).reshape(shape)
    array.flags.writeable = False
    return array
