"""Fill a label store ahead of training: `deit label`.

The work is the list of steps that a run would take and whose labels are missing, shared among
processes. Each writes into the one store; whatever ends them, the same command goes on.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deit.data import order
from deit.data.sources import DataSet
from deit.distillation.answers import require_rows
from deit.distillation.label_rows import RowFormat
from deit.distillation.label_store import LabelStore
from deit.distillation.teacher import Teacher
from deit.distributed import available_cores
from deit.errors import RunError, UserError
from deit.measuring.gate import Examination
from deit.programs.filling import Filler, fill_here, fill_in_processes
from deit.programs.labels import epoch_length, epochs_of_views, open_or_create
from deit.programs.prepare import check_data, examine_teacher, load_teacher, open_data, resolve
from deit.programs.step import finish_views
from deit.recipes.recipe import Recipe
from deit.run import machine
from deit.run.progress import Monitor, clock

_TRIAL_STEPS = 3  # steps that are taken, and kept, before the time is estimated


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a store holds after `record_labels`.

    Attributes:
        path: the store.
        views: labels that it holds of the epochs that were asked for.
        missing: labels that are still to be filled, after an interruption.
        asked: views that the teacher was asked about now.
        seconds: how long that took, all processes at work.
        num_bytes: size of the store.
        examination: what the gate measured of the teacher.
    """

    path: Path
    views: int
    missing: int
    asked: int
    seconds: float
    num_bytes: int
    examination: dict[str, Any]

    def __str__(self) -> str:
        pace = f", {self.asked / self.seconds:.0f} a second" if self.asked else ""
        return (
            f"{self.path}: {self.views:,} labels in {self.num_bytes / 1e6:.2f} MB; "
            f"{self.asked:,} asked for now in {clock(self.seconds)}{pace}"
        )

    def to_json(self) -> dict[str, Any]:
        """The figures."""
        return {
            "views": self.views,
            "missing": self.missing,
            "asked": self.asked,
            "seconds": self.seconds,
            "bytes": self.num_bytes,
            "bytes_per_view": self.num_bytes / max(self.views, 1),
            "teacher": self.examination,
        }


def record_labels(
    recipe: Recipe,
    out: Path | str,
    *,
    top_k: int | None = None,
    confidence: bool | None = None,
    data: DataSet | None = None,
    teacher: Teacher | None = None,
    processes: int = 1,
    monitor: Monitor | None = None,
) -> Recorded:
    """Ask the teacher about every view that a run of the recipe would show, and store its answers.

    What is stored already is left as it is. The gate examines the teacher first.

    Args:
        recipe: of the run that the labels are for; its distillation names the teacher.
        out: the store's folder, new or begun.
        top_k, confidence: what a new store keeps beside the decision, see `RowFormat`.
        data, teacher: already opened and loaded; with several processes each loads its own teacher.
        processes: how many to share the work among.
        monitor: where progress is shown.

    Raises:
        UserError: whatever `train` would refuse before its first step, and a store of other labels.
    """
    monitor = monitor or Monitor(None)
    out = Path(out)
    _look_at_store(out, recipe, top_k)
    prepared = _prepare(recipe, data, teacher, monitor)
    recipe, data, teacher = prepared.recipe, prepared.data, prepared.teacher
    device = machine.resolve_device(recipe.run.device)
    store = open_or_create(
        out,
        recipe,
        data,
        teacher,
        prepared.examined,
        device,
        top_k=top_k,
        confidence=confidence,
    )
    began = time.perf_counter()
    steps = missing_steps(store, recipe, data)
    monitor.say(_describe(store.header.rows, store.length, recipe))
    filler = Filler(recipe, data, teacher, [store])
    trial, rest = steps[:_TRIAL_STEPS], steps[_TRIAL_STEPS:]
    with _as_many_threads(processes):
        seconds = [time.perf_counter() for _ in filler.fill(trial)]
    if rest:
        monitor.say(_estimate(len(steps), seconds[-1] - seconds[-2], recipe, processes))
        if processes == 1:
            fill_here(filler, rest, monitor)
        else:
            fill_in_processes(recipe, data, store, rest, processes, monitor)
    left = len(missing_steps(LabelStore.open(store.path, store.length), recipe, data))
    held = store.length * len(epochs_of_views(recipe))
    return Recorded(
        path=store.path,
        views=held - left * recipe.batch_size,
        missing=left * recipe.batch_size,
        asked=(len(steps) - left) * recipe.batch_size,
        seconds=time.perf_counter() - began,
        num_bytes=store.num_bytes(),
        examination=store.header.examination,
    )


def estimate_labels(
    recipe: Recipe,
    *,
    top_k: int | None = None,
    confidence: bool | None = None,
    processes: int = 1,
    monitor: Monitor | None = None,
) -> str:
    """Size and time of a store for a recipe, from a few batches; nothing is written.

    Raises:
        UserError: as `record_labels`.
    """
    monitor = monitor or Monitor(None)
    _look_at_store(None, recipe, top_k)
    prepared = _prepare(recipe, None, None, monitor)
    recipe, data = prepared.recipe, prepared.data
    filler = Filler(recipe, data, prepared.teacher, ())
    seconds = []
    with _as_many_threads(processes):
        for host in filler.loader.batches(0, _TRIAL_STEPS):
            filler.answers.on(finish_views(recipe, host, filler.device))
            seconds.append(time.perf_counter())
    rows = RowFormat(
        num_classes=len(data.classes),
        top_k=min(top_k or 0, len(data.classes)),
        confidence=bool(confidence),
    )
    per_epoch = filler.loader.steps_per_epoch
    steps = len(epochs_of_views(recipe)) * per_epoch
    return (
        _describe(rows, per_epoch * recipe.batch_size, recipe)
        + "\n"
        + _estimate(steps, seconds[-1] - seconds[-2], recipe, processes)
    )


def _look_at_store(out: Path | None, recipe: Recipe, top_k: int | None) -> None:
    """Refuse what cannot become labels, before the teacher is loaded and asked.

    Raises:
        UserError: for soft labels without probabilities.
        RunError: for a store with damaged files.
    """
    config = recipe.distillation
    if out is not None and (out / "store.json").is_file():
        store = LabelStore.open(out)
        require_rows(config, store.header.rows, str(out))
        for problem in store.check().values():
            raise RunError(problem)
    elif config.kind == "soft" and not top_k:
        raise UserError(
            "soft labels without --top-k",
            "the number of probabilities to keep, from 1",
            "add --top-k 10, or as many as there are classes",
        )


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What stands before the first question."""

    recipe: Recipe
    data: DataSet
    teacher: Teacher
    examined: Examination


def _prepare(
    recipe: Recipe, data: DataSet | None, teacher: Teacher | None, monitor: Monitor
) -> _Prepared:
    if recipe.distillation.stored or not recipe.distillation.needs_teacher:
        raise UserError(
            f"recipe.distillation.teacher = {recipe.distillation.teacher!r}",
            "a teacher that can be asked",
            "name one with --teacher: a run folder, timm:NAME, onnx:FILE",
        )
    opened = data is None
    data = data or open_data(recipe, monitor.say)
    recipe = resolve(recipe, data)
    device = machine.resolve_device(recipe.run.device)
    teacher = teacher or load_teacher(recipe, data, device)
    if opened:
        data, _ = check_data(recipe, data, monitor.say)
    teacher, examined = examine_teacher(recipe, data, teacher, device, monitor.say)
    assert teacher is not None
    assert examined is not None
    return _Prepared(recipe, data, teacher, examined)


def missing_steps(store: LabelStore, recipe: Recipe, data: DataSet) -> list[int]:
    """The steps of a run in whose batches some view has no label yet."""
    per_epoch = order.steps_per_epoch(len(data.train), recipe.batch_size)
    missing = []
    for epoch in epochs_of_views(recipe):
        _, filled = store.read(epoch, np.arange(epoch_length(recipe, data)))
        empty = ~filled.reshape(per_epoch, recipe.batch_size).all(-1)
        missing += (epoch * per_epoch + np.flatnonzero(empty)).tolist()
    return missing


@contextlib.contextmanager
def _as_many_threads(processes: int) -> Iterator[None]:
    """The number of threads that each of so many processes will have: of several, one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if processes > 1 else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _describe(rows: RowFormat, positions: int, recipe: Recipe) -> str:
    epochs = len(epochs_of_views(recipe))
    size = epochs * positions * rows.dtype.itemsize
    kept = "the decision" if not rows.top_k else f"the decision and {rows.top_k} probabilities"
    length = f"{epochs} epoch{'s' if epochs > 1 else ''} of {positions:,} views"
    return f"{length}, {kept} in {rows.dtype.itemsize} bytes each: {size / 1e6:.1f} MB"


def _estimate(steps: int, step_seconds: float, recipe: Recipe, processes: int) -> str:
    """Time for the rest; more processes than cores make nothing faster."""
    together = min(processes, available_cores())
    return (
        f"{steps * recipe.batch_size:,} views are to be labelled, "
        f"about {clock(steps * step_seconds / together)}"
    )
