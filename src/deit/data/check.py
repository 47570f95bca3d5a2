"""Look at all images of a data set before a run depends on them: which are bad, what are they like.

A run that meets a broken image after two days is a run lost, and one that replaces it by another
learns a wrong label. So they are found first, in threads (decoding lets other threads run), named,
and left out only if the user says so.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float64, Int64

from deit.data.classes import listed
from deit.data.dataset import DataSet, Selection, Source, count_images, read_size
from deit.data.images import BadImage
from deit.data.names import stable_hash
from deit.distributed import available_cores
from deit.errors import UserError

Progress = Callable[[int, int], None]
"""Called with the number of images done and of all."""

_CHUNK = 32

Result = TypeVar("Result")


def check_images(
    dataset: DataSet,
    *,
    how: Literal["decode", "header"] = "decode",
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[BadImage]:
    """Every image of both splits that cannot be used, training images first, in their order.

    Args:
        dataset: what to check.
        how: ``decode`` finds everything that would stop a run; ``header`` reads no more of a file
            than its header and finds missing, empty, foreign and oversized ones.
        threads: how many work at once; by default one per core.
        progress: told after every few images.
    """
    probe = _decode_problem if how == "decode" else _header_problem
    tick = _ticker(progress, len(dataset.train) + len(dataset.val))
    problems: list[BadImage] = []
    for source in dataset.splits().values():
        indices = np.arange(len(source), dtype=np.int64)
        found = _in_threads(partial(probe, source), indices, threads, tick)
        problems += [problem for problem in found if problem is not None]
    return problems


def find_unreadable(
    source: Source, indices: Int64[np.ndarray, "chosen"], *, threads: int | None = None
) -> dict[int, BadImage]:
    """Those of some images that cannot be decoded, by their index, in the order given."""
    found = _in_threads(partial(_decode_problem, source), indices, threads, lambda more: None)
    pairs = zip(indices.tolist(), found, strict=True)
    return {index: problem for index, problem in pairs if problem is not None}


def leave_out(dataset: DataSet, bad: Sequence[BadImage]) -> DataSet:
    """The data set without these images, which its notes name; none is replaced by another.

    Raises:
        UserError: when a class would have no training image left, or nothing to measure on remains.
    """
    if not bad:
        return dataset
    names = frozenset(problem.name for problem in bad)
    train, val = (_without(source, names) for source in (dataset.train, dataset.val))
    counts = count_images(train)
    bare = [name for name, count in zip(train.classes.names, counts, strict=True) if count == 0]
    if bare or len(val) == 0:
        raise UserError(
            f"no usable image is left for {listed(bare) if bare else 'validation'}",
            "one training image or more for every class, and validation images",
            "mend or add images; `deit data check` names the bad ones",
        )
    gone = len(dataset.train) + len(dataset.val) - len(train) - len(val)
    note = f"{gone} images that cannot be used are left out: {listed(map(str, bad))}"
    return replace(dataset, train=train, val=val, notes=[*dataset.notes, note])


def describe(
    dataset: DataSet,
    *,
    sample: int | None = 2000,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What a data set is like, as plain values for `json`.

    Counts are of all images. Sizes, means and standard deviations are of a sample, chosen by a
    stable hash of the names, whose number is given as ``measured``. Channel means and deviations
    are on a scale of 0 to 1; every image weighs the same, whatever its size, as it does once it is
    resized.

    Args:
        dataset: what to describe.
        sample: how many images of each split to measure; None for all.
        threads, progress: as in `check_images`.
    """
    samples = {name: _sample(source, sample) for name, source in dataset.splits().items()}
    tick = _ticker(progress, sum(map(len, samples.values())))
    described: dict[str, Any] = {
        "classes": list(dataset.classes.names),
        "notes": list(dataset.notes),
    }
    for name, source in dataset.splits().items():
        measures = _in_threads(partial(_measure, source), samples[name], threads, tick)
        described[name] = _describe_split(source, measures)
    return described


_Measure = tuple[int, int, Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]
"""Height, width, and each channel's mean and mean square."""


def _decode_problem(source: Source, index: int) -> BadImage | None:
    try:
        source.read(index)
    except BadImage as problem:
        return _alone(problem)
    return None


def _header_problem(source: Source, index: int) -> BadImage | None:
    try:
        read_size(source, index)
    except BadImage as problem:
        return _alone(problem)
    return None


def _measure(source: Source, index: int) -> _Measure | BadImage:
    try:
        image = source.read(index)
    except BadImage as problem:
        return _alone(problem)
    height, width, _ = image.shape
    histograms = np.stack([np.bincount(image[:, :, c].ravel(), minlength=256) for c in range(3)])
    shares = histograms / (height * width)  # [channels, levels]
    levels = np.arange(256) / 255
    return height, width, shares @ levels, shares @ levels**2


def _alone(problem: BadImage) -> BadImage:
    """The same without its traceback, in which the whole file would be kept."""
    return BadImage(problem.name, problem.reason)


def _describe_split(source: Source, measures: Sequence["_Measure | BadImage"]) -> dict[str, Any]:
    counts = count_images(source)
    good = [measure for measure in measures if not isinstance(measure, BadImage)]
    bad = [measure for measure in measures if isinstance(measure, BadImage)]
    described: dict[str, Any] = {
        "images": len(source),
        "per_class": dict(zip(source.classes.names, counts.tolist(), strict=True)),
        "measured": len(good),
        "bad": [{"name": problem.name, "reason": problem.reason} for problem in bad],
    }
    if good:
        heights, widths, means, squares = (np.array(column) for column in zip(*good, strict=True))
        mean = means.mean(0)
        described |= {
            "height": _spread(heights),
            "width": _spread(widths),
            "mean": mean.tolist(),
            "std": np.sqrt(np.maximum(squares.mean(0) - mean**2, 0)).tolist(),
        }
    return described


def _spread(values: Int64[np.ndarray, "images"]) -> dict[str, float]:
    return {
        "min": int(values.min()),
        "median": float(np.median(values)),
        "max": int(values.max()),
    }


def _sample(source: Source, size: int | None) -> Int64[np.ndarray, "sampled"]:
    """Indices, ascending, of the images to measure."""
    if size is None or size >= len(source):
        return np.arange(len(source), dtype=np.int64)
    order = np.argsort(stable_hash(source.names, "sample"), kind="stable")
    return np.sort(order[:size]).astype(np.int64)


def _without(source: Source, names: frozenset[str]) -> Source:
    kept = [index for index, name in enumerate(source.names) if name not in names]
    if len(kept) == len(source):
        return source
    return Selection(source, np.array(kept, dtype=np.int64))


def _in_threads(
    work: Callable[[int], Result],
    indices: Int64[np.ndarray, "indices"],
    threads: int | None,
    tick: Callable[[int], None],
) -> list[Result]:
    """The results for all indices, in order; ``tick`` is told how many more are done.

    An interruption, or an error in ``tick``, drops what has not begun.
    """
    chunks = [indices[start : start + _CHUNK].tolist() for start in range(0, len(indices), _CHUNK)]
    pool = ThreadPoolExecutor(threads or available_cores())
    results: list[Result] = []
    try:
        for chunk in pool.map(lambda chunk: [work(index) for index in chunk], chunks):
            results += chunk
            tick(len(chunk))
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def _ticker(progress: Progress | None, total: int) -> Callable[[int], None]:
    done = 0

    def tick(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    return tick
