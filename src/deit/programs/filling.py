"""Ask a teacher about the views of single steps, in this process or in several."""

import contextlib
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deit.data.images import BadImage
from deit.data.sources import DataSet
from deit.distillation.label_store import LabelStore
from deit.distillation.teacher import Teacher
from deit.errors import RunError, UserError
from deit.programs.labels import build_answers, require_same_teacher
from deit.programs.prepare import load_teacher
from deit.programs.step import build_loader, finish_views
from deit.recipes.recipe import Recipe
from deit.run import machine
from deit.run.interrupt import listen_for_stop
from deit.run.progress import Monitor, clock

_LOOK_SECONDS = 0.5  # between two looks at what other processes have done
_FLUSH_SECONDS = 20.0  # what a power loss may cost of each process's work


class Filler:
    """Asks the teacher about the views of single steps and stores what it says."""

    def __init__(
        self, recipe: Recipe, data: DataSet, teacher: Teacher, stores: Sequence[LabelStore]
    ) -> None:
        self.recipe = recipe
        self.device = machine.resolve_device(recipe.run.device)
        self.answers = build_answers(recipe, teacher, stores)
        self.loader = build_loader(recipe, data, self.device)

    def fill(self, steps: Sequence[int]) -> Iterator[int]:
        """Fill step by step; gives the number of steps that are done."""
        done, flushed = 0, time.monotonic()
        for first, last in contiguous(steps):
            for host in self.loader.batches(first, last):
                self.answers.record(finish_views(self.recipe, host, self.device))
                done += 1
                if time.monotonic() - flushed > _FLUSH_SECONDS:
                    self.answers.flush()
                    flushed = time.monotonic()
                yield done
        self.answers.flush()


def contiguous(steps: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending steps as ranges, each with the step after its last one.

    >>> list(contiguous([3, 4, 5, 9]))
    [(3, 6), (9, 10)]
    """
    first = 0
    for place in range(1, len(steps) + 1):
        if place == len(steps) or steps[place] != steps[place - 1] + 1:
            yield steps[first], steps[place - 1] + 1
            first = place


def fill_here(filler: Filler, steps: Sequence[int], monitor: Monitor) -> None:
    """Fill the steps in this process, until they are done or a signal asks to stop."""
    size, began = filler.recipe.batch_size, time.perf_counter()
    with listen_for_stop() as stop, monitor.steps(0, len(steps), "label"):
        for done in filler.fill(steps):
            monitor.step(done, _pace(done, len(steps), size, began))
            if stop:
                break
    filler.answers.flush()


def fill_in_processes(
    recipe: Recipe,
    data: DataSet,
    store: LabelStore,
    steps: Sequence[int],
    processes: int,
    monitor: Monitor,
) -> None:
    """Contiguous shares of the steps, a process each.

    Signals, which reach every process of a terminal or a job, are this process's business: the
    others are born ignoring them, and are told to stop.

    Raises:
        RunError: when a process failed; what it stored before stays.
    """
    shares = [share.tolist() for share in np.array_split(np.array(steps), processes)]
    context = multiprocessing.get_context("spawn")
    counts, stopping = context.Array("q", processes), context.Event()
    failures = context.SimpleQueue()
    began = time.perf_counter()
    with _ignored_signals():
        workers = [
            context.Process(
                target=_fill_share,
                args=(recipe, data, store.path, store.length, share, n, counts, stopping, failures),
            )
            for n, share in enumerate(shares)
        ]
        for worker in workers:
            worker.start()
    with listen_for_stop() as stop, monitor.steps(0, len(steps), "label"):
        while any(worker.is_alive() for worker in workers):
            time.sleep(_LOOK_SECONDS)
            if stop or any(worker.exitcode for worker in workers):
                stopping.set()
            done = sum(counts[:])
            monitor.step(done, _pace(done, len(steps), recipe.batch_size, began))
    failed = [worker for worker in workers if worker.exitcode]
    if failed:
        reason = failures.get() if not failures.empty() else f"exit code {failed[0].exitcode}"
        raise RunError(f"a labelling process failed: {reason}")


@contextlib.contextmanager
def _ignored_signals() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM, which processes that are started meanwhile inherit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def _fill_share(
    recipe: Recipe,
    data: DataSet,
    path: Path,
    length: int,
    steps: Sequence[int],
    number: int,
    counts: Any,
    stopping: Any,
    failures: Any,
) -> None:
    """The work of one process, with a teacher of its own; it ends with the one that started it."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    try:
        teacher = load_teacher(recipe, data, machine.resolve_device(recipe.run.device))
        assert teacher is not None
        store = LabelStore.open(path, length)
        require_same_teacher(store, teacher)
        filler = Filler(recipe, data, teacher, [store])
        for done in filler.fill(steps):
            counts[number] = done
            if stopping.is_set() or (parent is not None and not parent.is_alive()):
                break
        filler.answers.flush()
    except (UserError, RunError, BadImage) as error:
        failures.put(str(error))
        sys.exit(1)


def _pace(done: int, total: int, batch_size: int, began: float) -> str:
    seconds = max(time.perf_counter() - began, 1e-9)
    left = (total - done) * seconds / max(done, 1)
    return f"{done}/{total} steps {done * batch_size / seconds:.0f} img/s left {clock(left)}"
