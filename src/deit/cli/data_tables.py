"""The tables of `deit data stats`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rich.markup import escape
from rich.table import Table

from deit.data.names import printable

Split = Mapping[str, Any]


def split_table(described: Mapping[str, Any]) -> Table:
    """Sizes, formats and colours of both splits, from `deit.data.statistics.describe`."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    splits = [name for name in ("train", "val") if name in described]
    for name in splits:
        table.add_column(name, justify="right")

    def add(label: str, value: Callable[[Split], str]) -> None:
        table.add_row(label, *(value(described[name]) for name in splits))

    add("images", lambda split: f"{split['images']:,}")
    add("measured", lambda split: f"{split['measured']:,}")
    add("cannot be used", lambda split: f"{len(split['bad']):,}")
    for side in ("width", "height"):
        add(f"{side}, least to most", partial(_range, what=side, low="min", high="max"))
        add(f"{side}, middle half", partial(_range, what=side, low="q1", high="q3"))
        add(f"{side}, median", partial(_number, what=side, which="median"))
    add("formats", lambda split: _formats(split.get("formats", {})))
    add("bytes of a file, median", partial(_number, what="bytes", which="median"))
    add("all files", _all_bytes)
    for name in ("mean", "std"):
        add(f"{name} of R, G, B", partial(_channels, what=name))
    return table


def class_table(described: Mapping[str, Any], most: int = 40) -> Table:
    """Images of each class in both splits; of many classes the largest and the smallest."""
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    splits = [name for name in ("train", "val") if name in described]
    for name in splits:
        table.add_column(name, justify="right")
    counts = described["train"]["per_class"]
    names = sorted(counts, key=lambda name: -counts[name])
    cut = len(names) > most
    for name in names[: most // 2] if cut else names:
        table.add_row(*_class_row(described, splits, name))
    if cut:
        table.add_row(f"... {len(names) - 2 * (most // 2):,} more ...")
        for name in names[-(most // 2) :]:
            table.add_row(*_class_row(described, splits, name))
    return table


def _class_row(described: Mapping[str, Any], splits: list[str], name: str) -> list[str]:
    counts = (described[split]["per_class"].get(name, 0) for split in splits)
    return [escape(printable(name)), *(f"{count:,}" for count in counts)]


def _channels(split: Split, what: str) -> str:
    return " ".join(f"{value:.3f}" for value in split.get(what, []))


def _number(split: Split, what: str, which: str) -> str:
    return f"{split[what][which]:,.0f}" if what in split else "-"


def _range(split: Split, what: str, low: str, high: str) -> str:
    return f"{_number(split, what, low)} to {_number(split, what, high)}" if what in split else "-"


def _formats(formats: Mapping[str, int]) -> str:
    """With their shares of the measured images, where there are several."""
    total = sum(formats.values())
    shares = [f"{kind} {count / total:.1%}" for kind, count in formats.items()]
    return ", ".join(formats if len(formats) == 1 else shares) or "-"


def _all_bytes(split: Split) -> str:
    if "bytes" not in split:
        return "-"
    about = "" if split["measured"] == split["images"] else "about "
    return f"{about}{split['bytes']['all'] / 1e6:,.1f} MB"
