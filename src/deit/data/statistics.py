"""What the images of a data set are like: how many, how large, in which formats, how bright."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64, Int64, UInt8

from deit.data.dataset import DataSet, Source, count_images, read_bytes
from deit.data.images import BadImage, open_header
from deit.data.names import stable_hash
from deit.data.threads import Progress, chunks_in_threads, ticker

BINS = 24
"""Columns of a histogram of sizes."""

Rows = list[tuple[int, int, int, str]]
"""Height, width, bytes of the file (0 without one) and format of each image."""


def describe(
    dataset: DataSet,
    *,
    sample: int | None = 2000,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What a data set is like, as plain values for `json`.

    Counts are of all images. All else is of a sample, chosen by a stable hash of the names, whose
    number is given as ``measured``. Channel means, deviations and histograms are on a scale of 0 to
    1; every image weighs the same, whatever its size, as it does once it is resized.

    Args:
        dataset: what to describe.
        sample: how many images of each split to measure; None for all.
        threads: how many work at once; by default one per core.
        progress: told after every few images.
    """
    samples = {name: pick(source, sample) for name, source in dataset.splits().items()}
    tick = ticker(progress, sum(map(len, samples.values())))
    described: dict[str, Any] = {
        "classes": list(dataset.classes.names),
        "notes": list(dataset.notes),
    }
    for name, source in dataset.splits().items():
        measured = _Measured()
        measure = _Measure(source)
        for chunk in chunks_in_threads(measure, samples[name], threads, tick):
            measured.add(chunk)
        described[name] = _describe_split(source, measured)
    return described


def pick(source: Source, size: int | None) -> Int64[np.ndarray, "sampled"]:
    """Indices, ascending, of the images to measure: the same ones in every run."""
    if size is None or size >= len(source):
        return np.arange(len(source), dtype=np.int64)
    order = np.argsort(stable_hash(source.names, "sample"), kind="stable")
    return np.sort(order[:size]).astype(np.int64)


@dataclass(slots=True)
class _Measured:
    """Sums over images, in their order.

    Attributes:
        rows: sizes and formats.
        levels: the sum over images of the share of their pixels at each level of each channel.
        bad: images that cannot be used.
    """

    rows: Rows = field(default_factory=list)
    levels: Float64[np.ndarray, "3 256"] = field(default_factory=lambda: np.zeros((3, 256)))
    bad: list[BadImage] = field(default_factory=list)

    def add(self, more: "_Measured") -> None:
        self.rows += more.rows
        self.levels += more.levels
        self.bad += more.bad


@dataclass(frozen=True, slots=True)
class _Measure:
    """Measures some images of a source."""

    source: Source

    def __call__(self, indices: Sequence[int]) -> _Measured:
        measured = _Measured()
        for index in indices:
            try:
                image = self.source.read(index)
                name = self.source.names[index]
                data = read_bytes(self.source, index)
                kind = "" if data is None else open_header(data, name)[0].format or ""
            except BadImage as problem:
                # without its traceback, in which the whole file would be kept
                measured.bad.append(BadImage(problem.name, problem.reason))
                continue
            height, width, _ = image.shape
            measured.rows.append((height, width, len(data or b""), kind))
            measured.levels += _level_shares(image)
        return measured


def _level_shares(image: UInt8[np.ndarray, "height width 3"]) -> Float64[np.ndarray, "3 256"]:
    image = np.ascontiguousarray(image)
    counts = [cv2.calcHist([image], [place], None, [256], [0, 256]).ravel() for place in range(3)]
    shares = np.stack(counts).astype(np.float64) / (image.shape[0] * image.shape[1])
    return np.asarray(shares)


def _describe_split(source: Source, measured: _Measured) -> dict[str, Any]:
    counts = count_images(source)
    described: dict[str, Any] = {
        "images": len(source),
        "per_class": dict(zip(source.classes.names, counts.tolist(), strict=True)),
        "measured": len(measured.rows),
        "bad": [{"name": problem.name, "reason": problem.reason} for problem in measured.bad],
    }
    if not measured.rows:
        return described
    heights, widths, sizes, kinds = (list(column) for column in zip(*measured.rows, strict=True))
    shares = measured.levels / len(measured.rows)
    levels = np.arange(256) / 255
    mean = shares @ levels
    described |= {
        "height": _spread(heights),
        "width": _spread(widths),
        "shorter_side": _histogram(np.minimum(heights, widths)),
        "aspect": _spread(np.divide(widths, heights).round(4).tolist()),
        "formats": dict(Counter(sorted(kind for kind in kinds if kind))),
        "mean": mean.tolist(),
        "std": np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0)).tolist(),
        "levels": {name: row.round(6).tolist() for name, row in zip("RGB", shares, strict=True)},
    }
    files = [size for size in sizes if size]
    if files:
        described["bytes"] = _spread(files) | {
            "measured": sum(files),
            "all": round(sum(files) / len(files) * len(source)),  # estimated from the sample
        }
    return described


def _spread(values: Sequence[float]) -> dict[str, float]:
    """The least, the quartiles, the greatest."""
    first, median, third = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"min": min(values), "q1": first, "median": median, "q3": third, "max": max(values)}


def _histogram(values: Int64[np.ndarray, "images"]) -> dict[str, list[int]]:
    """Counts between edges that are whole numbers; the last bin holds its right edge too."""
    low, high = int(values.min()), int(values.max())
    width = max(1, -(-(high - low) // BINS))
    edges = np.arange(low, max(high, low + 1) + width, width)
    counts, _ = np.histogram(values, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}
