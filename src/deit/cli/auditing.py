"""`deit audit DATA --labels DIR`: what a teacher's stored decisions say of the labels."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.table import Table

from deit.cli.options import metavar, parse
from deit.cli.tables import check_least, check_writable
from deit.run.folder import check_new, write_json

if TYPE_CHECKING:
    from deit.programs.audit import Audit

SHOWN = 15
"""Rows of each list on the terminal; the page has more."""


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Find likely wrong labels, objects that leave the crop, and classes that are confused.

    Reads a teacher's stored decisions on many views of each training image (`deit label`).

    A store for an audit is best recorded without mixing: mix.mixup=0 mix.cutmix=0.
    """

    data: Annotated[tyro.conf.Positional[str], metavar("DATA")]
    """The data that the labels were stored for: the same names and classes. Labels may have been
    changed since: those that the data have now are audited."""
    labels: Annotated[Path, metavar("DIR")]
    """The label store."""
    top: Annotated[int, metavar("N")] = 50
    """Entries of each list on the page and in the JSON."""
    out: Annotated[Path | None, metavar("DIR")] = None
    """Folder for the page, audit.html; must be new. Left out: audits/<store>-<time>."""
    csv: Annotated[Path | None, metavar("FILE")] = None
    """Also write every image, ranked, to this file: name, label, suggested, score, views,
    agreement."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """Also write figures and lists to this file."""


def audit(arguments: Sequence[str]) -> int:
    """`deit audit`."""
    options = parse(AuditOptions, arguments, verb="audit")
    check_least("--top", options.top, 1)
    check_writable(options.csv, json=options.json)
    out = (
        options.out or Path("audits") / f"{_stem(options.labels)}-{time.strftime('%Y%m%d-%H%M%S')}"
    )
    check_new(out)
    from rich.console import Console

    from deit.programs.audit import audit_labels
    from deit.programs.audit_files import result_sentence, summarise, write_csv, write_page
    from deit.run.progress import Monitor

    console = Console()
    labels = Path(str(options.labels).removeprefix("labels:"))
    audited = audit_labels(labels, source=options.data, monitor=Monitor(console))
    if options.csv:
        write_csv(audited, options.csv)
    if options.json:
        write_json(options.json, summarise(audited, options.top))
    page = write_page(audited, out, options.top)
    for line in (*_views_text(audited), *audited.notes, result_sentence(audited)):
        console.print(line, highlight=False, markup=False)
    for table in (suspect_table(audited), crop_table(audited), confusion_table(audited)):
        if table.row_count:
            console.print()
            console.print(table)
    for path in (page, options.csv, options.json):
        if path is not None:
            print(path)  # noqa: T201
    return 0


def suspect_table(audited: "Audit", rows: int = SHOWN) -> Table:
    """The likeliest wrong labels."""
    from deit.programs.audit_files import suspects

    table = _table(
        "Likely wrong labels", ("given", "suggested", "name"), ("score", "agree", "views")
    )
    for entry in suspects(audited, rows):
        cells = [f"{entry.score:.2f}", f"{entry.agreement:.0%}", f"{entry.views:,}"]
        table.add_row(*cells, *map(_cell, (entry.label, entry.suggested, entry.name)))
    return table


def crop_table(audited: "Audit", rows: int = SHOWN) -> Table:
    """The images whose object leaves the crop."""
    from deit.programs.audit_files import lost_objects

    table = _table(
        "Objects that leave the crop",
        ("given", "name"),
        ("excess", "large crops", "small crops", "views"),
    )
    for entry in lost_objects(audited, rows):
        cells = [f"{entry.excess:.2f}", f"{entry.much:.0%}", f"{entry.little:.0%}"]
        table.add_row(*cells, f"{entry.views:,}", *map(_cell, (entry.label, entry.name)))
    return table


def confusion_table(audited: "Audit", rows: int = SHOWN) -> Table:
    """The classes that the teacher confuses."""
    from deit.programs.audit_files import confused

    table = _table("Confused classes", ("given", "decided"), ("of its views", "views"))
    for entry in confused(audited, rows):
        cells = [f"{entry.share:.1%}", f"{entry.views:,}"]
        table.add_row(*cells, *map(_cell, (entry.label, entry.decided)))
    return table


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    for column in texts:
        table.add_column(column, overflow="fold")
    return table


def _cell(text: str) -> str:
    from rich.markup import escape

    from deit.data.names import printable

    return escape(printable(text))


def _views_text(audited: "Audit") -> list[str]:
    from deit.programs.audit_files import summarise

    told = summarise(audited, top=1)
    each = told["views_per_image"]
    return [
        f"{told['views']:,} views of {told['images']:,} images, {told['epochs']:,} epochs; of an "
        f"image {each['min']:,} to {each['max']:,}, median {each['median']:g}"
    ]


def _stem(path: Path) -> str:
    return path.resolve().name or "labels"
