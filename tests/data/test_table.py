"""Tables of text: what is read as which columns, and what is answered about files that are none."""

import json
from pathlib import Path

import pytest

from deit.data.table import Table, read_text_table
from deit.errors import UserError

CELLS = {"path": ["cat/1.jpg", "a, b.jpg"], "label": ["cat", 'the "dog"']}


def table_of(tmp_path: Path, content: bytes | str, name: str = "a.csv") -> Table:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_text_table(str(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'path,label\ncat/1.jpg,cat\n"a, b.jpg","the ""dog"""\n'),
        ("a.csv", '\ufeffpath,label\r\ncat/1.jpg,cat\r\n"a, b.jpg","the ""dog"""'),
        ("a.csv", '\n"path", label \n\ncat/1.jpg, cat\n"a, b.jpg", "the ""dog"""\n\n'),
        ("a.csv", 'path;label\ncat/1.jpg;cat\na, b.jpg;"the ""dog"""\n'),
        ("a.tsv", 'path\tlabel\ncat/1.jpg\tcat\na, b.jpg\t"the ""dog"""\n'),
        ("a.csv", 'path\tlabel\ncat/1.jpg\tcat\na, b.jpg\t"the ""dog"""\n'),
        ("a.csv", ',path,label\n0,cat/1.jpg,cat\n1,"a, b.jpg","the ""dog"""\n'),
    ],
    ids=["plain", "spreadsheet", "spaced", "semicolons", "tsv", "tabs", "pandas"],
)
def test_columns_are_read_however_they_are_written(tmp_path: Path, name: str, content: str) -> None:
    """Byte order mark, ends of lines, quotes, spaces behind commas, an index without a name."""
    table = table_of(tmp_path, content, name)
    assert {key: list(column) for key, column in table.columns.items()} == CELLS


def test_json_lines_are_read(tmp_path: Path) -> None:
    """Objects may lack keys; lines may be empty; a line separator of Unicode ends no line."""
    rows = [{"path": "1\u2028.jpg", "label": 3}, {"label": "cat", "more": [1, None]}]
    content = "\ufeff" + "\r\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    table = table_of(tmp_path, content, "a.jsonl")
    assert table.columns == {
        "path": ["1\u2028.jpg", None],
        "label": [3, "cat"],
        "more": [None, [1, None]],
    }
    assert table.lines == [1, 3]


def test_rows_know_the_line_that_they_begin_at(tmp_path: Path) -> None:
    """Quoted cells may go over several; empty lines count."""
    table = table_of(tmp_path, 'path,label\n\n"a\nb.jpg",cat\nc.jpg,dog\n')
    assert table.lines == [3, 5]
    assert table.place([1]) == "line 5"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"\xef\xbb\xbf \r\n\n", "a.csv is empty"),
        ("a.csv", "path,label\n".encode("utf-16"), r"is UTF-16 or UTF-32 text(.|\n)*UTF-8"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\r", r"is no text: it holds zero bytes"),
        ("a.csv", "path,label\ncaf\xe9.jpg,x".encode("latin-1"), r"line 2: byte 0xe9 is no UTF-8"),
        ("a.csv", b"path,label\na,b.jpg,cat\n", "line 2: 3 values for 2 columns"),
        ("a.csv", b"path,label\na.jpg\n", "line 2: 1 values for 2 columns"),
        ("a.csv", b'path,label\n\n"a.jpg,cat\nb.jpg,dog\n', r"line 3: (.|\n)*quote may lack"),
        ("a.csv", b'path,label\n"a".jpg,cat\n', "line 2: "),
        ("a.csv", b"path,label,path\n", "columns that are there twice: path"),
        ("a.jsonl", b'{"path": "a.jpg"}\n{"path": \n', "line 2: no JSON: Expecting value"),
        ("a.jsonl", b'["a.jpg", "cat"]\n', r'line 1: no JSON object\n.*\{"path": "cat/1'),
        ("a.jsonl", b"[" * 100_000, "line 1: no JSON: "),
        ("a.ndjson", b"1" * 10_000, "line 1: no JSON: Exceeds the limit"),
    ],
)
def test_what_is_no_table_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """With the line at which that is seen."""
    with pytest.raises(UserError, match=message):
        table_of(tmp_path, content, name)


def test_a_table_that_cannot_be_opened_is_answered(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(UserError, match=r"none\.csv: No such file"):
        read_text_table(str(tmp_path / "none.csv"))
