"""A dry run: a few real steps, an evaluation and a save, to know memory and time beforehand."""

import dataclasses
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from deit.data import order
from deit.data.sources import DataSet
from deit.programs.labels import open_answers
from deit.programs.prepare import check_data, examine_teacher, load_teacher, open_data, resolve
from deit.programs.start import load_start
from deit.programs.step import (
    Parts,
    ask_teacher,
    build_loader,
    build_parts,
    capture,
    checkpoint_steps,
    evaluate_model,
    evaluation_steps,
    prepare_batch,
    take_step,
)
from deit.recipes.recipe import Recipe
from deit.run import machine
from deit.run.checkpoint import save_checkpoint
from deit.run.progress import clock

STEPS = 2
EVALUATED = 1024


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a dry run measured.

    Attributes:
        total_steps: steps of the whole run.
        step_seconds: one step, the first left out.
        evaluation_seconds: one evaluation of the whole validation split, for each set of weights.
        save_seconds, checkpoint_bytes: one checkpoint.
        total_seconds: the estimate for the whole run.
        memory_bytes: the largest memory of this process so far.
        gpu_memory_bytes: the same on the GPU; 0 without one.
    """

    total_steps: int
    step_seconds: float
    evaluation_seconds: float
    save_seconds: float
    checkpoint_bytes: int
    total_seconds: float
    memory_bytes: int
    gpu_memory_bytes: int

    def __str__(self) -> str:
        lines = [
            f"a step takes {self.step_seconds:.2f} s, "
            f"an evaluation {self.evaluation_seconds:.1f} s, "
            f"a checkpoint {self.save_seconds:.2f} s and {self.checkpoint_bytes / 1e6:.1f} MB",
            f"the whole run: {self.total_steps:,} steps, about {clock(self.total_seconds)}",
            f"memory: {self.memory_bytes / 2**30:.2f} GiB",
        ]
        if self.gpu_memory_bytes:
            lines[-1] += f", on the GPU {self.gpu_memory_bytes / 2**30:.2f} GiB"
        return "\n".join(lines)


def dry_run(recipe: Recipe, say: Callable[[str], None]) -> DryRun:
    """Two steps of training, an evaluation and a save of ``recipe``, in a folder that is removed.

    Args:
        recipe: the run to estimate; its data and teacher are opened and checked as in `train`.
        say: takes the sentences that a person should read.

    Raises:
        UserError: whatever `train` would refuse before its first step.
    """
    machine.resolve_device(recipe.run.device)  # a wrong name is cheaper to tell before the data
    data = open_data(recipe, say)
    recipe = _without_store(resolve(recipe, data))
    device = machine.resolve_device(recipe.run.device)
    start = load_start(recipe, data.classes, say)
    teacher = load_teacher(recipe, data, device)
    data, _ = check_data(recipe, data, say)
    teacher, examined = examine_teacher(recipe, data, teacher, device, say)
    steps_per_epoch = order.steps_per_epoch(len(data.train), recipe.batch_size)
    answers = open_answers(recipe, data, teacher, examined, device, say)
    begin = None if start is None else start.model
    parts = build_parts(recipe, steps_per_epoch, device, answers, begin)
    loader = build_loader(recipe, data, device)
    marks = []
    for step, host in enumerate(loader.batches(0, STEPS)):
        batch = prepare_batch(parts, host)
        take_step(parts, batch, ask_teacher(parts, batch), step, data.train)
        marks.append(time.perf_counter())
    step_seconds = marks[-1] - marks[-2]

    evaluation_seconds = _time_evaluation(parts, data)

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        saved = save_checkpoint(Path(folder), capture(parts, STEPS, {}))
        save_seconds = time.perf_counter() - began
        checkpoint_bytes = sum(path.stat().st_size for path in saved.iterdir())

    total_steps = recipe.epochs * steps_per_epoch
    evaluations = len(evaluation_steps(recipe, steps_per_epoch)) * (2 if parts.ema else 1)
    saves = len(checkpoint_steps(recipe, steps_per_epoch))
    return DryRun(
        total_steps=total_steps,
        step_seconds=step_seconds,
        evaluation_seconds=evaluation_seconds,
        save_seconds=save_seconds,
        checkpoint_bytes=checkpoint_bytes,
        total_seconds=total_steps * step_seconds
        + evaluations * evaluation_seconds
        + saves * save_seconds,
        memory_bytes=_peak_memory(),
        gpu_memory_bytes=torch.cuda.max_memory_allocated() if device.type == "cuda" else 0,
    )


def _without_store(recipe: Recipe) -> Recipe:
    """The recipe with nothing to fill: a dry run leaves no labels behind."""
    asked = dataclasses.replace(recipe.distillation, labels="", top_k=0)
    return dataclasses.replace(recipe, distillation=asked)


def _time_evaluation(parts: Parts, data: DataSet) -> float:
    """Seconds that an evaluation of the whole split takes, from its first batches.

    The first batch holds the start of worker processes, which comes once however many follow.
    """
    began = time.perf_counter()
    marks: list[tuple[int, float]] = []

    def mark(done: int, _count: int) -> None:
        marks.append((done, time.perf_counter() - began))

    evaluate_model(parts, parts.model, data, limit=EVALUATED, progress=mark)
    (first, first_seconds), (last, last_seconds) = marks[0], marks[-1]
    if last == first:
        return first_seconds * len(data.val) / first
    return first_seconds + (last_seconds - first_seconds) * (len(data.val) - first) / (last - first)


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
