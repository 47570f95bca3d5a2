"""What verbs put out: tables for the terminal, files where they may be written."""

import codecs
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from deit.errors import UserError

if TYPE_CHECKING:
    from deit.report.comparison import Comparison

_PNG = b"\x89PNG\r\n"
_SVG = (b"<?xml", b"<svg", b"<!--", b"<!DOCTYPE svg")
_JSON_LINES = (".jsonl", ".ndjson")
_WEIGHTS = {"raw": "weights", "ema": "average of weights", "": ""}


def accuracy_table(evaluations: dict[str, Any]) -> Table:
    """Top-1, top-5 and NLL by head, for each kind of weights.

    Args:
        evaluations: ``{"raw": {"class": {"top1", "top5", "nll", "count"}, ...}, "ema": ...}``.
    """
    table = Table(box=None, pad_edge=False)
    several = len(evaluations) > 1
    for column in (*(("weights",) if several else ()), "head"):
        table.add_column(column)
    for column in ("top-1 %", "top-5 %", "NLL", "images"):
        table.add_column(column, justify="right")
    for kind, heads in evaluations.items():
        for head, values in heads.items():
            if not isinstance(values, dict):
                continue
            row = [head, f"{100 * values['top1']:.2f}", f"{100 * values['top5']:.2f}"]
            row += [f"{values['nll']:.4f}", f"{values['count']:,}"]
            table.add_row(*([_WEIGHTS[kind], *row] if several else row))
    return table


def check_writable(
    *paths: Path | None,
    json: Path | None = None,
    html: Path | None = None,
    plot: Path | None = None,
) -> None:
    """Refuse output files that could not be written or would destroy another, before any work.

    Args:
        paths: files of any kind.
        json, html, plot: files of the options ``--json``, ``--html`` and ``--plot``; an existing
            one is replaced if it is of that kind, judging by its beginning.

    Raises:
        UserError: names the first one whose folder does not exist, that is a folder, or that holds
            something else.
    """
    options = {"--json": json, "--html": html, "--plot": plot}
    for path in (*paths, *options.values()):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise UserError(
                f"{path} cannot be written", "a file in an existing folder", "choose another path"
            )
    for option, path in options.items():
        if path is not None and path.is_file() and not _is_replaceable(option, path):
            raise UserError(
                f"{option} {path} is there already, and is no earlier file of this option",
                "a new file, or one that was written by an earlier command",
                "choose another name",
            )


def _is_replaceable(option: str, path: Path) -> bool:
    """Whether a file is empty, or begins as those of the option do.

    JSON lines begin as JSON does and are what manifests are written in: no command writes them.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return False
    words = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if not start:
        return True
    if option == "--json":
        return path.suffix.lower() not in _JSON_LINES and words.startswith((b"{", b"["))
    if option == "--html":
        return words.startswith(b"<")
    return start.startswith(_PNG) if path.suffix.lower() == ".png" else words.startswith(_SVG)


def check_new_file(option: str, path: Path, force: bool) -> None:
    """Refuse a file that is there already, unless it may be replaced.

    Raises:
        UserError: names the option.
    """
    check_writable(path)
    if path.exists() and not force:
        raise UserError(
            f"{option} {path} exists already",
            "a new file: nothing is overwritten",
            f"choose another {option}, or add --force to replace it",
        )


def check_least(option: str, value: int, least: int) -> None:
    """Refuse a number below the least one that an option takes.

    Raises:
        UserError: names the option.
    """
    if value < least:
        raise UserError(f"{option} {value}", f"from {least}", "correct the number")


def comparison_table(comparison: "Comparison") -> Table:
    """Methods and heads with mean accuracy and the difference to the plain model."""
    from deit.report.intervals import paired_interval

    table = Table(box=None, pad_edge=False)
    for column in ("method", "decided by"):
        table.add_column(column)
    for column in ("top-1 %", "vs plain, 95 % interval", "NLL", "seconds"):
        table.add_column(column, justify="right")
    for row in comparison.rows:
        difference = ""
        if row.role == "student":
            interval = paired_interval(row.top1s, comparison.baseline.top1s)
            difference = f"{100 * interval.mean:+.2f}"
            if interval.low is not None and interval.high is not None:
                difference += f" ({100 * interval.low:+.2f} to {100 * interval.high:+.2f})"
        table.add_row(
            row.label,
            row.head,
            f"{100 * row.top1:.2f}",
            difference,
            "" if row.nll is None else f"{row.nll:.3f}",
            "" if row.seconds is None else f"{row.seconds:.0f}",
        )
    return table


def count_on_terminal(what: str) -> Callable[[int, int], None]:
    """A line that counts images, with their speed and the time left, on a terminal only."""
    from deit.run.progress import clock

    began = time.perf_counter()
    shown = 0.0

    def show(done: int, total: int) -> None:
        nonlocal shown
        now = time.perf_counter()
        if sys.stderr.isatty() and (done == total or now - shown > 0.1):
            shown = now
            speed = done / max(now - began, 1e-9)
            left = clock((total - done) / max(speed, 1e-9))
            text = f"{what} {done:,} of {total:,} images, {speed:,.0f} img/s, {left} left"
            end = "\r" if done < total else "\r\033[K"
            print(f"\033[K{text}", end=end, file=sys.stderr, flush=True)  # noqa: T201

    return show
