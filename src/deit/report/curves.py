"""The curves of a run, from its journal."""

import math
from collections.abc import Sequence
from typing import Any

from deit.report.page import number, percent
from deit.report.plots import Plot, Series, line_plot
from deit.report.record import HEADS, WEIGHTS, RunRecord, recipe_value

Records = Sequence[dict[str, Any]]

_HEAD_COLOURS = {"class": 0, "distillation": 1, "joint": 2}
_KINDS = {"raw": "last step", "ema": "averaged"}  # short, for legends


def run_curves(record: RunRecord) -> list[Plot]:
    """Losses, accuracy, learning rate and speed over the epochs; only those that were measured."""
    steps = record.events("step")
    evaluations = record.events("evaluation")
    plots = [
        _loss_curve(steps, recipe_value(record.recipe, "distillation.kind")),
        _head_curve(evaluations, "top1", "Validation top-1"),
        _head_curve(evaluations, "nll", "Validation NLL"),
        _step_curve(steps, "lr", "Learning rate"),
        _step_curve(steps, "images_per_second", "Training speed, images per second"),
        _step_curve(steps, "data_wait", "Share of time spent waiting for data"),
    ]
    return [plot for plot in plots if plot is not None]


def _loss_curve(steps: Records, kind: str | None) -> Plot | None:
    second = "teacher's term" if kind in ("soft", "hard") else "second head's term"
    names = {"loss": "training loss", "loss_label": "label's term", "loss_teacher": second}
    series = [_series(steps, key, label, place) for place, (key, label) in enumerate(names.items())]
    drawn = [line for line in series if line.y]
    if not drawn or not series[0].y:
        return None
    if len(drawn) == 2:  # without a second term, the label's term is the loss
        drawn = drawn[:1]
    title = "Training loss" if len(drawn) == 1 else "Training loss and its terms before weighting"
    return line_plot(
        title, _travel("Training loss", series[0].y), drawn, x_label="epoch", from_zero=True
    )


def _step_curve(steps: Records, key: str, title: str) -> Plot | None:
    series = _series(steps, key, title, 0)
    if not series.y:
        return None
    share = key == "data_wait"
    mean = math.fsum(series.y) / len(series.y)
    text = {
        "lr": f"Learning rate, at most {max(series.y):.3g}, at the end {series.y[-1]:.3g}.",
        "images_per_second": f"{number(mean)} training images per second on average.",
        "data_wait": f"{percent(mean, 1)} of the time was spent waiting for data on average.",
    }[key]
    return line_plot(
        title,
        text,
        [series],
        x_label="epoch",
        percent=share,
        from_zero=True,
        least_top=0.1 if share else 0.0,
    )


def _head_curve(evaluations: Records, measure: str, title: str) -> Plot | None:
    """One line per head and kind of weights; the averaged weights solid, the raw ones dashed."""
    kinds = [kind for kind in WEIGHTS if any(e.get("weights", "raw") == kind for e in evaluations)]
    lines = []
    for kind in kinds:
        records = [e for e in evaluations if e.get("weights", "raw") == kind]
        for head in HEADS:
            measured = [e for e in records if measure in e.get(head, {})]
            line = Series(
                f"{head}, {_KINDS[kind]}" if len(kinds) > 1 else HEADS[head],
                [_epoch(e) for e in measured],
                [e[head][measure] for e in measured],
                colour=_HEAD_COLOURS[head],
                dashed=kind == "raw" and len(kinds) > 1,
            )
            if line.y:
                lines.append(line)
    if not lines:
        return None
    as_share = measure == "top1"
    text = _travel(f"{title} ({lines[-1].label})", lines[-1].y, percent if as_share else None)
    return line_plot(title, text, lines, x_label="epoch", percent=as_share)


def _series(steps: Records, key: str, label: str, colour: int) -> Series:
    measured = [step for step in steps if isinstance(step.get(key), int | float)]
    finite = [step for step in measured if math.isfinite(step[key])]
    return Series(label, [_epoch(s) for s in finite], [s[key] for s in finite], colour)


def _epoch(record: dict[str, Any]) -> float:
    return float(record.get("epoch", record.get("step", 0)))


def _travel(what: str, values: Sequence[float], form: Any = None) -> str:
    """Where a line begins and ends, in words."""
    first, last = (form(v, 1) if form else f"{v:.3g}" for v in (values[0], values[-1]))
    return f"{what}: from {first} at first to {last} at last."
