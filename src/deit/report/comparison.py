"""The report of a comparison: several methods over one or more seeds, against one of them.

`deit demo` fills a `Comparison`; what the report says about it is computed from its numbers.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from deit.report.gallery import load_gallery
from deit.report.intervals import Interval, paired_interval
from deit.report.page import number, percent, points, write_page
from deit.report.plots import Plot, Series, dot_plot, interval_plot, line_plot
from deit.report.record import RunRecord, read_record
from deit.report.run_report import accuracy_rows, result_sentence, views_text

Role = Literal["teacher", "baseline", "student"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonRow:
    """A method, as one of its heads decides.

    Attributes:
        label: the method, as tables call it.
        head: which head decides: "class head", "distillation head", "joint".
        top1s: share of validation images decided right, 0 to 1, one value for each seed.
        role: "baseline" for the one row that the students are compared with; a teacher is shown
            and not compared.
        nll: mean negative log-likelihood of the true class, mean over the seeds.
        seconds: training time of one run, mean over the seeds.
        agreement: share of validation images decided as the teacher decides, mean over the seeds.
    """

    label: str
    head: str
    top1s: tuple[float, ...]
    role: Role = "student"
    nll: float | None = None
    seconds: float | None = None
    agreement: float | None = None

    @property
    def top1(self) -> float:
        """Mean over the seeds."""
        return math.fsum(self.top1s) / len(self.top1s)


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonCurve:
    """Validation accuracy of a method over its training, mean over the seeds.

    Attributes:
        label: the method.
        epochs: when it was measured.
        top1s: share decided right at those times.
    """

    label: str
    epochs: tuple[float, ...]
    top1s: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonRun:
    """A run behind the numbers.

    Attributes:
        label: method and seed.
        folder: its folder.
    """

    label: str
    folder: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Everything that a comparison's report shows.

    Attributes:
        title: the headline.
        explanation: what is compared and how, paragraph by paragraph, in plain words.
        num_images: validation images behind each accuracy.
        seeds: the seeds, in the order of every row's ``top1s``.
        rows: the methods, in the order of the table; exactly one is the baseline.
        curves: accuracies over the epochs, by method.
        runs: the run folders, each shown folded up.
        views_from: run folder whose augmented views are shown; None for none.
        command: what repeats the comparison.
        environment: machine and versions.

    Raises:
        ValueError: unless one row is the baseline and baseline and students have one value for
            each seed.
    """

    title: str
    explanation: tuple[str, ...]
    num_images: int
    seeds: tuple[int, ...]
    rows: tuple[ComparisonRow, ...]
    curves: tuple[ComparisonCurve, ...] = ()
    runs: tuple[ComparisonRun, ...] = ()
    views_from: Path | None = None
    command: str = ""
    environment: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sum(row.role == "baseline" for row in self.rows) != 1:
            raise ValueError("a comparison has exactly one baseline row")
        for row in self.rows:
            if row.role != "teacher" and len(row.top1s) != len(self.seeds):
                raise ValueError(
                    f"{row.label}: {len(row.top1s)} values for {len(self.seeds)} seeds"
                )

    @property
    def baseline(self) -> ComparisonRow:
        """The row that the students are compared with."""
        return next(row for row in self.rows if row.role == "baseline")

    @property
    def students(self) -> tuple[ComparisonRow, ...]:
        """The rows that are compared with the baseline."""
        return tuple(row for row in self.rows if row.role == "student")


@dataclass(frozen=True, slots=True)
class _Fold:
    """A run, folded up: its label, its record, and its own report beside this one, if any."""

    label: str
    record: RunRecord
    sentence: str
    accuracies: list[object]
    link: str


def write_comparison(path: Path, comparison: Comparison) -> Path:
    """Write a comparison as one HTML file that opens offline.

    Args:
        path: the HTML file, in a folder that exists; runs below that folder are linked.
        comparison: what to show.

    Returns:
        ``path``.

    Raises:
        UserError: when it cannot be written, or one of the runs' folders holds no run.
    """
    views = load_gallery(comparison.views_from).views if comparison.views_from else ()
    return write_page(
        path,
        "comparison.html.j2",
        title=comparison.title,
        comparison=comparison,
        conclusion=conclusion(comparison),
        groups=_groups(comparison),
        notes=table_notes(comparison),
        plots=comparison_plots(comparison),
        views=views,
        views_text=views_text(views),
        folds=[_fold(run, path.parent) for run in comparison.runs],
    )


def student_differences(comparison: Comparison) -> list[Interval]:
    """Each student's difference to the baseline over the seeds, with its 95 % interval."""
    return [paired_interval(row.top1s, comparison.baseline.top1s) for row in comparison.students]


def conclusion(comparison: Comparison) -> list[str]:
    """What the numbers say, in sentences, whichever way they fall."""
    baseline, students = comparison.baseline, comparison.students
    sentences = [
        f"{_quoted(baseline)} recognises {percent(baseline.top1)} of "
        f"{number(comparison.num_images)} validation images."
    ]
    if not students:
        return sentences
    differences = student_differences(comparison)
    best = max(range(len(students)), key=lambda place: differences[place].mean)
    sentences[0] += (
        f" The best student, {_quoted(students[best])}, recognises "
        f"{percent(students[best].top1)}: {_versus(differences[best])}."
    )
    if len(comparison.seeds) == 1:
        return [
            *sentences,
            "With a single seed for each method, a difference of methods cannot be told from the "
            f"scatter of seeds; one image is worth {_image_worth(comparison)} points.",
        ]
    better = [row for row, interval in zip(students, differences, strict=True) if interval.sign > 0]
    worse = [row for row, interval in zip(students, differences, strict=True) if interval.sign < 0]
    scatter = f"than {_quoted(baseline)} beyond the scatter of the {len(comparison.seeds)} seeds"
    if better:
        sentences.append(f"Better {scatter}: {_listed(better)}.")
    else:
        sentences.append(f"No student is better {scatter}: these runs show no such gain.")
    if worse:
        sentences.append(f"Worse {scatter}: {_listed(worse)}.")
    undecided = len(students) - len(better) - len(worse)
    if undecided and (better or worse):
        sentences.append(f"Undecided by these seeds: {undecided} of the {len(students)} rows.")
    return sentences


def table_notes(comparison: Comparison) -> str:
    """What a reader must know to read the table."""
    notes = [f"Top-1 on {number(comparison.num_images)} validation images."]
    several = len(comparison.seeds) > 1
    if several:
        notes.append(f"Means of {len(comparison.seeds)} seeds.")
    if comparison.students:
        notes.append(f"The difference to {_quoted(comparison.baseline)} is in percentage points.")
    if several and comparison.students:
        notes.append(
            "Its 95 % interval is Student's over paired seeds, on the same images; it is not "
            "corrected for the number of rows."
        )
        if any(_narrow(interval, comparison) for interval in student_differences(comparison)):
            notes.append(
                f"An interval narrower than one image ({_image_worth(comparison)} points) only "
                "says that the seeds happened to agree."
            )
    if any(row.nll is not None for row in comparison.rows):
        notes.append("NLL is the mean negative log-likelihood of the true class: lower is better.")
    if any(row.agreement is not None for row in comparison.rows):
        notes.append("“As teacher” is the share of images decided as the teacher decides.")
    return " ".join(notes)


def comparison_plots(comparison: Comparison) -> list[Plot]:
    """Accuracies with every seed, differences with their intervals, accuracies over the epochs."""
    colours = _colours(comparison)
    rows, students = comparison.rows, comparison.students
    accuracy = dot_plot(
        "Validation top-1: a dot for each seed, a bar at the mean",
        "; ".join(f"{_named(row)} {percent(row.top1)}" for row in rows) + ".",
        [_named(row) for row in rows],
        [row.top1s for row in rows],
        [colours[row.label] for row in rows],
    )
    plots = [accuracy]
    if students:
        differences = student_differences(comparison)
        texts = [
            f"{_named(row)} {points(interval.mean)} points{_between(interval)}"
            for row, interval in zip(students, differences, strict=True)
        ]
        plots.append(
            interval_plot(
                f"Difference to “{comparison.baseline.label}”"
                + (", with 95 % interval" if len(comparison.seeds) > 1 else ", one seed"),
                "; ".join(texts) + ".",
                [_named(row) for row in students],
                differences,
                [colours[row.label] for row in students],
            )
        )
    if comparison.curves:
        plots.append(_curve_plot(comparison.curves, colours))
    return plots


def _curve_plot(curves: Sequence[ComparisonCurve], colours: Mapping[str, int]) -> Plot:
    lines = [
        Series(curve.label, curve.epochs, curve.top1s, colour=colours.get(curve.label, 4))
        for curve in curves
    ]
    ends = [f"{curve.label} {percent(curve.top1s[-1])}" for curve in curves if curve.top1s]
    return line_plot(
        "Validation top-1 over the epochs, mean of the seeds",
        f"At the end: {'; '.join(ends)}.",
        lines,
        x_label="epoch",
        percent=True,
    )


def _colours(comparison: Comparison) -> dict[str, int]:
    """A colour for each method, the same in all plots; grey for the teacher."""
    colours: dict[str, int] = {}
    free = [0, 1, 2, 3, 5]
    for row in comparison.rows:
        if row.role == "teacher":
            colours[row.label] = 4
        elif row.label not in colours:
            used = sum(colour != 4 for colour in colours.values())
            colours[row.label] = free[used % len(free)]
    return colours


def _groups(comparison: Comparison) -> list[list[tuple[ComparisonRow, Interval | None]]]:
    """The rows of one method together, each beside its difference to the baseline, if any."""
    left = iter(student_differences(comparison))
    rows = [(row, next(left) if row.role == "student" else None) for row in comparison.rows]
    return [list(group) for _, group in itertools.groupby(rows, lambda pair: pair[0].label)]


def _fold(run: ComparisonRun, base: Path) -> _Fold:
    record = read_record(run.folder)
    report = run.folder.resolve() / "report.html"
    below = report.is_file() and report.is_relative_to(base.resolve())
    return _Fold(
        label=run.label,
        record=record,
        sentence=result_sentence(record),
        accuracies=list(accuracy_rows(record)),
        link=quote(report.relative_to(base.resolve()).as_posix()) if below else "",
    )


def _named(row: ComparisonRow) -> str:
    return f"{row.label}, {row.head}" if row.head else row.label


def _quoted(row: ComparisonRow) -> str:
    return f"“{row.label}” ({row.head})" if row.head else f"“{row.label}”"


def _listed(rows: Sequence[ComparisonRow]) -> str:
    return ", ".join(_quoted(row) for row in rows)


def _image_worth(comparison: Comparison) -> str:
    return number(100 / comparison.num_images, 2)


def _narrow(interval: Interval, comparison: Comparison) -> bool:
    if interval.low is None or interval.high is None:
        return False
    return interval.high - interval.low < 1 / comparison.num_images


def _versus(interval: Interval) -> str:
    """A difference in words."""
    if points(interval.mean) == points(0.0):
        return f"no difference{_between(interval)}"
    side = "more" if interval.mean > 0 else "less"
    return f"{points(abs(interval.mean)).lstrip('+')} points {side}{_between(interval)}"


def _between(interval: Interval) -> str:
    if interval.low is None:
        return ""
    return f" (95 % interval {points(interval.low)} to {points(interval.high)})"
