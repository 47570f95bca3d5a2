"""How the findings of `deit data check` read on a terminal of 80 columns."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deit.data.names import printable

if TYPE_CHECKING:
    from rich.console import Console

    from deit.data.findings import Finding, Item
    from deit.programs.check_data import Checked

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_GROUP = 4  # images of a group that are shown


def print_checked(console: "Console", checked: "Checked", show: int) -> None:
    """The table of findings, the first ``show`` of each, and what to do.

    Args:
        console: where to print.
        checked: what was found.
        show: how many of each finding to name; the JSON has them all.
    """
    splits = ", ".join(f"{split} {count:,}" for split, count in checked.images.items())
    console.print(
        f"{printable(checked.source)}: {sum(checked.images.values()):,} images ({splits}), "
        f"{len(checked.classes):,} classes",
        markup=False,
        highlight=False,
    )
    for note in checked.notes:
        console.print(_inside(Text(f"note: {note}")))
    if checked.findings:
        console.print()
        console.print(_table(checked))
    for finding in checked.findings:
        console.print()
        for line in _section(finding, show):
            console.print(line)
    console.print()
    console.print(_conclusion(checked), highlight=False)


def _table(checked: "Checked") -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("found")
    table.add_column("", justify="right")
    table.add_column("")
    for finding in checked.findings:
        about = finding.about
        style = _STYLES[about.severity]
        unit = about.unit if len(finding.items) != 1 else _one(about.unit)
        table.add_row(f"[{style}]{about.severity}[/]", about.title, f"{len(finding.items):,}", unit)
    return table


def _section(finding: "Finding", show: int) -> Iterator[Padding | Text]:
    about = finding.about
    yield Text.assemble((about.severity, _STYLES[about.severity]), f": {about.title}")
    if finding.note:
        yield _inside(Text(f"({finding.note})", style="dim"))
    for item in finding.items[:show]:
        yield _inside(Text(_line(finding, item), overflow="fold"))
    if len(finding.items) > show:
        yield _inside(Text(f"... and {len(finding.items) - show:,} more"))
    if about.todo:
        yield _inside(Text(f"to do: {about.todo}"))


def _line(finding: "Finding", item: "Item") -> str:
    """One item in a line or a few: names, then what else is known."""
    values = item.values
    if finding.kind == "refused":
        parts = (values["given"], f"allowed: {values['allowed']}", f"to do: {values['todo']}")
        return "\n".join(map(str, parts))
    between = " ~ " if finding.kind.startswith("near") else " = "
    if len(item.images) > 1:
        mixed = len({image.label for image in item.images}) > 1
        names = [
            printable(image.name) + (f" ({printable(image.label)})" if mixed else "")
            for image in item.images[:_GROUP]
        ]
        more = len(item.images) - _GROUP
        return between.join(names) + (f" and {more:,} more" if more > 0 else "")
    names = [printable(image.name) for image in item.images] or list(map(printable, item.classes))
    text = ", ".join(names)
    match dict(values):
        case {"reason": reason}:
            return f"{text}: {reason}"
        case {"width": width, "height": height}:
            return f"{text}: {width} x {height}"
        case {"content": content, "ending": ending}:
            return f"{text}: {content}, not {ending}"
        case {"images": images}:
            return f"{text}: {images:,} images"
        case {"like": like}:
            return f"{text}; train has {printable(str(like))}"
    return text


def _inside(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2), expand=False)


def _conclusion(checked: "Checked") -> str:
    told = checked.count_kinds()
    errors, warnings = told["error"], told["warning"]
    if not errors and not warnings:
        return "nothing speaks against training on these data"
    words = [
        _counted(errors, "kind of error", "kinds of errors") if errors else "no errors",
        _counted(warnings, "kind of warning", "kinds of warnings") if warnings else "no warnings",
    ]
    return escape(", ".join(words))


def _counted(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _one(unit: str) -> str:
    return "class" if unit == "classes" else unit.removesuffix("s")
