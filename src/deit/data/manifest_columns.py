"""Which columns of a table name images, classes and splits, and which names these may have."""

import difflib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from deit.data.class_order import is_number
from deit.data.classes import listed
from deit.data.names import printable
from deit.data.table import EXAMPLE, Table
from deit.data.tree import TRAIN, VALIDATION, is_image_name
from deit.errors import UserError

PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path")
IMAGES = ("image", "img", "image_path")
LABELS = ("label", "class", "class_name", "target", "category", "label_name")
SPLITS = ("split", "subset", "set", "fold")
"""What a column may be called, in any case of letters. The first of each, if it is there, is meant
before all others; else there has to be exactly one of them."""

LABEL_TEXTS = ("label_name", "class_name", "label_text")
"""A second column of labels: the names of classes whose numbers stand in the first."""

_NEAR = 0.8
"""How like ``split`` a name is, 0 to 1, that is taken for a slip: a letter lost, added, or two
exchanged."""

WANTED = frozenset({*PATHS, *IMAGES, *LABELS, *SPLITS, *LABEL_TEXTS})


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns that are used; "" for those that are not there.

    Attributes:
        path: of paths; not there where the table holds the images themselves.
        label: of classes.
        label_text: of the names of classes that are numbers in ``label``.
        split: of splits.
        image: of the images themselves, where the table holds them.
        unused: all others.
    """

    path: str
    label: str
    label_text: str = ""
    split: str = ""
    image: str = ""
    unused: tuple[str, ...] = ()

    def notes(self, title: str) -> tuple[str, ...]:
        """Which column is used for what, and which for nothing.

        >>> Columns(path="file", label="class", unused=("width",)).notes("a.csv")[0]
        "a.csv: images are named by the column 'file', their classes by 'class'"
        >>> Columns(path="", label="class", image="scan").notes("a.parquet")[0]
        "a.parquet: images lie in the column 'scan', their classes in 'class'"
        """
        at = "in" if self.image else "by"
        if self.image:
            parts = [f"images lie in the column '{self.image}'"]
            parts += [f"their names in '{self.path}'"] if self.path else []
        else:
            parts = [f"images are named by the column '{self.path}'"]
        parts.append(f"their classes {at} '{self.label}'")
        parts += [f"the classes' names stand in '{self.label_text}'"] if self.label_text else []
        parts += [f"their splits {at} '{self.split}'"] if self.split else []
        used = printable(f"{title}: {', '.join(parts)}")
        if not self.unused:
            return (used,)
        return (used, f"{title}: columns that are not used: {listed(self.unused)}")


def choose_columns(table: Table) -> Columns:
    """The columns of images, classes and splits.

    Raises:
        UserError: when one is missing, or several may be meant; when there is none of splits, but
            one that may be meant as such.
    """
    names = {name.strip().lower(): name for name in table.columns}
    path = _one_of(table, names, (*PATHS, *IMAGES), "path", required=table.images is None)
    numbers = [key for key in LABELS if key in names and _has_numbers(table, names[key])]
    texts = [key for key in LABEL_TEXTS if key in names and key not in numbers]
    label_text = names[texts[0]] if len(texts) == len(numbers) == 1 else ""
    allowed = tuple(key for key in LABELS if not label_text or key not in texts)
    label = _one_of(table, names, allowed, "label", required=True)
    split = _one_of(table, names, SPLITS, "split", required=False, suits=_is_no_fold_number)
    used = (table.image_column, path, label, label_text, split)
    unused = tuple(name for name in (*table.columns, *table.unread) if name not in used)
    if not split:
        _check_no_split(table, unused)
    return Columns(path, label, label_text, split, table.image_column, unused)


def says_splits(cells: Iterable[object]) -> bool:
    """Whether cells are names of splits, in any case of letters, or empty; not all empty.

    >>> says_splits(["Train", "val", None]), says_splits(["train", "cat"]), says_splits([""])
    (True, False, False)
    """
    names = ("" if cell is None else str(cell).strip().lower() for cell in cells)
    known = frozenset({"", TRAIN, *VALIDATION})
    seen = set()
    for name in names:
        if name not in known:
            return False
        seen.add(name)
    return bool(seen - {""})


def _check_no_split(table: Table, unused: Sequence[str]) -> None:
    """Raise for a column that may be meant as that of splits: by its name, or by what it holds."""
    for name in unused:
        near = difflib.get_close_matches(name.strip().lower(), SPLITS[:1], cutoff=_NEAR)
        if near or says_splits(table.columns.get(name, ())):
            why = f"its name is nearly '{SPLITS[0]}'" if near else "it holds names of splits"
            raise UserError(
                f"{table.title}: the column '{printable(name)}' is not used, but {why}",
                f"a column of splits called {' or '.join(SPLITS)}; or none",
                f"did you mean {SPLITS[0]}? rename the column, or remove it if it says no splits",
            )


def _one_of(
    table: Table,
    names: dict[str, str],
    allowed: Sequence[str],
    purpose: str,
    *,
    required: bool,
    suits: Callable[[Table, str], bool] = lambda table, name: True,
) -> str:
    """The one column that is called so; the first of the names goes before the others."""
    there = [names[key] for key in allowed if key in names and suits(table, names[key])]
    if not there and required:
        raise _missing(table, allowed, purpose)
    if len(there) > 1 and allowed[0] not in names:
        raise UserError(
            f"{table.title}: several columns may be the {purpose}: {listed(there)}",
            f"one of them, or one that is called '{allowed[0]}', which is then meant",
            f"rename the column that is meant to '{allowed[0]}'",
        )
    return there[0] if there else ""


def _missing(table: Table, allowed: Sequence[str], purpose: str) -> UserError:
    there = [*table.columns, *table.unread]
    if any(is_image_name(name) or "/" in name or os.sep in name for name in there):
        return UserError(
            f"{table.title} has no header: its first line is {listed(there)}",
            f"a first line that names the columns: {EXAMPLE}",
            "put the line `path,label` in front",
        )
    return UserError(
        f"{table.title}: no column is the {purpose}; there are {listed(there) or 'none'}",
        f"a column called {' or '.join(allowed)}",
        f"rename the column that is meant to '{allowed[0]}'",
    )


def _has_numbers(table: Table, name: str) -> bool:
    return all(is_number(str(cell)) for cell in table.columns[name])


def _is_no_fold_number(table: Table, name: str) -> bool:
    """Whether a column says splits: numbered folds of a cross-validation are none."""
    return name.strip().lower() != "fold" or not _has_numbers(table, name)
