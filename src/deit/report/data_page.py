"""The page of `deit data stats`: classes, sizes, formats, colours, and some of the images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deit.report.page import NONE, number, percent, write_page
from deit.report.plots import Plot, Series, bar_plot, line_plot

MOST_CLASSES = 200
"""Rows of the table of classes; of more, the largest and the smallest are shown."""

_CHANNELS = (("R", "red", 5), ("G", "green", 2), ("B", "blue", 0))
_SPLITS = {"train": "training", "val": "validation"}


@dataclass(frozen=True, slots=True)
class Example:
    """An image of a class.

    Attributes:
        label: its class.
        name: its name.
        image: the picture as a data URI.
        small: whether it is to be shown enlarged, pixel by pixel.
    """

    label: str
    name: str
    image: str
    small: bool


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Images of a class in each split, and as shares of the largest class there."""

    label: str
    counts: tuple[int, ...]
    shares: tuple[float, ...]


def write_data_page(
    path: Path, title: str, described: Mapping[str, Any], examples: Sequence[Example]
) -> Path:
    """Write one HTML file that opens offline.

    Args:
        path: the file.
        title: how the data are called.
        described: what `deit.data.statistics.describe` gave.
        examples: some images, by class.

    Raises:
        UserError: when the place cannot be written.
    """
    splits = [split for split in _SPLITS if split in described]
    rows = class_rows(described, splits)
    left_out = max(len(rows) - MOST_CLASSES, 0)
    if left_out:
        rows = rows[: MOST_CLASSES // 2] + rows[-MOST_CLASSES // 2 :]
    return write_page(
        path,
        "data.html.j2",
        title=title,
        sentence=_sentence(described, splits),
        notes=described["notes"],
        splits=[_SPLITS[split] for split in splits],
        facts=[(_SPLITS[split], _facts(described[split])) for split in splits],
        classes=rows,
        left_out=left_out,
        size_plots=_size_plots(described, splits),
        level_plots=[
            _level_plot(described[split], _SPLITS[split]) for split in _measured(described)
        ],
        examples=examples,
    )


def class_rows(described: Mapping[str, Any], splits: Sequence[str]) -> list[ClassRow]:
    """Every class, the one with the most training images first."""
    per_class = [described[split]["per_class"] for split in splits]
    largest = [max(counts.values(), default=0) or 1 for counts in per_class]
    rows = []
    for label in described["classes"]:
        counts = tuple(counts.get(label, 0) for counts in per_class)
        shares = tuple(count / most for count, most in zip(counts, largest, strict=True))
        rows.append(ClassRow(label, counts, shares))
    return sorted(rows, key=lambda row: row.counts, reverse=True)


def _sentence(described: Mapping[str, Any], splits: Sequence[str]) -> str:
    counts = " and ".join(
        f"{number(described[split]['images'])} {_SPLITS[split]}" for split in splits
    )
    return f"{counts} images of {number(len(described['classes']))} classes."


def _measured(described: Mapping[str, Any]) -> list[str]:
    """The splits of which any image could be measured."""
    return [split for split in _SPLITS if described.get(split, {}).get("measured")]


def _facts(split: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of term and value about one split."""
    facts = [
        ("measured", f"{number(split['measured'])} of {number(split['images'])}"),
        ("cannot be used", number(len(split["bad"]))),
    ]
    if not split["measured"]:
        return facts
    formats = [f"{kind} {number(count)}" for kind, count in split["formats"].items()]
    facts += [
        ("width", _range(split["width"], "px")),
        ("height", _range(split["height"], "px")),
        ("width / height", _range(split["aspect"], "", digits=2)),
        ("formats", ", ".join(formats) or NONE),
    ]
    if "bytes" in split:
        sizes = {key: value / 1000 for key, value in split["bytes"].items()}
        about = "" if split["measured"] == split["images"] else "about "
        facts.append(("file", _range(sizes, "kB", digits=1)))
        facts.append(("all files", f"{about}{_bytes(split['bytes']['all'])}"))
    facts.append(("mean of R, G, B", ", ".join(f"{value:.4f}" for value in split["mean"])))
    facts.append(("deviation of R, G, B", ", ".join(f"{value:.4f}" for value in split["std"])))
    return facts


def _range(spread: Mapping[str, float], unit: str, digits: int = 0) -> str:
    low, median, high = (number(spread[key], digits) for key in ("min", "median", "max"))
    text = low if low == high else f"{low} to {high}, median {median}"
    return f"{text} {unit}".strip()


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def _size_plots(described: Mapping[str, Any], splits: Sequence[str]) -> list[Plot]:
    """Histograms of the shorter side, for splits whose images differ in size."""
    plots = []
    for split in splits:
        spread, found = (described[split].get(key) for key in ("height", "shorter_side"))
        if found is None or len(found["counts"]) < 2:
            continue
        name = _SPLITS[split]
        description = (
            f"{name} images by their shorter side, {found['edges'][0]} to {found['edges'][-1]} px; "
            f"median height {spread['median']:g} px"
        )
        plots.append(
            bar_plot(
                f"Shorter side, {name} images",
                description,
                found["edges"],
                found["counts"],
                x_label="pixels",
            )
        )
    return plots


def _level_plot(split: Mapping[str, Any], name: str) -> Plot:
    series = [
        Series(label, range(256), split["levels"][channel], colour)
        for channel, label, colour in _CHANNELS
    ]
    darkest, brightest = (
        sum(split["levels"][channel][level] for channel, *_ in _CHANNELS) / 3 for level in (0, 255)
    )
    description = (
        f"share of the pixels at each level, {name} images; {percent(darkest, 1)} are at 0 and "
        f"{percent(brightest, 1)} at 255"
    )
    return line_plot(
        f"Levels, {name} images",
        description,
        series,
        x_label="level, 0 to 255",
        percent=True,
        from_zero=True,
    )
