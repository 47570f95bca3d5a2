"""The names of images: kept compactly, printed safely, and hashed stably.

A name is a path with ``/`` between its parts, relative to the data it belongs to. Bytes that are no
UTF-8 survive as Python keeps them (surrogate escapes), so that a name always opens its file again;
`printable` is for people.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from jaxtyping import Int64, UInt64


class Names(Sequence[str]):
    """An immutable list of names in three arrays, whatever their number.

    A million Python strings cost a second to pickle and are copied page by page into every forked
    loader worker; one block of bytes with offsets is neither.

    >>> names = Names.of(["cat/1.jpg", "dog/7.jpg"])
    >>> names[1], list(names.take(np.array([1, 0])))
    ('dog/7.jpg', ['dog/7.jpg', 'cat/1.jpg'])
    """

    def __init__(
        self, text: bytes, starts: Int64[np.ndarray, "names"], stops: Int64[np.ndarray, "names"]
    ) -> None:
        self._text = text
        self._starts = starts
        self._stops = stops

    @classmethod
    def of(cls, names: Iterable[str]) -> "Names":
        """Pack any names; those that are packed already are returned as they are."""
        if isinstance(names, Names):
            return names
        joined = os.fsencode("\0".join(listed := list(names)))  # no path holds a zero
        if not listed:
            return cls(b"", np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        zeros = np.flatnonzero(np.frombuffer(joined, dtype=np.uint8) == 0).astype(np.int64)
        return cls(joined, np.append(0, zeros + 1), np.append(zeros, len(joined)))

    def take(self, indices: Int64[np.ndarray, "picked"]) -> "Names":
        """The names at ``indices``, in that order, sharing this list's bytes."""
        return Names(self._text, self._starts[indices], self._stops[indices])

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Names": ...
    def __getitem__(self, index: int | slice) -> "str | Names":
        if isinstance(index, slice):
            return Names(self._text, self._starts[index], self._stops[index])
        return os.fsdecode(self._text[self._starts[index] : self._stops[index]])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Names):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __repr__(self) -> str:
        return f"Names({len(self)})"


def printable(text: str) -> str:
    r"""``text`` with everything escaped that a terminal, a log or UTF-8 cannot take.

    >>> printable("caf\udce9/line\nbreak.jpg")
    'caf\\xe9/line\\nbreak.jpg'
    """
    return "".join(
        character if character.isprintable() else _escape(character) for character in text
    )


def stable_hash(names: Iterable[str], purpose: str) -> UInt64[np.ndarray, "names"]:
    """64 bits of BLAKE2b for each name: a pure function of its bytes and of ``purpose``.

    Args:
        names: what to hash.
        purpose: up to 16 letters that keep independent uses apart (a split, a subset).
    """
    person = purpose.encode("ascii")
    digests = [
        hashlib.blake2b(os.fsencode(name), digest_size=8, person=person).digest() for name in names
    ]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
