"""The rows of a manifest, checked: each with a name, a class and a split.

Names are paths as they are written, without needless strokes and points, relative to the
manifest's folder where they lie in it. Classes are names; numbers stand for names where a list of
these is known, and are names themselves where none is.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from deit.data.class_order import is_number
from deit.data.classes import listed
from deit.data.manifest_columns import Columns, choose_columns
from deit.data.names import printable
from deit.data.table import Table
from deit.data.tree import TRAIN, VALIDATION
from deit.errors import UserError

CLASS_LIST = "classes.txt"
"""A file beside a manifest: the name of class 0 in its first line, of class 1 in the next."""

_SPLITS = frozenset({TRAIN, *VALIDATION})

_FRACTION = re.compile(r"[+-]?(\d+[.,]\d*|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What a manifest says of each image, in its order.

    Attributes:
        table: where it stands.
        numbers: the place of each row in the table.
        names: what the images are called.
        classes: the class of each, by name.
        splits: the split of each.
        order: the classes in the order of a list that the manifest comes with, if it does.
        named_by_path: whether the names are paths, not made from the rows' numbers.
        notes: what was decided.
    """

    table: Table
    numbers: Sequence[int]
    names: Sequence[str]
    classes: Sequence[str]
    splits: Sequence[str]
    order: tuple[str, ...]
    named_by_path: bool
    notes: tuple[str, ...]

    def of_split(self, split: str) -> "Rows":
        """The rows of one split."""
        return self._take([row for row, own in enumerate(self.splits) if own == split])

    def without_repeats(self) -> "Rows":
        """Each image once; a note says how many rows said the same again.

        Raises:
            UserError: for an image with two classes or in two splits.
        """
        first: dict[str, int] = {}
        repeats = []
        for row, name in enumerate(self.names):
            if first.setdefault(name, row) != row:
                repeats.append(row)
        if not repeats:
            return self
        for facts, what in ((self.classes, "class"), (self.splits, "split")):
            torn = [row for row in repeats if facts[row] != facts[first[self.names[row]]]]
            if torn:
                raise self._torn(what, facts, first[self.names[torn[0]]], torn)
        note = (
            f"{self.table.title}: {len(repeats)} rows name an image again and are not used: "
            f"{self.table.place([self.numbers[row] for row in repeats])}"
        )
        kept = self._take(sorted(first.values()))
        return replace(kept, notes=(*self.notes, note))

    def numbered(self) -> "Rows":
        """The same, named by split and row, counted from 0: ``train/000012``."""
        pairs = zip(self.splits, self.numbers, strict=True)
        names = [f"{split}/{number:06d}" for split, number in pairs]
        note = f"{self.table.title}: images have no paths of their own and are named by their rows"
        notes = (*self.notes, note) if self.named_by_path else self.notes
        return replace(self, names=names, named_by_path=False, notes=notes)

    def _take(self, rows: Sequence[int]) -> "Rows":
        return replace(
            self,
            numbers=[self.numbers[row] for row in rows],
            names=[self.names[row] for row in rows],
            classes=[self.classes[row] for row in rows],
            splits=[self.splits[row] for row in rows],
        )

    def _torn(self, what: str, facts: Sequence[str], row: int, again: Sequence[int]) -> UserError:
        name = self.names[row]
        others = [other for other in again if self.names[other] == name]
        found = listed(dict.fromkeys(facts[each] for each in (row, *others)))
        more = len({self.names[other] for other in again}) - 1
        return UserError(
            f"{self.table.title}: {printable(name)} is in more than one {what}: {found} "
            f"({self.table.place([self.numbers[each] for each in (row, *others)])})"
            + (f"; and {more} more like it" if more else ""),
            f"one {what} for each image",
            "correct or remove these rows",
        )


def read_rows(table: Table, split: str) -> Rows:
    """Check all rows of a table.

    Args:
        table: what was read.
        split: the split of its rows where no column says it.

    Raises:
        UserError: for columns that are missing or ambiguous, and for empty or impossible cells.
    """
    columns = choose_columns(table)
    if not table.lines:
        raise UserError(f"{table.title} has no rows", "a row for each image", "write some")
    classes, order, notes = _read_classes(table, columns)
    names = _read_names(table, columns)
    if table.images is not None and (cost := table.images.cost()):
        notes = (*notes, f"{table.title}: {cost}")
    rows = Rows(
        table,
        range(len(classes)),
        names or [],
        classes,
        _read_splits(table, columns.split) if columns.split else [split] * len(classes),
        order,
        named_by_path=True,
        notes=(*columns.notes(table.title), *notes),
    )
    return rows if names is not None else rows.numbered()


def _read_names(table: Table, columns: Columns) -> list[str] | None:
    """The paths; None where there are none, in a table that holds the images themselves."""
    cells = table.columns[columns.path] if columns.path else table.image_paths
    if cells is None or (not columns.path and not all(cells)):
        return None
    _refuse(table, cells, lambda cell: cell in (None, ""), "an empty path")
    _refuse(table, cells, lambda cell: not _is_path(cell), "no path of a file")
    inside = f"{table.folder}{os.sep}"
    return [_tidy(str(cell).removeprefix(inside)) for cell in cells]


def _is_path(cell: object) -> bool:
    return isinstance(cell, str) and "\0" not in cell and _is_encodable(cell)


def _is_encodable(text: str) -> bool:
    """False for halves of characters, which JSON can hold and no file name can."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _tidy(path: str) -> str:
    """A path without empty parts and points; steps up stay, since a link may lie before them.

    >>> _tidy("./cat//1.jpg"), _tidy("/data/../x.jpg")
    ('cat/1.jpg', '/data/../x.jpg')
    """
    if "//" not in path and "./" not in path:
        return path
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def _read_splits(table: Table, column: str) -> list[str]:
    cells = [str(cell).strip().lower() if cell else "" for cell in table.columns[column]]
    known = f"{TRAIN}, {', '.join(VALIDATION)}"
    _refuse(
        table,
        cells,
        lambda cell: not cell,
        f"no split in the column '{printable(column)}'",
        f"one of {known} for each image; or no such column",
        "write their splits",
    )
    unknown = sorted(set(cells) - _SPLITS)
    if unknown:
        rows = [row for row, cell in enumerate(cells) if cell in unknown]
        raise UserError(
            f"{table.title}: splits that are not known: {listed(unknown)} ({table.place(rows)})",
            known,
            f"correct them, or rename the column '{printable(column)}' if it says no splits",
        )
    return cells


def _read_classes(
    table: Table, columns: Columns
) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    """The class of every row by name, the classes' order if a list says it, and notes."""
    labels = _read_labels(table, columns.label)
    _check_one_way(table, labels)
    if not all(map(is_number, labels)):
        _refuse(table, labels, lambda text: text.startswith("-") and is_number(text[1:]), _NEGATIVE)
        return labels, (), ()
    if columns.label_text:
        names = _pairs(table, columns, labels, _read_labels(table, columns.label_text))
        order = tuple(names[number] for number in sorted(names, key=int))
        return [names[label] for label in labels], order, ()
    known, where = _known_names(table, columns.label)
    if not known:
        note = f"{table.title}: the classes are numbers, and so are their names"
        return labels, (), (note,)
    _refuse(
        table,
        labels,
        lambda label: int(label) >= len(known),
        f"a class above {len(known) - 1}, the last of {len(known)} in {where}",
    )
    names_note = f"{table.title}: the classes' names are from {where}"
    return [known[int(label)] for label in labels], known, (names_note,)


_NEGATIVE = "a class below 0, as images without a label often have"


def _read_labels(table: Table, column: str) -> list[str]:
    cells = table.columns[column]
    what = f"in the column '{printable(column)}'"
    _refuse(table, cells, _is_empty, f"no class {what}")
    _refuse(
        table,
        cells,
        _is_fraction,
        f"a number with a fraction {what}",
        "whole numbers or names",
        "write 1 for 1.0; pandas writes 1.0 where a column has empty cells, unless it is told "
        "astype('Int64')",
    )
    _refuse(table, cells, lambda cell: not _is_label(cell), f"neither text nor a number {what}")
    labels = [str(cell).strip() for cell in cells]
    _refuse(table, labels, lambda text: not text, f"no class {what}")
    return labels


def _is_empty(cell: object) -> bool:
    """Whether a cell holds nothing; a float that is no number is how some tables say so."""
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def _is_fraction(cell: object) -> bool:
    """Whether a cell is a number that is not written as a whole one.

    >>> _is_fraction("1.0"), _is_fraction(1.0), _is_fraction("1"), _is_fraction("1.0.2")
    (True, True, False, False)
    """
    if isinstance(cell, str):
        return _FRACTION.fullmatch(cell.strip()) is not None
    return isinstance(cell, (float, Decimal))


def _is_label(cell: object) -> bool:
    return _is_encodable(cell) if isinstance(cell, str) else type(cell) is int


def _check_one_way(table: Table, labels: Sequence[str]) -> None:
    """Raise for a number that is written in two ways, as 2 and 02: it would be two classes."""
    first = {label: row for row, label in reversed(list(enumerate(labels)))}
    numbers: dict[str, str] = {}
    for label in sorted(filter(str.isdecimal, first), key=first.__getitem__):
        other = numbers.setdefault(label.lstrip("0"), label)
        if other != label:
            raise UserError(
                f"{table.title}: classes written in two ways: {other} and {label} "
                f"({table.place([first[other], first[label]])})",
                "the same number written alike in all rows",
                "write it in one way",
            )


def _pairs(
    table: Table, columns: Columns, numbers: Sequence[str], texts: Sequence[str]
) -> dict[str, str]:
    """The name of each number."""
    pairs = dict(zip(numbers, texts, strict=True))
    by_name = {text: number for number, text in pairs.items()}
    for row, (number, text) in enumerate(zip(numbers, texts, strict=True)):
        if pairs[number] != text or by_name[text] != number:
            raise UserError(
                f"{table.title}, {table.place([row])}: class {number} is called "
                f"{printable(text)}, and elsewhere {printable(pairs[number])}"
                if pairs[number] != text
                else f"{table.title}, {table.place([row])}: {printable(text)} is class {number}, "
                f"and elsewhere {by_name[text]}",
                f"one name in '{columns.label_text}' for each number in '{columns.label}'",
                "correct the rows",
            )
    return pairs


def _known_names(table: Table, column: str) -> tuple[tuple[str, ...], str]:
    """The names that numbers stand for, and where they are from; none where nothing says them."""
    if column in table.class_names:
        return table.class_names[column], "the file's own list"
    path = os.path.join(table.folder, CLASS_LIST)
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = tuple(line.strip() for line in file.read().splitlines())
    except FileNotFoundError:
        return (), ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{printable(path)} cannot be read: {error}", "a name in each line", "mend or remove it"
        ) from error
    while names and not names[-1]:
        names = names[:-1]
    if not names or not all(names) or len(set(names)) < len(names):
        raise UserError(
            f"{printable(path)}: empty, or with an empty line or a name that is there twice",
            "the name of class 0 in the first line, of class 1 in the next, and so on",
            "correct it; or remove it, and the numbers are the names",
        )
    return names, CLASS_LIST


def _refuse(
    table: Table,
    cells: Iterable[object],
    is_bad: Callable[..., bool],
    problem: str,
    allowed: str = "a path and a class for each image",
    todo: str = "correct or remove these rows",
) -> None:
    """Raise where cells are bad, naming the first few rows and how many there are."""
    bad = [row for row, cell in enumerate(cells) if is_bad(cell)]
    if bad:
        count = f"{len(bad)} rows have" if len(bad) > 1 else "a row has"
        raise UserError(
            f"{table.title}: {count} {problem}: {table.place(bad)}",
            allowed,
            todo,
        )
