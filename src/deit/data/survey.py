"""Read every image of a data set once, and keep of each a few numbers: what a check goes by.

An image costs 51 bytes here, whatever its size: hashes of its file, its pixels and its looks, its
size, and flags.
"""

import contextlib
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Int64, UInt8

from deit.data.classes import ClassList
from deit.data.dataset import Source, pixel_limit, read_bytes
from deit.data.duplicates import content_hash, layout_hash, slope_hash
from deit.data.findings import ImageRef
from deit.data.images import BadImage, open_header
from deit.data.threads import Progress, chunks_in_threads, ticker

FORMATS = ("", "JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""Formats by their number in `FACTS`; the first stands for images that are in no file."""

_SUFFIXES = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM"),
    **{".png": "PNG", ".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP"},
}


class Flag(enum.IntFlag):
    """What is to be said of an image."""

    UNUSABLE = 1
    TOO_LARGE = 2
    WRONG_SUFFIX = 4
    TRANSPARENT = 8
    TURNED = 16
    CMYK = 32
    ANIMATED = 64
    GREY = 128
    CONSTANT = 256


FACTS = np.dtype(
    [
        ("file", np.uint64),  # of the bytes of the file; of the pixels, where there is no file
        ("pixels", np.uint64),  # of size and pixels
        ("layout", np.uint64),
        ("slopes", np.uint64),
        ("bytes", np.int64),  # of the file; 0 where there is none
        ("height", np.int32),
        ("width", np.int32),
        ("flags", np.uint16),
        ("format", np.uint8),
    ]
)
"""A row for each image; what could not be read has zeros and the flag that says so."""


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """All images of a data set, the splits one after another.

    Attributes:
        sources: the splits by name.
        classes: every class name of any split, those of the first split first.
        facts: a row of `FACTS` for each image.
        splits: number of each image's split.
        labels: each image's place in ``classes``.
        reasons: why images cannot be used, by their row.
    """

    sources: Mapping[str, Source]
    classes: ClassList
    facts: np.ndarray
    splits: UInt8[np.ndarray, "images"]
    labels: Int64[np.ndarray, "images"]
    reasons: Mapping[int, str]

    def image(self, row: int) -> ImageRef:
        """Which image a row is of."""
        split = list(self.sources)[self.splits[row]]
        index = row - int(np.searchsorted(self.splits, self.splits[row]))
        return ImageRef(
            split, self.classes.names[self.labels[row]], self.sources[split].names[index]
        )

    def having(self, flag: Flag) -> Int64[np.ndarray, "rows"]:
        """The rows with a flag."""
        return np.flatnonzero(self.facts["flags"] & flag)

    def counts(self, split: str) -> Int64[np.ndarray, "classes"]:
        """How many images each of ``classes`` has in a split."""
        number = list(self.sources).index(split)
        return np.bincount(self.labels[self.splits == number], minlength=len(self.classes))


def survey(
    sources: Mapping[str, Source],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Survey:
    """Decode every image, as training would, and note what there is to say about it.

    Args:
        sources: splits by name, each over a class list of its own or all over one.
        threads: how many work at once; by default one per core.
        progress: told after every few images.
    """
    tick = ticker(progress, sum(map(len, sources.values())))
    facts = [np.zeros(0, FACTS)]
    reasons: dict[int, str] = {}
    done = 0
    for source in sources.values():
        indices = np.arange(len(source), dtype=np.int64)
        for rows, bad in chunks_in_threads(_Examine(source), indices, threads, tick):
            facts.append(rows)
            reasons |= {done + index: reason for index, reason in bad}
        done += len(source)
    names = dict.fromkeys(name for source in sources.values() for name in source.classes.names)
    classes = ClassList(tuple(names))
    labels = [
        classes.map_from(source.classes, complete=False)[source.labels]
        for source in sources.values()
    ]
    sizes = [len(source) for source in sources.values()]
    return Survey(
        sources,
        classes,
        np.concatenate(facts),
        np.repeat(np.arange(len(sizes), dtype=np.uint8), sizes),
        np.concatenate(labels).astype(np.int64),
        reasons,
    )


def expected_format(name: str) -> str:
    """The format that a file's ending promises; empty for an ending that promises none.

    >>> expected_format("train/cat/1.JPG"), expected_format("cat/0017")
    ('JPEG', '')
    """
    dot = name.rfind(".")
    return _SUFFIXES.get(name[dot:].lower(), "") if dot >= 0 else ""


class _Examine:
    """Rows of `FACTS` for some images of a source, and why those that are bad are so."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._max_pixels = pixel_limit(source)

    def __call__(self, indices: Sequence[int]) -> tuple[np.ndarray, list[tuple[int, str]]]:
        rows, bad = np.zeros(len(indices), FACTS), []
        for row, index in zip(rows, indices, strict=True):
            try:
                data = read_bytes(self._source, index)
                if data is not None:
                    _note_file(row, data, self._source.names[index], self._max_pixels)
                _note_pixels(row, self._source.read(index))
            except BadImage as problem:
                row["flags"] |= Flag.UNUSABLE
                bad.append((index, problem.reason))
        return rows, bad


def _note_file(row: np.void, data: bytes, name: str, max_pixels: int) -> None:
    """What the header shows."""
    row["file"], row["bytes"] = content_hash(data), len(data)
    image, orientation = open_header(data, name)
    row["width"], row["height"] = image.size if orientation < 5 else image.size[::-1]
    flags = Flag(0)
    if image.width * image.height > max_pixels:
        flags |= Flag.TOO_LARGE
    found = image.format or ""
    row["format"] = FORMATS.index(found) if found in FORMATS else 0
    if expected_format(name) not in ("", found):
        flags |= Flag.WRONG_SUFFIX
    if image.has_transparency_data:
        flags |= Flag.TRANSPARENT
    if orientation > 1:
        flags |= Flag.TURNED
    if image.mode == "CMYK":
        flags |= Flag.CMYK
    with contextlib.suppress(OSError, EOFError, ValueError, SyntaxError):  # decoding will say it
        if getattr(image, "n_frames", 1) > 1:
            flags |= Flag.ANIMATED
    row["flags"] = flags


def _note_pixels(row: np.void, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
    """What a look at the whole picture shows."""
    height, width, _ = pixels.shape
    flat = np.ascontiguousarray(pixels)
    row["height"], row["width"] = height, width
    row["pixels"] = content_hash(flat.data, f"{height} x {width}")
    if not row["file"]:
        row["file"] = row["pixels"]
    small = cv2.resize(flat, (32, 32), interpolation=cv2.INTER_AREA)
    if (small == small[0, 0]).all() and (flat == flat[0, 0]).all():
        row["flags"] |= Flag.CONSTANT
    if _is_grey(small) and _is_grey(flat):
        row["flags"] |= Flag.GREY
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    row["layout"] = layout_hash(grey)
    row["slopes"] = slope_hash(cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA))


def _is_grey(pixels: UInt8[np.ndarray, "height width 3"]) -> bool:
    red, green, blue = (pixels[:, :, channel] for channel in range(3))
    return bool((red == green).all() and (green == blue).all())
