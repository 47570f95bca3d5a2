"""The names of images: kept compactly, printed safely, and hashed stably.

A name is a path with ``/`` between its parts, relative to the data it belongs to. Bytes that are no
UTF-8 survive as Python keeps them (surrogate escapes), so that a name always opens its file again;
`printable` is for people.
"""

import hashlib
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from deit.data.array_file import Place, Stored, reopen

_CHUNK = 2**14
_PIECE = 2**20

_OUTSIDE = (b"\0../", b"\0..\0", b"/../", b"/..\0")


class Origin(NamedTuple):
    """Where names came from that were read from a file: its arrays, and the first of them there."""

    stored: Stored
    first: int


class Names(Sequence[str]):
    """An immutable list of names in three arrays, whatever their number.

    A million Python strings cost a second to pickle and are copied page by page into every forked
    loader worker; one block of bytes with offsets is neither. Names that were read from a file of
    arrays travel to other processes as the place of that file, which is mapped again there.

    >>> names = Names.of(["cat/1.jpg", "dog/7.jpg"])
    >>> names[1], list(names.take(np.array([1, 0])))
    ('dog/7.jpg', ['dog/7.jpg', 'cat/1.jpg'])
    """

    def __init__(
        self,
        text: UInt8[np.ndarray, "bytes"],
        starts: Int64[np.ndarray, "names"],
        stops: Int64[np.ndarray, "names"],
        origin: Origin | None = None,
    ) -> None:
        self._text = text  # names with a zero between them
        self._starts = starts
        self._stops = stops
        self.origin = origin

    @classmethod
    def of(cls, names: Iterable[str]) -> "Names":
        """Pack any names; those that are packed already are returned as they are."""
        if isinstance(names, Names):
            return names
        listed = list(names)
        return cls.split(os.fsencode("\0".join(listed)), len(listed))  # no path holds a zero

    @classmethod
    def split(cls, text: bytes, count: int) -> "Names":
        """The names in a block of bytes, with a zero between each two.

        Args:
            text: the block.
            count: how many there are: an empty block may be one name or none.
        """
        block = np.frombuffer(text, dtype=np.uint8)
        if not count:
            return cls(block[:0], np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        zeros = np.flatnonzero(block == 0).astype(np.int64)
        return cls(block, np.append(0, zeros + 1), np.append(zeros, len(text)))

    @classmethod
    def stored(cls, stored: Stored) -> "Names":
        """The names in a file, whose arrays are those of `arrays`.

        Raises:
            ValueError: when they are no list of paths that all stay below a folder.
        """
        names = cls._from(stored)
        if not names._is_whole() or names._leads_outside():
            raise ValueError("not a list of names")
        return names

    @classmethod
    def _from(cls, stored: Stored) -> "Names":
        starts = stored.column("starts", "<i8")
        stops = stored.column("stops", "<i8", len(starts))
        return cls(stored.column("text", "|u1"), starts, stops, Origin(stored, 0))

    @classmethod
    def joined(cls, parts: Iterable["Names"]) -> "Names":
        """One list of several; without a copy where they are neighbours in one file."""
        filled = [part for part in parts if len(part)]
        whole = _neighbours(filled)
        if whole is not None:
            return whole
        text = b"\0".join(part.block() for part in filled)
        return cls.split(text, sum(map(len, filled)))

    def arrays(self) -> dict[str, np.ndarray]:
        """What `Names.stored` needs to have in a file."""
        packed = self if self._is_whole() else Names.split(self.block(), len(self))
        return {"text": packed._text, "starts": packed._starts, "stops": packed._stops}

    def take(self, indices: Int64[np.ndarray, "picked"]) -> "Names":
        """The names at ``indices``, in that order, sharing this list's bytes."""
        return Names(self._text, self._starts[indices], self._stops[indices])

    def block(self) -> bytes:
        """All names as bytes, with a zero between each two.

        Neighbours in the list that are neighbours in memory are copied at once.
        """
        if not len(self):
            return b""
        breaks = np.flatnonzero(self._starts[1:] != self._stops[:-1] + 1) + 1
        firsts = np.append(0, breaks)
        lasts = np.append(breaks, len(self)) - 1
        low, high = int(self._starts.min()), int(self._stops.max())
        used = int((self._stops - self._starts).sum())
        text = self._text[low:high].data
        near = text.tobytes() if high - low < 4 * used else text  # slices of bytes are faster
        runs = zip(
            (self._starts[firsts] - low).tolist(), (self._stops[lasts] - low).tolist(), strict=True
        )
        return b"\0".join([near[start:stop] for start, stop in runs])

    def encoded(self) -> Iterator[bytes]:
        """Each name as the bytes that it is in a path, one after another."""
        for block in self.blocks():
            yield from block.split(b"\0")

    def blocks(self) -> Iterator[bytes]:
        """`block` in parts of some thousand names, so that not all of it is in memory twice."""
        for first in range(0, len(self), _CHUNK):
            yield self[first : first + _CHUNK].block()

    def __iter__(self) -> Iterator[str]:
        for block in self.blocks():
            yield from os.fsdecode(block).split("\0")

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Names": ...
    def __getitem__(self, index: int | slice) -> "str | Names":
        if isinstance(index, slice):
            origin = self.origin
            if origin is not None:
                first, _, step = index.indices(len(self))
                origin = Origin(origin.stored, origin.first + first) if step == 1 else None
            return Names(self._text, self._starts[index], self._stops[index], origin)
        return os.fsdecode(self._text[self._starts[index] : self._stops[index]].tobytes())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Names):
            return NotImplemented
        same_length = len(self) == len(other)
        return same_length and all(map(operator.eq, self.blocks(), other.blocks()))

    def __reduce__(self) -> tuple[Any, ...]:
        if self.origin is not None and self.origin.stored.is_there():
            return _reopened, (self.origin.stored.place, self.origin.first, len(self))
        return Names.split, (self.block(), len(self))

    def is_stored_with(self, array: np.ndarray) -> bool:
        """Whether an array came from the file that the names did, so that `beside` gives it."""
        mine = () if self.origin is None else self.origin.stored.arrays.values()
        is_mine = any(np.may_share_memory(array, stored) for stored in mine)
        return is_mine and self.origin is not None and self.origin.stored.is_there()

    def beside(self, columns: Iterable[str]) -> dict[str, np.ndarray]:
        """What stands beside these names in the file that they came from."""
        if self.origin is None:
            raise ValueError("names that came from no file")
        stored, first = self.origin
        return {name: stored.arrays[name][first : first + len(self)] for name in columns}

    def __repr__(self) -> str:
        return f"Names({len(self)})"

    def _is_whole(self) -> bool:
        """Whether the block holds these names in their order and nothing else."""
        text, starts, stops = self._text, self._starts, self._stops
        if not len(self):
            return len(text) == 0
        return bool(
            starts[0] == 0
            and stops[-1] == len(text)
            and starts.min() >= 0
            and stops.max() <= len(text)
            and (starts <= stops).all()
            and (starts[1:] == stops[:-1] + 1).all()
            and not text[stops[:-1]].any()
            and np.count_nonzero(text) == len(text) - len(self) + 1
        )

    def _leads_outside(self) -> bool:
        """Whether a name is an absolute path or has ``..`` among its parts."""
        text = self._text
        if (text[self._starts[self._starts < len(text)]] == ord("/")).any():
            return True
        for first in range(0, len(text), _PIECE):
            is_dot = text[first : first + _PIECE + 1] == ord(".")
            if (is_dot[1:] & is_dot[:-1]).any():  # rare: then the slower look
                block = b"\0" + text.tobytes() + b"\0"
                return any(outside in block for outside in _OUTSIDE)
        return False


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
    encoded = names.encoded() if isinstance(names, Names) else map(os.fsencode, names)
    return stable_hash_of_bytes(encoded, purpose)


def stable_hash_of_bytes(names: Iterable[bytes], purpose: str) -> UInt64[np.ndarray, "names"]:
    """`stable_hash` of names that are bytes already."""
    person = purpose.encode("ascii")
    blake2b = hashlib.blake2b
    digests = [blake2b(name, digest_size=8, person=person).digest() for name in names]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _reopened(place: Place, first: int, count: int) -> Names:
    """Names in a file that another process has checked."""
    return Names._from(reopen(place))[first : first + count]


def _neighbours(parts: Sequence[Names]) -> Names | None:
    """The whole of parts that stand one after another in one file, if they do."""
    if not parts or (origin := parts[0].origin) is None:
        return None
    place = origin.first
    for part in parts:
        if part.origin is None or part.origin.stored is not origin.stored:
            return None
        if part.origin.first != place:
            return None
        place += len(part)
    return Names._from(origin.stored)[origin.first : place]


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
