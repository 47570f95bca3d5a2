"""A dry run: a few real steps, an evaluation and a save, to know memory and time beforehand."""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from deit.data import order
from deit.data.loader import TrainLoader
from deit.measuring.evaluate import evaluate
from deit.programs.prepare import examine_teacher, open_checked_data, resolve
from deit.programs.step import (
    ask_teacher,
    build_parts,
    capture,
    model_preprocess,
    prepare_batch,
    take_step,
)
from deit.recipes.recipe import Recipe
from deit.run import machine
from deit.run.checkpoint import save_checkpoint
from deit.run.progress import clock

STEPS = 2
EVALUATED = 512


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
    data = open_checked_data(recipe, say)
    recipe = resolve(recipe, data)
    device = machine.resolve_device(recipe.run.device)
    teacher, _ = examine_teacher(recipe, data, None, device, say)
    steps_per_epoch = order.steps_per_epoch(len(data.train), recipe.batch_size)
    parts = build_parts(recipe, steps_per_epoch, device, teacher)
    loader = TrainLoader(
        data.train,
        recipe.views,
        recipe.order,
        image_size=recipe.model.img_size,
        seed=recipe.seed,
        batch_size=recipe.batch_size,
        workers=recipe.run.workers,
    )
    marks = []
    for step, host in enumerate(loader.batches(0, STEPS)):
        batch = prepare_batch(parts, host)
        take_step(parts, batch, ask_teacher(parts, batch), step, data.train)
        marks.append(time.perf_counter())
    step_seconds = marks[-1] - marks[-2]

    count = min(len(data.val), EVALUATED)
    began = time.perf_counter()
    evaluate(
        parts.model,
        data.val,
        preprocess=model_preprocess(recipe),
        batch_size=recipe.run.eval_batch_size,
        device=device,
        precision=recipe.run.precision,
        limit=count,
    )
    evaluation_seconds = (time.perf_counter() - began) * len(data.val) / count

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        saved = save_checkpoint(Path(folder), capture(parts, STEPS, {}))
        save_seconds = time.perf_counter() - began
        checkpoint_bytes = sum(path.stat().st_size for path in saved.iterdir())

    total_steps = recipe.epochs * steps_per_epoch
    evaluations = -(-recipe.epochs // recipe.run.eval_epochs) * (2 if parts.ema else 1)
    return DryRun(
        total_steps=total_steps,
        step_seconds=step_seconds,
        evaluation_seconds=evaluation_seconds,
        save_seconds=save_seconds,
        checkpoint_bytes=checkpoint_bytes,
        total_seconds=total_steps * step_seconds
        + evaluations * evaluation_seconds
        + recipe.epochs * save_seconds,
        memory_bytes=_peak_memory(),
        gpu_memory_bytes=torch.cuda.max_memory_allocated() if device.type == "cuda" else 0,
    )


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
