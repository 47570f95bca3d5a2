"""The paper's ways to train a student, and training all of them, each with several seeds."""

import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from deit.distillation.config import LABELS
from deit.distributed import available_cores
from deit.errors import RunError, UserError, did_you_mean
from deit.programs.record import Recorded, record_labels
from deit.programs.train import TrainResult, train
from deit.recipes.recipe import Recipe, distilled, plain
from deit.report.run_report import write_report

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Method:
    """A way to train the student.

    Attributes:
        key: part of the run folder's name.
        label: what tables call it.
        kind: soft or hard labels of the teacher; None without a teacher.
        token: whether the teacher has a token of its own.
    """

    key: str
    label: str
    kind: Literal["soft", "hard"] | None = None
    token: bool = False

    def recipe(self, base: Recipe, teacher: str) -> Recipe:
        """The base recipe trained in this way."""
        if self.kind is None:
            return plain(base)
        return distilled(base, teacher, self.kind, token=self.token)


METHODS = (
    Method("plain", "no teacher"),
    Method("soft-class", "soft labels, class token", "soft"),
    Method("hard-class", "hard labels, class token", "hard"),
    Method("soft-token", "soft labels, distillation token", "soft", token=True),
    Method("hard-token", "hard labels, distillation token", "hard", token=True),
)
"""The rows of Table 3, and soft labels with a token, which the reference code offers besides."""


def find_methods(keys: str) -> tuple[Method, ...]:
    """The methods of a list such as "plain,hard-token".

    Raises:
        UserError: for an unknown method, or a list without the plain one.
    """
    known = {method.key: method for method in METHODS}
    chosen = [key.strip() for key in keys.split(",")]
    unknown = [key for key in chosen if key not in known]
    if unknown or "plain" not in chosen:
        raise UserError(
            f"--methods {keys}",
            f"plain, with any of {', '.join(key for key in known if key != 'plain')}",
            did_you_mean(unknown[0], known) if unknown else "add plain, the baseline",
        )
    return tuple(method for method in METHODS if method.key in chosen)


@dataclass(frozen=True, slots=True)
class StudentRun:
    """One finished run of a method.

    Attributes:
        method: how it was trained.
        seed: its seed.
        result: how it ended.
    """

    method: Method
    seed: int
    result: TrainResult


def train_students(
    base: Recipe,
    methods: Sequence[Method],
    teacher: str,
    out: Path,
    seeds: Sequence[int],
    say: Say = print,
) -> Iterator[StudentRun]:
    """Every method with every seed, one process per core, each as it finishes.

    The teacher is asked once about every view of a seed; all that learn from it read what is
    stored. On a GPU, which one small model does not fill either, two run at a time.
    """
    plain_ones = [method for method in methods if method.kind is None]
    distilled_ones = [method for method in methods if method.kind is not None]
    num_jobs = len(seeds) * len(methods)
    workers = min(2 if torch.cuda.is_available() else available_cores(), num_jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:

        def start(chosen: Sequence[Method], seed: int, teacher: str) -> None:
            for method in chosen:
                job = pool.submit(_train_student, base, method, seed, teacher, out)
                training[job] = (method, seed)

        training: dict[Future[TrainResult], tuple[Method, int]] = {}
        recording = {
            pool.submit(_record, base, distilled_ones, seed, teacher, out): seed
            for seed in (seeds if distilled_ones else ())
        }
        for seed in seeds:
            start(plain_ones, seed, teacher)
        try:
            while recording or training:
                jobs: list[Future[Any]] = [*recording, *training]
                for job in wait(jobs, return_when=FIRST_COMPLETED).done:
                    if job in recording:
                        seed, recorded = recording.pop(job), job.result()
                        say(f"    labels, seed {seed}: {recorded}")
                        start(distilled_ones, seed, f"{LABELS}{recorded.path}")
                    else:
                        method, seed = training.pop(job)
                        yield StudentRun(method, seed, job.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # the other runs have no use any more
            raise


def _record(
    base: Recipe, methods: Sequence[Method], seed: int, teacher: str, out: Path
) -> Recorded:
    """The teacher's word on every view of a seed, as far as the methods need it."""
    kind: Literal["soft", "hard"] = "soft" if any(m.kind == "soft" for m in methods) else "hard"
    recipe = dataclasses.replace(distilled(base, teacher, kind), seed=seed)
    top_k = STORED_PROBABILITIES if kind == "soft" else 0
    recorded = record_labels(recipe, out / f"labels-seed{seed}", top_k=top_k)
    if recorded.missing:
        raise RunError(f"{recorded.path}: interrupted, {recorded.missing} views have no label")
    return recorded


STORED_PROBABILITIES = 10
"""Largest probabilities kept of each view for students with soft labels."""


def _train_student(base: Recipe, method: Method, seed: int, teacher: str, out: Path) -> TrainResult:
    recipe = dataclasses.replace(method.recipe(base, teacher), name=f"demo-{method.key}", seed=seed)
    return finished(train(recipe, out / f"{method.key}-seed{seed}"))


def finished(result: TrainResult) -> TrainResult:
    """A run that came to its end, with its report.

    Raises:
        RunError: for one that was interrupted.
    """
    if result.state != "finished":
        raise RunError(f"{result.path}: interrupted after step {result.step}")
    write_report(result.path)
    return result


def _one_thread() -> None:
    torch.set_num_threads(1)
