"""A manifest as data: a table that names images and their classes (CSV, TSV, JSON lines, Parquet).

Images are in the order of its rows. Classes are sorted by name, numbers by value; where the
manifest comes with a list of classes, theirs is the order.
"""

import difflib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deit.data.class_order import sorted_classes
from deit.data.classes import ClassList, listed
from deit.data.dataset import Source
from deit.data.folder import FileSource
from deit.data.manifest_files import missing_files, no_files
from deit.data.manifest_rows import Rows, read_rows
from deit.data.names import Names, printable
from deit.data.parquet_images import ParquetSource
from deit.data.parquet_table import read_parquet_table
from deit.data.table import JSON_LINES, Table, read_text_table
from deit.data.tree import TRAIN, VALIDATION
from deit.errors import UserError

PARQUET = ".parquet"
MANIFESTS = (".csv", ".tsv", *JSON_LINES, PARQUET)
"""The endings by which a file is taken for a manifest."""


def is_manifest(spec: str) -> bool:
    """Whether DATA is called like a manifest and is no folder."""
    return spec.lower().endswith(MANIFESTS) and not os.path.isdir(os.path.expanduser(spec))


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that was read; see `read_manifest`.

    Attributes:
        title: how it is called in messages.
        rows: what it says, of all splits.
        split_alone: the validation split that the whole file is, by its name; "" for others.
        notes: what was decided.
    """

    title: str
    rows: Sequence[Rows]
    split_alone: str
    notes: Sequence[str]

    def open(self) -> tuple[Source, Source | None, list[str]]:
        """Training images, validation images where there are any, notes.

        Raises:
            UserError: for data that cannot be trained on, and files that are not there.
        """
        parts = self._parts()
        if self.split_alone:
            _check_no_training_manifest(self.rows[0].table.path, self.split_alone)
            parts = {TRAIN: parts[self.split_alone]}
        if TRAIN not in parts:
            raise UserError(
                f"{self.title}: rows of {listed(parts)} only, none of {TRAIN}",
                f"rows of {TRAIN}; one validation split alone can be measured on",
                "add the training images",
            )
        notes = list(self.notes)
        classes = _class_list(parts[TRAIN], notes)
        if len(classes) == 1:
            raise UserError(
                f"{self.title}: only one class, {listed(classes.names)}",
                "two classes or more",
                "add images of others",
            )
        used = next((name for name in VALIDATION if name in parts), None)
        unused = {name: len(rows.names) for name, rows in parts.items() if name != used}
        unused.pop(TRAIN)
        if unused:
            counted = listed(f"{name} ({count})" for name, count in unused.items())
            notes.append(f"{self.title}: splits that are not used: {counted}")
        self._check_files([parts[name] for name in (TRAIN, used) if name])
        train = _source(parts[TRAIN], classes, classes)
        if used is None:
            return train, None, notes
        own = _class_list(parts[used], [])
        return train, _source(parts[used], own, classes, used), notes

    def open_evaluation(self) -> tuple[Source, list[str]] | None:
        """The images of a validation split that stands alone, with notes; None for others.

        Raises:
            UserError: for files that are not there.
        """
        parts = self._parts()
        used = next((name for name in VALIDATION if name in parts), None)
        if TRAIN in parts or used is None:
            return None
        notes = list(self.notes)
        classes = _class_list(parts[used], notes)
        self._check_files([parts[used]])
        return _source(parts[used], classes, classes), notes

    def _check_files(self, parts: Sequence[Rows]) -> None:
        """Raise for files of some splits that are not there, counted over their whole table."""
        for rows in parts:
            if rows.table.images is None and missing_files(rows.table.folder, rows.names):
                (whole,) = (each for each in self.rows if each.table is rows.table)
                raise no_files(whole)

    def _parts(self) -> dict[str, Rows]:
        """The rows of each split that is there."""
        names = dict.fromkeys(split for rows in self.rows for split in rows.splits)
        parts = {}
        for name in names:
            (holder,) = (rows for rows in self.rows if name in rows.splits)
            parts[name] = holder.of_split(name)
        return parts


def read_manifest(spec: str) -> Manifest:
    """Read a manifest, and the one of its validation split where that lies beside it.

    The latter is looked for where the name has the word ``train`` and no row is of another split:
    ``val.csv`` beside ``train.csv``, ``birds_test.parquet`` beside ``birds_train.parquet``.

    Raises:
        UserError: for whatever is wrong with the table or a row of it.
    """
    path = os.path.expanduser(spec)
    _check_there(path)
    word = _split_word(path)
    rows = read_rows(_read(path), word if word in VALIDATION else TRAIN)
    tables = [rows]
    notes: list[str] = []
    if word == TRAIN and set(rows.splits) == {TRAIN}:
        beside = [other for name in VALIDATION if os.path.isfile(other := _renamed(path, name))]
        if beside:
            tables.append(_read_beside(path, beside[0], notes))
        if len(beside) > 1:
            unused = listed(map(os.path.basename, beside[1:]))
            notes.append(f"{printable(path)}: files beside it that are not used: {unused}")
    tables = _with_names(tables)
    alone = word if word in VALIDATION and set(rows.splits) == {word} else ""
    return Manifest(
        printable(spec), tables, alone, [*(note for rows in tables for note in rows.notes), *notes]
    )


def _check_there(path: str) -> None:
    if os.path.isfile(path):
        return
    folder, name = os.path.split(path)
    there = sorted(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else []
    near = difflib.get_close_matches(name, [n for n in there if n.lower().endswith(MANIFESTS)], n=1)
    meant = printable(os.path.join(folder, near[0])) if near else ""
    raise UserError(
        f"no file {printable(path)}",
        f"a manifest, {', '.join(MANIFESTS)}",
        f"did you mean {meant}?" if near else "check the path",
    )


def _read(path: str) -> Table:
    return read_parquet_table(path) if path.lower().endswith(PARQUET) else read_text_table(path)


def _read_beside(path: str, other: str, notes: list[str]) -> Rows:
    """The validation manifest beside a training manifest."""
    rows = read_rows(_read(other), _split_word(other))
    if TRAIN in rows.splits:
        raise UserError(
            f"{printable(other)}, beside {printable(path)}, has rows of {TRAIN} too",
            "one manifest with a column of splits, or one manifest for each split",
            "move one of the files elsewhere",
        )
    notes.append(f"{printable(path)}: {os.path.basename(other)} beside it is its validation split")
    return rows


def _split_word(path: str) -> str:
    """The split whose name stands by itself in a file's name; "" for none or several.

    >>> _split_word("data/birds_test.csv"), _split_word("labels.csv"), _split_word("latest.csv")
    ('test', '', '')
    """
    words = re.findall(r"[a-z]+", os.path.basename(path).lower())
    found = [word for word in words if word in (TRAIN, *VALIDATION)]
    return found[0] if len(found) == 1 else ""


def _renamed(path: str, split: str) -> str:
    """What the manifest of another split would be called."""
    folder, name = os.path.split(path)
    own = _split_word(path)
    renamed = re.sub(rf"(?<![a-z]){own}(?![a-z])", split, name, flags=re.IGNORECASE)
    return os.path.join(folder, renamed)


def _check_no_training_manifest(path: str, split: str) -> None:
    other = _renamed(path, TRAIN)
    if os.path.isfile(other):
        name = printable(os.path.basename(other))
        raise UserError(
            f"{printable(path)} is one split of a data set: {name} lies beside it",
            "the manifest of the training images, whose neighbour is found",
            f"give {printable(other)}",
        )


def _with_names(tables: list[Rows]) -> list[Rows]:
    """All rows with names that are there once in the data set.

    Images that a table holds itself may be called alike, as files of several folders are; then all
    go by their numbers. Files are what their paths say, so one that is named twice is one image.
    """
    held = [rows for rows in tables if rows.table.images is not None]
    names = Counter(name for rows in tables for name in rows.names)
    if held and not (
        all(rows.named_by_path for rows in held) and max(names.values(), default=0) <= 1
    ):
        return [rows.numbered() if rows.table.images is not None else rows for rows in tables]
    tables = [rows.without_repeats() for rows in tables]
    if len(tables) > 1:
        both = sorted(set(tables[0].names) & set(tables[1].names))
        if both:
            titles = " and ".join(rows.table.title for rows in tables)
            raise UserError(
                f"images that are in {titles}: {listed(both)}",
                "each image in one split",
                "remove them from one of the files",
            )
    return tables


def _class_list(rows: Rows, notes: list[str]) -> ClassList:
    """The classes that these rows have images of."""
    used = set(rows.classes)
    if not rows.order:
        return ClassList(sorted_classes(used))
    bare = [name for name in rows.order if name not in used]
    if bare:
        notes.append(
            f"{rows.table.title}: {len(bare)} of {len(rows.order)} classes have no image to learn "
            f"from and are left out: {listed(bare)}"
        )
    return ClassList(tuple(name for name in rows.order if name in used))


def _source(rows: Rows, own: ClassList, classes: ClassList, split: str = "") -> Source:
    """The images of some rows, their labels translated from their own class list by name."""
    new_index = classes.map_from(
        own,
        complete=False,
        these=f"the classes of {TRAIN}",
        others=f"those of {split}",
    )
    labels = new_index[np.array([own.index(name) for name in rows.classes], dtype=np.int64)]
    images = rows.table.images
    if images is not None:
        numbers = np.array(rows.numbers, dtype=np.int64)
        return ParquetSource(images, numbers, Names.of(rows.names), labels, classes)
    return FileSource(rows.table.folder, Names.of(rows.names), labels, classes)
