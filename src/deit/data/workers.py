"""Processes that turn items into rows of bytes, in shared memory, in order, some items ahead.

The parent and its workers share one ring of slots, made once. A worker writes the rows of an item
straight into a slot and answers with a few bytes through a pipe of its own; nothing is made, opened
or mapped per item. Because every pipe has but one worker at its other end, the parent sees at once
that one is gone, and says so where the next rows are asked for, never in the middle of other work.

Workers end with their parent, however it ends, and leave nothing behind: the shared memory has no
name (fork), or loses it before anything is written (spawn).
"""

import contextlib
import mmap
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from deit.data.names import printable
from deit.data.worker_process import LOOK_SECONDS, NOTHING, Failure, Sized, Task, work
from deit.errors import UserError

MOST_AHEAD = 32
"""Items that may be ahead for each worker: what bounds shared memory, and what the pipe to a worker
holds (64 KiB; an item is about 1), so that handing out work never waits for a worker."""

PATIENCE_SECONDS = 60.0
"""How long the parent waits for rows without a word; see `_Pool.rows_of`."""

SHARED_FOLDER = "/dev/shm"
"""Where Linux keeps shared memory that has a name."""


class WorkerDied(RuntimeError):  # noqa: N818  (says what happened)
    """A loader worker ended without an answer, most often for want of memory."""


Item = TypeVar("Item", bound=Sized)


def num_slots(workers: int, items_ahead: int) -> int:
    """Slots of the ring: one that is being read, and those ahead of it.

    Args:
        workers: how many processes.
        items_ahead: how many items to be ahead; at least two per worker are, at most `MOST_AHEAD`.

    >>> num_slots(2, items_ahead=6), num_slots(4, items_ahead=1), num_slots(1, items_ahead=1000)
    (7, 9, 33)
    """
    return 1 + min(max(items_ahead, 2 * workers), MOST_AHEAD * workers)


def check_shared_memory(workers: int, num_bytes: int) -> None:
    """Raise where named shared memory is needed and its folder has too little room.

    Forked workers need none: their ring has no name and no folder, so that the 64 MB of /dev/shm in
    a container do not matter.

    Raises:
        UserError: with the bytes that are needed and those that are there.
    """
    if workers == 0 or start_method() == "fork" or not os.path.isdir(SHARED_FOLDER):
        return
    there = os.statvfs(SHARED_FOLDER)
    free = there.f_bavail * there.f_frsize
    if num_bytes > free:
        raise UserError(
            f"--workers {workers} need {num_bytes / 2**20:,.0f} MiB of shared memory, and "
            f"{SHARED_FOLDER} has {free / 2**20:,.0f} MiB left",
            "as much as the batches take that workers make ahead",
            "use fewer --workers or a smaller --batch-size, or give the container more: "
            "docker run --shm-size=8g",
        )


def start_method() -> str | None:
    """How workers come into being: by fork on Linux, elsewhere in the platform's own way.

    Measured on two cores with two workers, from the call to the first result: fork 0.03 s,
    forkserver 1.6 s, spawn 2 s, for both of these import torch in every worker. An evaluation after
    each epoch pays this each time, and scripts without a ``__main__`` guard run with fork only.
    What fork breaks in a process that has threads is the use of those threads by the child, in
    OpenMP regions and in CUDA. Workers use neither: they set torch to a single thread, on which its
    CPU kernels enter no parallel region.
    """
    return "fork" if sys.platform == "linux" else None


def run_in_order(
    task: Task[Item], items: Iterable[Item], workers: int, *, items_ahead: int, most_rows: int
) -> Generator[UInt8[np.ndarray, "rows ..."], None, None]:
    """The rows of every item, made by workers, in order. Closing the generator ends them.

    Args:
        task: what to do.
        items: drawn in this process, as far ahead as the workers are.
        workers: how many processes; with 0 this one does the work.
        items_ahead: see `num_slots`.
        most_rows: the length of the longest item.

    Yields:
        Rows that may be read until the next are asked for: they are overwritten then, but with no
        workers, where they are new ones.

    Raises:
        WorkerDied: when a worker was killed.
        Exception: whatever the task raises, with the worker's traceback as its cause.
    """
    if workers == 0:
        for item in items:
            rows = np.empty((len(item), *task.row_shape), dtype=np.uint8)
            task.fill(item, rows, _ignore)
            yield rows
        return
    pool = _Pool(task, workers, num_slots(workers, items_ahead), most_rows)
    with contextlib.closing(pool):
        yield from pool.rows_of(items)


@dataclass(slots=True, eq=False)
class _Order:
    """An item that was handed out: where its rows go, and what became of it."""

    slot: int
    num_rows: int
    worker: "_Worker"
    done: bool = False
    error: Failure | None = None


@dataclass(slots=True, eq=False)
class _Worker:
    """One process, the pipe to it, and what it has yet to answer, the oldest first."""

    number: int
    process: BaseProcess
    connection: "Connection[Any, Any]"
    orders: deque[_Order] = field(default_factory=deque)


class _Pool:
    """Workers and the ring that they share with this process."""

    def __init__(self, task: Task[Any], workers: int, slots: int, most_rows: int) -> None:
        self._names = task.names
        shape = (slots, most_rows, *task.row_shape)
        rows = _shared_tensor(workers, shape, torch.uint8)
        reading = _shared_tensor(workers, (workers,), torch.int64).fill_(NOTHING)
        self._rows = rows.numpy()
        self._reading = reading.numpy()
        self._workers: list[_Worker] = []
        try:
            for _ in range(workers):
                self._start(task, rows, reading)
        except OSError as error:
            self.close()
            raise UserError(
                f"--workers {workers}: process {len(self._workers) + 1} cannot be started: "
                f"{error.strerror}",
                "as many processes as the machine lets you start",
                "use fewer --workers",
            ) from error

    def rows_of(
        self, items: Iterable[Item]
    ) -> Generator[UInt8[np.ndarray, "rows ..."], None, None]:
        """See `run_in_order`.

        A worker that hangs, in a network drive that does not answer for example, is waited for: the
        drive may come back, and the run goes on. But it is said, with the image's name.
        """
        waiting: deque[_Order] = deque()
        free = list(range(len(self._rows)))
        upcoming = iter(items)
        while True:
            while free and (item := next(upcoming, None)) is not None:
                waiting.append(self._hand_out(item, free.pop()))
            if not waiting:
                return
            order = waiting.popleft()
            since = said = time.monotonic()
            while not order.done:
                self._take_answers()
                if not order.done and (now := time.monotonic()) - said >= PATIENCE_SECONDS:
                    self._complain(order.worker, now - since)
                    said = now
            if order.error is not None:
                raise order.error.exception()
            yield self._rows[order.slot, : order.num_rows]
            free.append(order.slot)

    def close(self) -> None:
        """End all workers, whatever they are doing, and wait until they are gone."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()  # there is nothing that they would have to put in order
        for worker in self._workers:
            worker.process.join(10)  # longer only for one whose drive does not answer
            if worker.process.exitcode is not None:
                worker.process.close()

    def _start(self, task: Task[Any], rows: Tensor, reading: Tensor) -> None:
        context: Any = multiprocessing.get_context(start_method())
        ours, theirs = context.Pipe()
        number = len(self._workers)
        process = context.Process(
            target=work,
            args=(number, task, rows, reading, theirs),
            name=f"deit loader worker {number}",
            daemon=True,
        )
        try:
            with warnings.catch_warnings():
                # Python 3.12 warns of fork() beside threads; see `start_method`.
                warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
                process.start()
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()  # so that the pipe ends when the worker does
        self._workers.append(_Worker(number, process, ours))

    def _hand_out(self, item: Sized, slot: int) -> _Order:
        """Give an item to the worker that has the least to do."""
        worker = min(self._workers, key=lambda worker: len(worker.orders))
        order = _Order(slot, len(item), worker)
        try:
            worker.connection.send((slot, item))
        except OSError as error:
            raise self._death(worker) from error
        worker.orders.append(order)
        return order

    def _take_answers(self) -> None:
        """Wait a while for workers to answer, and note what they say.

        A pipe ends with its worker, and at once; but a process that something else forked in the
        moment between may keep it open. So workers that say nothing are looked at, too.
        """
        ready = wait([worker.connection for worker in self._workers], LOOK_SECONDS)
        for worker in self._workers:
            if worker.connection in ready or not worker.process.is_alive():
                self._take_answer(worker)

    def _take_answer(self, worker: _Worker) -> None:
        try:
            if not worker.connection.poll():
                raise EOFError
            error = worker.connection.recv()
        except (EOFError, OSError) as ended:
            raise self._death(worker) from ended
        order = worker.orders.popleft()
        order.done, order.error = True, error

    def _complain(self, worker: _Worker, seconds: float) -> None:
        warnings.warn(
            f"no images for {seconds:.0f} s: loader worker {worker.process.pid} is still "
            f"{self._activity(worker)}. If its drive does not answer, interrupt the run",
            RuntimeWarning,
            stacklevel=2,
        )

    def _death(self, worker: _Worker) -> WorkerDied:
        """What to say of a worker whose pipe has ended."""
        worker.process.join(5)
        return WorkerDied(
            f"a loader worker died: process {worker.process.pid} {_end(worker.process.exitcode)} "
            f"while {self._activity(worker)}. Memory is the usual cause: try fewer --workers. If "
            "it is the same image every time, leave that out"
        )

    def _activity(self, worker: _Worker) -> str:
        index = int(self._reading[worker.number])
        return "waiting for work" if index == NOTHING else f"at {printable(self._names[index])}"


def _shared_tensor(workers: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory that this process and its workers see: without a name where workers are forked."""
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    if start_method() == "fork":
        return torch.frombuffer(mmap.mmap(-1, num_bytes), dtype=dtype).view(shape)
    check_shared_memory(workers, num_bytes)
    shared: Tensor = torch.empty(shape, dtype=dtype).share_memory_()  # type: ignore[no-untyped-call]
    return shared


def _end(exitcode: int | None) -> str:
    """How a process ended.

    >>> _end(-9), _end(3)
    ('was killed by SIGKILL', 'ended with code 3')
    """
    if exitcode is None:
        return "does not answer"
    if exitcode < 0:
        return f"was killed by {signal.Signals(-exitcode).name}"
    return f"ended with code {exitcode}"


def _ignore(_index: int) -> None:
    """Nobody has to be told what this process reads."""
