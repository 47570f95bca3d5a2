"""The report of one run: what came out, how it went, what it gets wrong.

It reads the run folder alone, needs neither the data nor the teacher, and says what is missing
where a run has not come to its end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deit.report import confusion
from deit.report.curves import run_curves
from deit.report.gallery import View
from deit.report.intervals import Interval, accuracy_interval
from deit.report.page import NONE, duration, number, percent, write_page
from deit.report.record import HEADS, WEIGHTS, RunRecord, read_record, recipe_value

MAX_MATRIX = 30
"""With more classes than this, the most confused pairs stand in place of the matrix."""
SHOWN_CLASSES = 20
"""With more classes than `MAX_MATRIX`, so many of the least recognised are shown at once."""


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """One line of the table of accuracies.

    Attributes:
        head: which head decides.
        weights: which weights.
        top1: share decided right, with its 95 % interval.
        top5: share with the true class among the five most probable; None where not measured.
        nll: mean negative log-likelihood of the true class; None where not measured.
        count: validation images.
        counts: whether this is the decision that the report's first sentence speaks of.
    """

    head: str
    weights: str
    top1: Interval
    top5: float | None
    nll: float | None
    count: int
    counts: bool


def write_report(run: Path) -> Path:
    """Write ``RUN/report.html``, one file that opens offline.

    Args:
        run: the folder of a run, finished or not, of a model or of a teacher.

    Returns:
        the report's path.

    Raises:
        UserError: when the folder holds no run, or cannot be written.
    """
    record = read_record(run)
    return write_page(
        run / "report.html",
        "run.html.j2",
        title=run_title(record),
        sentence=result_sentence(record),
        record=record,
        facts=run_facts(record),
        rows=accuracy_rows(record),
        plots=run_curves(record),
        views_text=views_text(record.gallery.views),
        decisions=decision_facts(record),
        notes=record.result.get("notes") or [],
        bad_images=record.result.get("bad_images") or [],
    )


def run_title(record: RunRecord) -> str:
    """What the run is called: its folder's name, and its recipe's where that says more."""
    folder = record.path.resolve().name
    name = recipe_value(record.recipe, "name")
    return f"{folder} ({name})" if name and name not in folder else folder


def result_sentence(record: RunRecord) -> str:
    """The result in a sentence, or two when there is a teacher."""
    epochs = recipe_value(record.recipe, "epochs")
    done = f"{record.epochs_done:.4g}"
    opening = {
        "finished": f"After {done} epochs",
        "interrupted": f"Interrupted after {done} of {epochs} epochs: so far",
    }.get(record.result.get("state", ""), f"Not finished, at epoch {done} of {epochs}: so far")
    row = next((row for row in accuracy_rows(record) if row.counts), None)
    if row is None:
        return f"{opening} nothing has been measured on the validation images."
    how = "" if row.head == HEADS["class"] else " (joint decision of both heads)"
    text = (
        f"{opening}, {percent(row.top1.mean, 1)} of {number(row.count)} validation images are "
        f"recognised{how}."
    )
    teacher_top1 = record.teacher[1]
    if teacher_top1 is not None:
        text += f" The teacher recognises {percent(teacher_top1, 1)}."
    return text


def accuracy_rows(record: RunRecord) -> list[AccuracyRow]:
    """The last measurement of each head with the raw and with the averaged weights.

    What counts are the weights of the last step: predictions.csv, and so the confusions below the
    table, are theirs, and they were not chosen on the validation images.
    """
    evaluations = record.evaluations
    rows = []
    for weights in WEIGHTS:
        measured = evaluations.get(weights) or {}
        decisive = "joint" if "joint" in measured else "class"
        rows += [
            _accuracy_row(measured[head], head, weights, weights == "raw" and head == decisive)
            for head in HEADS
            if head in measured
        ]
    return rows


def run_facts(record: RunRecord) -> list[tuple[str, str]]:
    """What the run was, in pairs of term and value; what is not known is left out."""
    result, recipe = record.result, record.recipe
    facts = {
        "Data": recipe_value(recipe, "data.source"),
        "Model": recipe_value(recipe, "model.name") or recipe_value(recipe, "model.kind"),
        "Learns from": lesson(record),
        "Teacher": _teacher_text(record),
        "Best measured": _best_text(result.get("best") or {}),
        "Steps": number(record.steps_done),
        "Batch size": recipe_value(recipe, "batch_size"),
        "Seed": recipe_value(recipe, "seed"),
        "Time": duration(result.get("seconds")),
        "Training images per second": number(record.images_per_second),
        "Machine": record.environment.get("device"),
    }
    return [(term, str(value)) for term, value in facts.items() if value not in (None, "", NONE)]


def lesson(record: RunRecord) -> str:
    """What the model learns from, in words."""
    kind = recipe_value(record.recipe, "distillation.kind") or "none"
    weight = recipe_value(record.recipe, "distillation.weight")
    if kind == "none":
        return "the labels"
    if kind == "label":
        return "the labels, with two class tokens"
    token = recipe_value(record.recipe, "distillation.token")
    place = "a distillation token" if token else "the class token"
    answer = {"hard": "the teacher's decisions", "soft": "the teacher's probabilities"}[kind]
    return f"the labels and {answer} (weight {weight}), through {place}"


def views_text(views: tuple[View, ...]) -> str:
    """How often the teacher agrees with the labels of the views that are shown."""
    asked = [view for view in views if view.teacher is not None]
    if not asked:
        return ""
    agreed = sum(not view.disagrees for view in asked)
    return (
        f"The teacher sees one of the true classes in {agreed} of these {len(asked)} views; "
        "the others are marked."
    )


def decision_facts(record: RunRecord) -> dict[str, Any] | None:
    """What the predictions say: matrix or pairs, accuracy per class, agreement of the heads."""
    predictions = record.predictions
    if predictions is None or not predictions.labels:
        return None
    decisions = predictions.decisions
    classes = confusion.all_classes(record.classes, predictions.labels, decisions)
    matrix = confusion.confusion_matrix(classes, predictions.labels, decisions)
    accuracies = confusion.class_accuracies(classes, matrix)
    few = len(classes) <= MAX_MATRIX
    return {
        "classes": classes,
        "matrix": matrix.tolist() if few else None,
        "pairs": [] if few else confusion.confused_pairs(classes, matrix),
        "accuracies": accuracies if few else accuracies[:SHOWN_CLASSES],
        "all_accuracies": [] if few else accuracies,
        "count": len(decisions),
        "hits": int(matrix.trace()),
        "confidence": sum(predictions.confidences) / len(decisions),
        "heads_agree": _agreement(predictions.heads),
    }


def _accuracy_row(measured: dict[str, Any], head: str, weights: str, counts: bool) -> AccuracyRow:
    count = int(measured["count"])
    return AccuracyRow(
        head=HEADS[head],
        weights=WEIGHTS[weights],
        top1=accuracy_interval(round(measured["top1"] * count), count),
        top5=measured.get("top5"),
        nll=measured.get("nll"),
        count=count,
        counts=counts,
    )


def _teacher_text(record: RunRecord) -> str:
    name, top1 = record.teacher
    return name if top1 is None else f"{name or 'measured'}, {percent(top1)} top-1"


def _best_text(best: Mapping[str, Any]) -> str:
    if "top1" not in best:
        return ""
    weights = WEIGHTS.get(best.get("weights", ""), "")
    return f"{percent(best['top1'])} at epoch {best.get('epoch', 0):.4g}, {weights}"


def _agreement(heads: dict[str, list[str]]) -> float | None:
    """Share of images on which the class and the distillation head decide alike."""
    if "distillation" not in heads:
        return None
    pairs = list(zip(heads["class"], heads["distillation"], strict=True))
    return sum(ours == theirs for ours, theirs in pairs) / len(pairs)
