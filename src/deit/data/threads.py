"""Work on many images at once, in threads: decoding lets other threads run."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2
import numpy as np
from jaxtyping import Int64

Progress = Callable[[int, int], None]
"""Called with the number of images done and of all."""

_CHUNK = 32

Result = TypeVar("Result")


def in_threads(
    work: Callable[[int], Result],
    indices: Int64[np.ndarray, "indices"],
    threads: int | None,
    tick: Callable[[int], None],
) -> list[Result]:
    """The results for all indices, in order; ``tick`` is told how many more are done.

    An interruption, or an error in ``tick``, drops what has not begun.

    Args:
        work: is given an index.
        indices: the indices.
        threads: how many work at once; by default one per core.
        tick: called after every few images.
    """
    chunks = chunks_in_threads(lambda chunk: list(map(work, chunk)), indices, threads, tick)
    return [result for chunk in chunks for result in chunk]


def chunks_in_threads(
    work: Callable[[list[int]], Result],
    indices: Int64[np.ndarray, "indices"],
    threads: int | None,
    tick: Callable[[int], None],
) -> Iterator[Result]:
    """As `in_threads`, with one result for every few indices: millions need no object each."""
    chunks = [indices[start : start + _CHUNK].tolist() for start in range(0, len(indices), _CHUNK)]
    cv2.setNumThreads(0)  # one thread for each image is enough
    pool = ThreadPoolExecutor(threads or _cores())
    try:
        for chunk, result in zip(chunks, pool.map(work, chunks), strict=True):
            yield result
            tick(len(chunk))
    finally:
        pool.shutdown(cancel_futures=True)


def ticker(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Adds up how many more are done, for ``progress``."""
    done = 0

    def tick(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    return tick


def _cores() -> int:
    """As `deit.distributed.available_cores`, which brings torch and its seconds of import along."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
