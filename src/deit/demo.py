"""The demo: a convnet teacher, a plain DeiT and four ways to distil one, compared on real images.

All students share recipe, budget and images; the teacher was trained on the same images and no
more. Runs of one seed see the same views in the same order, so they are compared in pairs.
"""

import csv
import dataclasses
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deit.artifacts import load_classifier
from deit.data.sources import DataConfig, open_data
from deit.measuring.evaluate import Evaluation, evaluate
from deit.programs import prepare
from deit.programs.train import train
from deit.recipes.book import get_recipe
from deit.recipes.recipe import Recipe, override
from deit.recipes.small import DataFacts
from deit.report.comparison import (
    Comparison,
    ComparisonCurve,
    ComparisonRow,
    ComparisonRun,
    Role,
    write_comparison,
)
from deit.run import machine
from deit.run.folder import RunFolder
from deit.run.journal import read_journal
from deit.students import METHODS, Method, Say, StudentRun, finished, train_students

HEADS = {"class": "class head", "distillation": "distillation head", "joint": "joint"}


def demo(
    out: Path,
    *,
    source: str = "digits",
    seeds: int = 3,
    teacher: str | None = None,
    student: Recipe | None = None,
    methods: Sequence[Method] | None = None,
    say: Say = print,
) -> tuple[Path, Comparison]:
    """Train the teacher, store its labels, train every method with every seed, and compare.

    Args:
        out: a new folder for the runs and ``report.html``.
        source: digits, a folder of images, or torchvision:NAME.
        seeds: how many seeds, from 1; intervals need at least two.
        teacher: an existing teacher, as `deit distill --teacher` takes it; None trains one.
        student: the recipe of all methods; None takes the demo's for this data.
        methods: which methods, the plain one among them; None takes all.
        say: takes the sentences that a person should read.

    Returns:
        The path of the report, and what it compares.
    """
    methods = METHODS if methods is None else methods
    base, convnet = demo_recipes(source)
    base = student or base
    for method in methods:
        method.recipe(base, teacher or "the teacher")  # refuses before any training what cannot act
    data, _ = prepare.check_data(base, prepare.open_data(base, say), say)
    seconds = None
    if teacher is None:
        say(f"1/3 the teacher: {convnet.model.name}, {convnet.epochs} epochs")
        convnet = dataclasses.replace(convnet, data=base.data)
        trained = finished(train(convnet, out / "teacher"))
        # The last weights, not the best: those would be chosen on the images that count below.
        teacher = str(RunFolder(trained.path).weights / "last.safetensors")
        seconds = trained.seconds
    else:
        say(f"1/3 the teacher: {teacher}")
    measured = evaluate(load_classifier(teacher), data.val)
    say(f"    top-1 {_percent(measured.to_json()['class'])}")
    say(f"2/3 {len(methods)} ways to train {base.model.name}, {seeds} seeds each")
    runs = []
    for run in train_students(base, methods, teacher, out, range(seeds), say):
        heads = run.result.evaluations["raw"]
        accuracies = ", ".join(f"{head} {_percent(values)}" for head, values in heads.items())
        say(f"    {run.method.label}, seed {run.seed}: {accuracies} ({run.result.seconds:.0f} s)")
        runs.append(run)
    say("3/3 the report")
    run_of_teacher = out / "teacher" if seconds is not None else None
    shown_teacher = TeacherFacts(teacher, measured, seconds, run_of_teacher)
    comparison = compare(runs, shown_teacher, base, source, range(seeds))
    return write_comparison(out / "report.html", comparison), comparison


@dataclass(frozen=True, slots=True)
class TeacherFacts:
    """The teacher of a comparison.

    Attributes:
        name: what `deit distill --teacher` takes.
        measured: what it said of the validation images.
        seconds: how long it was trained; None if it was there before.
        run: the folder of its run; None if it was there before.
    """

    name: str
    measured: Evaluation
    seconds: float | None
    run: Path | None


def demo_recipes(source: str) -> tuple[Recipe, Recipe]:
    """The recipes of student and teacher for some data."""
    if source == "digits":
        data = DataConfig(source=source, images_per_class=DIGITS_PER_CLASS)
        student = override(get_recipe("digits"), {"epochs": 300, "run.eval_epochs": 60})
        convnet = override(get_recipe("digits-teacher"), {"epochs": 250, "run.eval_epochs": 250})
    else:
        data = DataConfig(source=source)
        facts = DataFacts.of(open_data(source))
        student, convnet = get_recipe("folder", facts), get_recipe("folder-teacher", facts)
    return dataclasses.replace(student, data=data), dataclasses.replace(convnet, data=data)


DIGITS_PER_CLASS = 10
"""Labelled digits per class: few, so that what the teacher adds can be seen."""


def compare(
    runs: Sequence[StudentRun],
    teacher: TeacherFacts,
    student: Recipe,
    source: str,
    seeds: Sequence[int],
) -> Comparison:
    """The finished runs as rows, curves and folders of a report."""
    teacher_decisions = _decisions_of(teacher.measured)
    figures = teacher.measured.to_json()["class"]
    rows = [
        ComparisonRow(
            label="the teacher",
            head=HEADS["class"],
            top1s=(figures["top1"],),
            role="teacher",
            nll=figures["nll"],
            seconds=teacher.seconds,
        )
    ]
    curves = []
    methods = [method for method in METHODS if any(run.method == method for run in runs)]
    for method in methods:
        of_method = sorted((run for run in runs if run.method == method), key=lambda run: run.seed)
        rows += [
            _row(method, head, of_method, teacher_decisions)
            for head in of_method[0].result.evaluations["raw"]
        ]
        curves.append(_curve(method, of_method))
    shown = max(runs, key=lambda run: (METHODS.index(run.method), -run.seed))
    return Comparison(
        title=f"Distilling a small DeiT on {source}",
        explanation=_explanation(teacher, methods, student, source, len(seeds)),
        num_images=int(figures["count"]),
        seeds=tuple(seeds),
        rows=tuple(rows),
        curves=tuple(curves),
        runs=(
            *(
                []
                if teacher.run is None
                else [ComparisonRun(label="the teacher", folder=teacher.run)]
            ),
            *(
                ComparisonRun(label=f"{run.method.label}, seed {run.seed}", folder=run.result.path)
                for run in sorted(runs, key=lambda run: (METHODS.index(run.method), run.seed))
            ),
        ),
        views_from=shown.result.path,
        command=shlex.join(["deit", *sys.argv[1:]]),
        environment=machine.describe_environment(machine.resolve_device("auto")),
    )


def _row(
    method: Method, head: str, runs: Sequence[StudentRun], teacher: dict[str, str]
) -> ComparisonRow:
    measured = [run.result.evaluations["raw"][head] for run in runs]
    role: Role = "baseline" if method.kind is None else "student"
    return ComparisonRow(
        label=method.label,
        head=HEADS[head],
        top1s=tuple(values["top1"] for values in measured),
        role=role,
        nll=_mean([values["nll"] for values in measured]),
        seconds=_mean([run.result.seconds for run in runs]),
        agreement=_mean([_agreement(_decisions(run.result.path, head), teacher) for run in runs]),
    )


def _curve(method: Method, runs: Sequence[StudentRun]) -> ComparisonCurve:
    series = []
    for run in runs:
        evaluations = [
            record
            for record in read_journal(RunFolder(run.result.path).metrics)
            if record["event"] == "evaluation" and record["weights"] == "raw"
        ]
        series.append([record.get("joint", record["class"])["top1"] for record in evaluations])
    epochs = tuple(float(record["epoch"]) for record in evaluations)
    return ComparisonCurve(
        label=method.label, epochs=epochs, top1s=tuple(map(_mean, zip(*series, strict=True)))
    )


def _explanation(
    teacher: TeacherFacts,
    methods: Sequence[Method],
    student: Recipe,
    source: str,
    seeds: int,
) -> tuple[str, ...]:
    per_class = student.data.images_per_class
    images = f"{per_class} labelled images of each class" if per_class else "the training images"
    if teacher.seconds is None:
        first = f"{teacher.name} is the teacher."
    else:
        first = f"A small convnet is trained on {images} of {source}: the teacher."
    return (
        f"{first} A DeiT ({student.model.name}) is trained on {images} in {len(methods)} ways: "
        f"{'; '.join(method.label for method in methods)}. Soft labels are the teacher's "
        "probabilities (Eq. 2 of the paper), hard ones its decisions (Eq. 3); a distillation token "
        "has a head of its own. The teacher was asked once about every view of a seed; all of the "
        "seed's distilled students read what was stored.",
        f"All students have the same recipe and budget ({student.epochs} epochs of batch "
        f"{student.batch_size}); runs of one seed see the same views. Accuracies are those of the "
        f"last weights on the validation images, over {seeds} seeds.",
    )


def _decisions(run: Path, head: str = "class") -> dict[str, str]:
    with RunFolder(run).predictions.open(encoding="utf-8", errors="surrogateescape") as file:
        return {row["name"]: row[head] for row in csv.DictReader(file)}


def _agreement(ours: dict[str, str], theirs: dict[str, str]) -> float:
    return sum(theirs[name] == decision for name, decision in ours.items()) / len(ours)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _percent(values: Mapping[str, float | int]) -> str:
    return f"{100 * values['top1']:.1f} %"


def _decisions_of(measured: Evaluation) -> dict[str, str]:
    names = measured.classes.names
    decisions = (names[place] for place in measured.decided.predicted)
    return dict(zip(measured.names, decisions, strict=True))
