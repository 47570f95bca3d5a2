"""Which columns of a table name images, classes and splits, and which names these may have."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deit.data.class_order import is_number
from deit.data.classes import listed
from deit.data.names import printable
from deit.data.table import EXAMPLE, Table
from deit.data.tree import is_image_name
from deit.errors import UserError

PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path")
IMAGES = ("image", "img", "image_path")
LABELS = ("label", "class", "class_name", "target", "category", "label_name")
SPLITS = ("split", "subset", "set", "fold")
"""What a column may be called, in any case of letters. The first of each, if it is there, is meant
before all others; else there has to be exactly one of them."""

LABEL_TEXTS = ("label_name", "class_name", "label_text")
"""A second column of labels: the names of classes whose numbers stand in the first."""

WANTED = frozenset({*PATHS, *IMAGES, *LABELS, *SPLITS, *LABEL_TEXTS})


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns that are used; "" for those that are not there.

    Attributes:
        path: of paths; not there where the table holds the images themselves.
        label: of classes.
        label_text: of the names of classes that are numbers in ``label``.
        split: of splits.
    """

    path: str
    label: str
    label_text: str = ""
    split: str = ""

    def note(self, title: str) -> str:
        """Which column is used for what.

        >>> Columns(path="file", label="class").note("a.csv")
        "a.csv: images are named by the column 'file', their classes by 'class'"
        """
        parts = [f"images are named by the column '{self.path}'"] if self.path else []
        parts.append(f"their classes by '{self.label}'")
        parts += [f"the classes' names stand in '{self.label_text}'"] if self.label_text else []
        parts += [f"their splits by '{self.split}'"] if self.split else []
        return printable(f"{title}: {', '.join(parts)}")


def choose_columns(table: Table) -> Columns:
    """The columns of images, classes and splits.

    Raises:
        UserError: when one is missing, or several may be meant.
    """
    names = {name.strip().lower(): name for name in table.columns}
    path = _one_of(table, names, (*PATHS, *IMAGES), "path", required=table.images is None)
    numbers = [key for key in LABELS if key in names and _has_numbers(table, names[key])]
    texts = [key for key in LABEL_TEXTS if key in names and key not in numbers]
    label_text = names[texts[0]] if len(texts) == len(numbers) == 1 else ""
    allowed = tuple(key for key in LABELS if not label_text or key not in texts)
    label = _one_of(table, names, allowed, "label", required=True)
    split = _one_of(table, names, SPLITS, "split", required=False, suits=_is_no_fold_number)
    return Columns(path, label, label_text, split)


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
