"""Look at all images of a data set before a run depends on them: which are bad.

A run that meets a broken image after two days is a run lost, and one that replaces it by another
learns a wrong label. So they are found first, in threads (decoding lets other threads run), named,
and left out only if the user says so.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Int64

from deit.data.classes import listed
from deit.data.dataset import DataSet, Selection, Source, count_images, read_size
from deit.data.images import BadImage
from deit.data.limits import OVER_LIMIT
from deit.data.threads import Progress, in_threads, ticker
from deit.errors import UserError


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
    tick = ticker(progress, len(dataset.train) + len(dataset.val))
    problems: list[BadImage] = []
    for source in dataset.splits().values():
        indices = np.arange(len(source), dtype=np.int64)
        found = in_threads(partial(probe, source), indices, threads, tick)
        problems += [problem for problem in found if problem is not None]
    return problems


def find_unreadable(
    source: Source, indices: Int64[np.ndarray, "chosen"], *, threads: int | None = None
) -> dict[int, BadImage]:
    """Those of some images that cannot be decoded, by their index, in the order given."""
    found = in_threads(partial(_decode_problem, source), indices, threads, lambda more: None)
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
            f"{advise(bad, 'mend or add images')}; `deit data check` names the bad ones",
        )
    gone = len(dataset.train) + len(dataset.val) - len(train) - len(val)
    note = f"{gone} images that cannot be used are left out: {listed(map(str, bad))}"
    return replace(dataset, train=train, val=val, notes=[*dataset.notes, note])


def advise(bad: Sequence[BadImage], mend: str) -> str:
    """What to do about bad images: ``mend``, and where a limit excludes them, raise that.

    >>> advise([BadImage("a.jpg", "90 x 90 pixels are more than 8,000")], "mend them")
    'raise the limit, data.max_pixels (--max-pixels in `deit data`), or make images smaller'
    """
    over = sum(OVER_LIMIT in problem.reason for problem in bad)
    limit = "raise the limit, data.max_pixels (--max-pixels in `deit data`), or make images smaller"
    if over == 0:
        return mend
    return limit if over == len(bad) else f"{mend}; for the {over} above the limit: {limit}"


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


def _alone(problem: BadImage) -> BadImage:
    """The same without its traceback, in which the whole file would be kept."""
    return BadImage(problem.name, problem.reason)


def _without(source: Source, names: frozenset[str]) -> Source:
    kept = [index for index, name in enumerate(source.names) if name not in names]
    if len(kept) == len(source):
        return source
    return Selection(source, np.array(kept, dtype=np.int64))
