"""What a data set is: two sources of labelled images over one class list.

A source gives its labels and names at once and its images one by one, by index. Sources can be
pickled, so that loader workers may be started by fork or spawn. Where they come from is in
`deit.data.sources`.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8

from deit.data import cache
from deit.data.classes import ClassList, listed
from deit.data.limits import MAX_PIXELS
from deit.data.names import Names, stable_hash_of_bytes
from deit.data.packing import Packed, pack_choice, unpack
from deit.errors import UserError

_CHOICE = "choice"


@runtime_checkable
class Source(Protocol):
    """Labelled images, read one at a time."""

    @property
    def classes(self) -> ClassList:
        """The class list that the labels index."""

    @property
    def labels(self) -> Int64[np.ndarray, "images"]:
        """The class of every image."""

    @property
    def names(self) -> Sequence[str]:
        """The name of every image, unique in the data set (``train/cat/1.jpg``)."""

    def __len__(self) -> int:
        """How many images there are."""

    def read(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels of one image, RGB.

        Raises:
            BadImage: when it cannot be decoded.
        """


@runtime_checkable
class SizedSource(Source, Protocol):
    """A source that knows an image's size without decoding it."""

    def read_size(self, index: int) -> tuple[int, int]:
        """Height and width of one image, from its header.

        Raises:
            BadImage: when the header shows that it cannot be used.
        """


@runtime_checkable
class LimitedSource(Source, Protocol):
    """A source that decodes image files, and none of more than so many pixels."""

    max_pixels: int


@dataclass(frozen=True, slots=True)
class DataSet:
    """Training and validation images over the class list of the training images.

    Attributes:
        train: what is learned from.
        val: what is measured on.
        notes: what was decided or left out while opening, one sentence each, for the user.
    """

    train: Source
    val: Source
    notes: Sequence[str] = ()

    @property
    def classes(self) -> ClassList:
        """The class list of both splits."""
        return self.train.classes

    def splits(self) -> dict[str, Source]:
        """Both sources by name."""
        return {"train": self.train, "val": self.val}


class ArraySource:
    """Images of one size held in memory.

    Args:
        images: grey ``[images, height, width]`` or RGB ``[images, height, width, 3]``, uint8.
        labels: the class of every image.
        classes: the class list that the labels index.
        names: the name of every image.

    Raises:
        UserError: when the numbers of images, labels and names differ, or a label is no class.

    >>> images = np.zeros((2, 8, 8), np.uint8)
    >>> source = ArraySource(images, np.array([0, 1]), ClassList(("a", "b")), ["0", "1"])
    >>> source.read(1).shape
    (8, 8, 3)
    """

    def __init__(
        self,
        images: UInt8[np.ndarray, "images height width *colour"],
        labels: Int64[np.ndarray, "labels"],
        classes: ClassList,
        names: Sequence[str],
    ) -> None:
        if not len(images) == len(labels) == len(names):
            raise UserError(
                f"{len(images)} images, {len(labels)} labels and {len(names)} names",
                "as many of each",
                "the data are incomplete: fetch or build them again",
            )
        strays = sorted({int(label) for label in labels[(labels < 0) | (labels >= len(classes))]})
        if strays:
            raise UserError(
                f"labels out of range: {listed(map(str, strays))}",
                f"0 to {len(classes) - 1}, for {len(classes)} classes",
                "correct the labels, or leave unlabelled images out",
            )
        self.images = images
        self.labels = labels
        self.classes = classes
        self.names = Names.of(names)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """One image; grey is repeated into three channels."""
        image = self.images[index]
        if image.ndim == 2:
            return np.repeat(image[:, :, None], 3, axis=2)
        return np.array(image)


class Selection:
    """Some images of another source, in the order given."""

    def __init__(self, source: Source, indices: Int64[np.ndarray, "picked"]) -> None:
        self._source = source
        self._indices = indices
        self.classes = source.classes

    @cached_property
    def labels(self) -> Int64[np.ndarray, "images"]:
        """The class of every image; found when asked for: a worker that reads images never does."""
        labels = self._source.labels
        return np.asarray(labels[self._indices], dtype=np.int64)

    @cached_property
    def names(self) -> Names:
        """The name of every image."""
        return Names.of(self._source.names).take(self._indices)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked_selection, (self._source, pack_choice(self._indices))

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels of one image, RGB."""
        return self._source.read(int(self._indices[index]))

    def read_size(self, index: int) -> tuple[int, int]:
        """Height and width of one image, from its header where the source behind can."""
        return read_size(self._source, int(self._indices[index]))

    def read_bytes(self, index: int) -> bytes | None:
        """The file of one image, where the source behind has files."""
        return read_bytes(self._source, int(self._indices[index]))


def pixel_limit(source: Source) -> int:
    """Above how many pixels a source refuses an image."""
    while isinstance(source, Selection):
        source = source._source
    return source.max_pixels if isinstance(source, LimitedSource) else MAX_PIXELS


def read_bytes(source: Source, index: int) -> bytes | None:
    """The undecoded file of one image; None where the source has no files.

    A source that has them, whatever they lie in, has a method of this name.

    Raises:
        BadImage: when it cannot be read.
    """
    # Asking a protocol takes longer than to read a small file.
    read: Callable[[int], bytes | None] | None = getattr(source, "read_bytes", None)
    return None if read is None else read(index)


def read_size(source: Source, index: int) -> tuple[int, int]:
    """Height and width of one image: from its header where the source can, else by reading it.

    Raises:
        BadImage: when that is not possible.
    """
    if isinstance(source, SizedSource):
        return source.read_size(index)
    height, width, _ = source.read(index).shape
    return height, width


def count_images(source: Source) -> Int64[np.ndarray, "classes"]:
    """How many images each class has."""
    return np.bincount(source.labels, minlength=len(source.classes)).astype(np.int64)


def set_aside(source: Source, one_in: int) -> tuple[Source, Source]:
    """Split off one image in ``one_in`` of every class, for validation.

    Chosen are those whose names hash lowest: the same images on every machine and in every run; an
    image that is added later moves at most one other per class. A class of two images or more gives
    up one at least, a class of one none.

    Returns:
        What remains and what is set aside, each in its old order.
    """
    counts = count_images(source)
    shares = np.where(counts < 2, 0, np.maximum(1, (counts + one_in // 2) // one_in))
    aside = _lowest_of_each_class(source, shares, "set aside")
    remains = np.ones(len(source), dtype=bool)
    remains[aside] = False
    return Selection(source, np.flatnonzero(remains)), Selection(source, aside)


def take_per_class(source: Source, images_per_class: int) -> Source:
    """The same number of images of every class, in their old order.

    Chosen by a stable hash of the name, so that 10 per class are among the 20 per class.

    Raises:
        UserError: naming the classes that have fewer.
    """
    counts = count_images(source)
    short = [
        f"{name} ({count})"
        for name, count in zip(source.classes.names, counts, strict=True)
        if count < images_per_class
    ]
    if short:
        raise UserError(
            f"data.images_per_class = {images_per_class}, but fewer training images in: "
            f"{listed(short)}",
            f"1 to {counts.min()} for this data",
            f"set --data.images_per_class {counts.min()} or less",
        )
    shares = np.full(len(counts), images_per_class, dtype=np.int64)
    return Selection(source, _lowest_of_each_class(source, shares, "per class"))


def _unpacked_selection(source: Source, packed: Packed) -> Selection:
    return Selection(source, unpack(packed))


def _lowest_of_each_class(
    source: Source, shares: Int64[np.ndarray, "classes"], purpose: str
) -> Int64[np.ndarray, "picked"]:
    """Indices, ascending, of the ``shares[class]`` images of every class that hash lowest.

    A function of what it is given; for many images the result is kept under a digest of that.
    """
    names, labels = Names.of(source.names), np.ascontiguousarray(source.labels)
    if len(names) < cache.LEAST_IMAGES:
        return _find_lowest(names, labels, source.classes, shares, purpose)
    digest = hashlib.blake2b(
        repr((purpose, len(names), source.classes.names)).encode("ascii", "backslashreplace")
    )
    digest.update(shares.data)
    digest.update(labels.data)
    for block in names.blocks():
        digest.update(block + b"\0")
    kept = cache.load(_CHOICE, digest.digest())
    chosen = None if kept is None else kept.arrays.get("chosen")
    if chosen is None or not _are_shares(chosen, labels, shares):
        chosen = _find_lowest(names, labels, source.classes, shares, purpose)
        cache.keep(_CHOICE, digest.digest(), {}, {"chosen": chosen})
    return chosen


def _are_shares(
    chosen: np.ndarray, labels: Int64[np.ndarray, "images"], shares: Int64[np.ndarray, "classes"]
) -> bool:
    """Whether these are indices, ascending, of so many images of each class."""
    if chosen.ndim != 1 or chosen.dtype != np.int64 or (chosen[1:] <= chosen[:-1]).any():
        return False
    if len(chosen) and (chosen[0] < 0 or chosen[-1] >= len(labels)):
        return False
    return np.array_equal(np.bincount(labels[chosen], minlength=len(shares)), shares)


def _find_lowest(
    names: Names,
    labels: Int64[np.ndarray, "images"],
    classes: ClassList,
    shares: Int64[np.ndarray, "classes"],
    purpose: str,
) -> Int64[np.ndarray, "picked"]:
    within_class = _within_classes(names, labels, classes)
    hashes = stable_hash_of_bytes(within_class, purpose)
    order = np.lexsort((hashes, labels))  # by class, then hash
    counts = np.bincount(labels, minlength=len(shares)).astype(np.int64)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[place < np.repeat(shares, counts)]).astype(np.int64)


def _within_classes(
    names: Names, labels: Int64[np.ndarray, "images"], classes: ClassList
) -> Iterator[bytes]:
    """The paths below the class's folder: no split and no class name changes the choice of images.

    >>> names = Names.of(["train/cat/paws/1.jpg", "cat/2.jpg", "00017"])
    >>> list(_within_classes(names, np.array([0, 0, 0]), ClassList(("cat",))))
    [b'paws/1.jpg', b'2.jpg', b'00017']
    """
    prefixes = [(_prefix(f"{name}/"), _prefix(f"train/{name}/")) for name in classes.names]
    for name, label in zip(names.encoded(), labels.tolist(), strict=True):
        for prefix in prefixes[label]:
            if name.startswith(prefix):
                yield name[len(prefix) :]
                break
        else:
            yield name


def _prefix(text: str) -> bytes:
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return b"\0"  # the beginning of no path
