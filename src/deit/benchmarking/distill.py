"""The time of a distillation step with stored labels, against the online teacher and timm.

Three sides train the same student on the same batch from the same weights: ours with a label store
on the disk, ours with the teacher asked in every step, and timm's `TokenDistillationTask` with the
same teacher. A step is the answer, forward, loss, backward and AdamW's update; it has no loading of
images and no average of weights. Hard labels through the token (Eq. 3), stochastic depth as in the
paper's recipe, no mixing, no label smoothing. The weights are random, which takes as long.
"""

import dataclasses
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deit.benchmarking.lesson import Lesson, prepare_lesson
from deit.benchmarking.timing import Timing, speed_ratio, time_interleaved, use_threads
from deit.benchmarking.timm_peer import build_peer, compare_outputs
from deit.data.mix_plan import MixConfig
from deit.data.plan import ViewConfig
from deit.errors import UserError, did_you_mean
from deit.foreign import load_zoo_classifier
from deit.model.variants import VisionTransformerConfig, named_config, variant_names
from deit.optim.config import EmaConfig
from deit.programs.step import Parts, ask_teacher, build_parts, take_step
from deit.recipes import paper
from deit.recipes.recipe import Recipe, distilled, second_token
from deit.run import machine
from deit.run.progress import Monitor, Pace, clock

PEERS = ("online", "timm")
"""What stored labels are compared with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentTimes:
    """What was measured of one student.

    Attributes:
        timings: of the sides stored, online and timm.
        apart: how far the sides' outputs lie apart, see `compare_outputs`.
        store_bytes, store_positions: size of the label store on the disk, and what it holds.
    """

    timings: dict[str, Timing]
    apart: dict[str, float]
    store_bytes: int
    store_positions: int

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as fast a step with stored labels is, by peer."""
        stored = self.timings["stored"]
        return {peer: speed_ratio(stored, self.timings[peer]) for peer in PEERS}

    def to_json(self) -> dict[str, Any]:
        """The figures."""
        return {
            "ratios": self.ratios,
            "sides": {name: timing.to_json() for name, timing in self.timings.items()},
            "apart": self.apart,
            "label_store": {"bytes": self.store_bytes, "positions": self.store_positions},
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillTimes:
    """What was measured of all students.

    Attributes:
        students: by name, in the order that was asked for.
        teacher: its name.
        batch_size, rounds, precision: of every side.
        environment: versions, machine, command.
    """

    students: dict[str, StudentTimes]
    teacher: str
    batch_size: int
    rounds: int
    precision: str
    environment: dict[str, Any]

    @property
    def bytes_per_view(self) -> float:
        """Bytes on the disk for each view of an epoch; the largest of the students' stores."""
        return max(each.store_bytes / each.store_positions for each in self.students.values())

    def to_json(self) -> dict[str, Any]:
        """The figures: ``ratios.PEER.step`` of the first student, ``step_NAME`` of further ones."""
        ratios: dict[str, dict[str, float]] = {peer: {} for peer in PEERS}
        for number, (name, measured) in enumerate(self.students.items()):
            for peer, ratio in measured.ratios.items():
                ratios[peer]["step" if number == 0 else f"step_{name}"] = ratio
        return {
            "ratios": ratios,
            "bytes_per_view": self.bytes_per_view,
            "students": {name: each.to_json() for name, each in self.students.items()},
            "teacher": self.teacher,
            "batch_size": self.batch_size,
            "rounds": self.rounds,
            "precision": self.precision,
            "environment": self.environment,
        }


def time_distillation(
    students: Sequence[str],
    teacher: str,
    *,
    batch_size: int = 16,
    rounds: int = 5,
    precision: machine.Precision = "auto",
    device: str = "auto",
    threads: int | None = None,
    monitor: Monitor | None = None,
) -> DistillTimes:
    """Compare the three sides for each student, and time them.

    Args:
        students: names of distilled models, each once.
        teacher: ``timm:NAME``; its weights are random, nothing is fetched.
        batch_size: images of a step.
        rounds: timed steps of each side, after one that is not timed.
        precision: of student and teacher on all sides; auto as in recipes.
        device: auto, cpu, cuda and so on.
        threads: of the CPU; None leaves them as they are.
        monitor: where progress is shown.

    Raises:
        UserError: for a student without a distillation token, and for unknown names.
        RunError: when the sides do not compute the same.
    """
    monitor = monitor or Monitor(None)
    configs = [find_student(name) for name in students]
    if not teacher.startswith("timm:"):
        raise UserError(
            f"--teacher {teacher}", "timm:NAME, which timm can ask as well", _nearest(teacher)
        )
    where = machine.resolve_device(device)
    taken = machine.resolve_precision(precision, where)
    with use_threads(threads), tempfile.TemporaryDirectory() as folder:
        environment = _describe(where, students, teacher, batch_size, rounds, taken, threads)
        classifier = load_zoo_classifier(teacher, pretrained=False)
        lessons: dict[int, Lesson] = {}
        measured: dict[str, StudentTimes] = {}
        for config in configs:
            recipe = build_recipe(config, teacher, classifier.num_classes, batch_size, taken, where)
            size = config.img_size
            if size not in lessons:
                monitor.say(f"asking {teacher} about {batch_size} random images of {size} px")
                lessons[size] = prepare_lesson(recipe, classifier, where, Path(folder, str(size)))
            measured[config.name] = _time_student(recipe, lessons[size], where, rounds, monitor)
        environment |= {"load_after": machine.load_average()}
    return DistillTimes(
        students=measured,
        teacher=teacher,
        batch_size=batch_size,
        rounds=rounds,
        precision=taken,
        environment=environment,
    )


def find_student(name: str) -> VisionTransformerConfig:
    """The configuration of a student with a distillation token.

    Raises:
        UserError: for an unknown name, or a model without the token.
    """
    config = named_config(name)
    if not isinstance(config, VisionTransformerConfig) or second_token(config) != "distillation":
        able = [each for each in variant_names() if "_distilled_" in each]
        raise UserError(
            f"--student {name}: a model without a distillation token",
            "a distilled one of `deit`, such as deit_tiny_distilled_patch16_224",
            did_you_mean(name, able),
        )
    return config


def build_recipe(
    student: VisionTransformerConfig,
    teacher: str,
    num_classes: int,
    batch_size: int,
    precision: machine.Precision,
    device: torch.device,
) -> Recipe:
    """The paper's recipe for a distilled student, without mixing, smoothing, erasing and average.

    A teacher is asked about the whole batch at once, as timm does.
    """
    recipe = distilled(paper.table_9("tiny"), teacher, "hard", token=True)
    assert isinstance(recipe.model, VisionTransformerConfig)
    return dataclasses.replace(
        recipe,
        name="benchmark",
        batch_size=batch_size,
        model=dataclasses.replace(
            student, num_classes=num_classes, drop_path_rate=recipe.model.drop_path_rate
        ),
        views=ViewConfig(erase=0),
        mix=MixConfig(mixup=0, cutmix=0, smoothing=0, group=max(2, batch_size)),
        ema=EmaConfig(decay=0),
        run=dataclasses.replace(recipe.run, device=str(device), precision=precision),
    )


def _time_student(
    recipe: Recipe, lesson: Lesson, device: torch.device, rounds: int, monitor: Monitor
) -> StudentTimes:
    """The three sides of one student: the same weights, compared, then timed in turns."""
    stored = build_parts(recipe, lesson.steps_per_epoch, device, lesson.stored)
    online = build_parts(recipe, lesson.steps_per_epoch, device, lesson.online)
    peer = build_peer(recipe, lesson, stored.model.state_dict(), device)
    name = recipe.model.name
    monitor.say(f"{name}: comparing the outputs of the three sides")
    apart = compare_outputs(stored.model, peer, lesson)
    ours, others = _steps(stored, lesson), _steps(online, lesson)
    sides = {
        "stored": lambda: next(ours),
        "online": lambda: next(others),
        "timm": lambda: peer.take_step(lesson),
    }
    total = len(sides) * (rounds + 1)
    pace = Pace(total, 0, recipe.batch_size)

    def show(done: int, total: int) -> None:
        left = clock(pace.seconds_left(done))
        monitor.step(done, f"{done // len(sides)} of {rounds + 1} rounds, {left} left")

    with monitor.steps(0, total, name):
        timings = time_interleaved(sides, rounds=rounds, device=device, progress=show)
    return StudentTimes(
        timings=timings,
        apart=apart,
        store_bytes=lesson.store.num_bytes(),
        store_positions=lesson.store.length,
    )


def _steps(parts: Parts, lesson: Lesson) -> Iterator[dict[str, float]]:
    """Step after step of `deit distill` on the lesson's batch."""
    step = lesson.steps_per_epoch // 2
    while True:
        answer = ask_teacher(parts, lesson.batch)
        yield take_step(parts, lesson.batch, answer, step, lesson.source)
        step += 1


def _describe(
    device: torch.device,
    students: Sequence[str],
    teacher: str,
    batch_size: int,
    rounds: int,
    precision: str,
    threads: int | None,
) -> dict[str, Any]:
    """The machine, and the command that repeats the measurement, with what was resolved."""
    words = ["deit", "benchmark", "distill"]
    words += [word for name in students for word in ("--student", name)]
    words += ["--teacher", teacher, "--batch-size", str(batch_size), "--rounds", str(rounds)]
    words += ["--precision", precision, "--device", str(device)]
    words += [] if threads is None else ["--threads", str(threads)]
    told = machine.describe_environment(device)
    return told | {"command": shlex.join(words), "load_before": machine.load_average()}


def _nearest(teacher: str) -> str:
    name = teacher.rpartition(":")[2]
    return f"write timm:{name}" if name and "/" not in name else "for example timm:regnety_160"
