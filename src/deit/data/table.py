"""A table in a file, as columns of cells: CSV, TSV or JSON lines. What it means is not known here.

Text is UTF-8, with or without a byte order mark, with any ends of lines. Parquet is read by
`deit.data.parquet_table` into the same `Table`.
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deit.data.classes import listed
from deit.data.names import printable
from deit.data.parquet_images import ParquetImages
from deit.errors import UserError

JSON_LINES = (".jsonl", ".ndjson")

EXAMPLE = "path,label / cat/1.jpg,cat"
"""The least that a table holds, for messages; the stroke stands for the end of a line."""

_OTHER_UNICODE = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What stands in a file.

    Attributes:
        path: the file.
        columns: the cells of each column by its name; all of one length.
        lines: the line at which each row begins, or its number, from 1.
        unit: what ``lines`` counts, for messages.
        unread: names of columns that were not read, because no image's path or class is in them.
        class_names: for columns that hold the places of names in a list: that list.
        images: where the table holds the images themselves, those; else their paths are in it.
        image_column: the name of their column.
        image_paths: how the table calls the images that it holds, where it does.
    """

    path: str
    columns: Mapping[str, Sequence[object]]
    lines: Sequence[int]
    unit: str = "line"
    unread: Sequence[str] = ()
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    images: ParquetImages | None = None
    image_column: str = ""
    image_paths: Sequence[object] | None = None

    @property
    def title(self) -> str:
        """The file, printable."""
        return printable(self.path)

    @property
    def folder(self) -> str:
        """The folder that the file lies in, absolute: paths in it begin there."""
        return os.path.dirname(os.path.abspath(self.path))

    def place(self, rows: Sequence[int]) -> str:
        """Where rows stand.

        >>> Table("x.csv", {}, lines=[2, 3, 7]).place([0, 2])
        'lines 2, 7'
        """
        plural = "s" if len(rows) > 1 else ""
        return f"{self.unit}{plural} {listed(str(self.lines[row]) for row in rows)}"


def read_text_table(path: str) -> Table:
    """Read a table of text; by the ending ``.tsv``, ``.jsonl`` or ``.ndjson``, else CSV.

    Raises:
        UserError: for what is no such table, with the line where that is seen.
    """
    text = _decoded(path, _content(path))
    if not text.strip():
        raise UserError(f"{printable(path)} is empty", EXAMPLE, "write a row for each image")
    if path.lower().endswith(JSON_LINES):
        return _json_lines(path, text)
    return _separated(path, text, "\t" if path.lower().endswith(".tsv") else "")


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(
            f"{printable(path)}: {error.strerror}", "a table that can be read", "check the path"
        ) from error


def _decoded(path: str, content: bytes) -> str:
    if content.startswith(_OTHER_UNICODE) or b"\0" in content[:4096]:
        what = "UTF-16 or UTF-32 text" if content.startswith(_OTHER_UNICODE) else "no text"
        raise UserError(
            f"{printable(path)} is {what}: it holds zero bytes",
            "a table of text in UTF-8",
            "save it again as UTF-8",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{printable(path)}, line {line}: byte 0x{content[error.start]:02x} is no UTF-8",
            "a table of text in UTF-8",
            "save it again as UTF-8; from spreadsheets, as `CSV UTF-8`",
        ) from error


def _separated(path: str, text: str, delimiter: str) -> Table:
    """Values between delimiters, in double quotes where need be (RFC 4180)."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter or _guess_delimiter(text),
        skipinitialspace=True,
        strict=True,
    )
    header: list[str] = []
    columns: list[list[str]] = []
    lines: list[int] = []
    before = 0
    try:
        for row in reader:
            if not header:
                header = [name.strip() for name in row]
                _check_header(path, header)
                columns = [[] for _ in header]
            elif row:
                _check_width(path, before + 1, row, header)
                for column, cell in zip(columns, row, strict=True):
                    column.append(cell)
                lines.append(before + 1)
            before = reader.line_num
    except csv.Error as error:
        raise UserError(
            f"{printable(path)}, line {before + 1}: {error}",
            'values with commas or quotes stand in double quotes: "a ""b"", c"',
            "correct that line; an opening quote may lack its partner",
        ) from error
    named = {name: column for name, column in zip(header, columns, strict=True) if name}
    return Table(path, named, lines)


def _guess_delimiter(text: str) -> str:
    """What parts the header: spreadsheets write semicolons or tabs where commas part decimals.

    >>> _guess_delimiter("path;label\\na,b.jpg;c"), _guess_delimiter("path\\n1.jpg")
    (';', ',')
    """
    header = text.lstrip()[:10_000].splitlines()[0]
    return next((each for each in _DELIMITERS if each in header), ",")


def _check_header(path: str, header: Sequence[str]) -> None:
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise UserError(
            f"{printable(path)}: columns that are there twice: {listed(twice)}",
            "a name of its own for each column",
            "rename or remove one of them",
        )


def _check_width(path: str, line: int, row: Sequence[str], header: Sequence[str]) -> None:
    if len(row) != len(header):
        raise UserError(
            f"{printable(path)}, line {line}: {len(row)} values for {len(header)} columns",
            f"as many as in the first line: {listed(header)}",
            'put values with commas into double quotes: "a, b.jpg"',
        )


def _json_lines(path: str, text: str) -> Table:
    """An object in each line. A key that an object lacks is an empty cell."""
    rows: list[dict[str, object]] = []
    lines: list[int] = []
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            rows.append(_json_object(path, line, content))
            lines.append(line)
    names = _ordered_union(rows)
    return Table(path, {name: [row.get(name) for row in rows] for name in names}, lines)


def _json_object(path: str, line: int, content: str) -> dict[str, object]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        value = error
    if not isinstance(value, dict):
        problem = f"no JSON: {value}" if isinstance(value, Exception) else "no JSON object"
        raise UserError(
            f"{printable(path)}, line {line}: {printable(problem)}",
            'an object in each line: {"path": "cat/1.jpg", "label": "cat"}',
            "correct that line",
        )
    return value


def _ordered_union(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """The keys of all rows, in the order in which they are first seen."""
    return list(dict.fromkeys(key for row in rows for key in row))
