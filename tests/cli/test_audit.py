"""`deit audit` as a user types it."""

import csv
import json

import numpy as np
import pytest

from deit.cli.main import main
from deit.data.sources import open_data
from synthetic_store import digits_recipe, write_store


@pytest.fixture
def store(tmp_path):
    """Four views of 200 digits; the first 3 are always taken for an 8."""
    labels = np.array(open_data("digits", images_per_class=20).train.labels)
    labels[:3] = 8
    write_store(tmp_path / "store", digits_recipe(), lambda e, p, samples: labels[samples])
    return tmp_path / "store"


def test_audit_prints_lists_and_writes_files(store, capsys, tmp_path):
    """Three suspects on the terminal, in CSV, in JSON and on the page."""
    out, table, told = tmp_path / "out", tmp_path / "a.csv", tmp_path / "a.json"
    files = ["--out", str(out), "--csv", str(table), "--json", str(told)]
    assert main(["audit", "digits", "--labels", str(store), *files, "--top", "2"]) == 0
    said = capsys.readouterr().out
    assert "800 views of 200 images, 4 epochs; of an image 4 to 4, median 4" in said
    assert "contradicts the labels of 3 of 200 images" in said
    assert all(len(line) <= 80 for line in said.splitlines() if str(out) not in line)
    names = list(open_data("digits", images_per_class=20).train.names)[:3]
    assert all(name in said for name in names)
    with table.open(newline="") as file:
        assert {row["name"] for row in list(csv.DictReader(file))[:3]} == set(names)
    assert len(json.loads(told.read_text())["suspects"]) == 2
    assert (out / "audit.html").is_file()


def test_wrong_use_is_refused_with_one_message(store, capsys, tmp_path):
    """No store, other data, a folder that is taken, no entries; nothing is written."""
    photos = tmp_path / "photos"
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    for words, text in (
        (["digits", "--labels", str(tmp_path / "no")], "holds no stored labels"),
        ([str(photos), "--labels", str(store)], "photos"),
        (["digits", "--labels", str(store), "--out", str(taken)], "exists already"),
        (["digits", "--labels", str(store), "--out", str(taken / "file" / "x")], "file"),
        (["digits", "--labels", str(store), "--top", "0"], "--top 0"),
        (["digits", "--labels", str(store), "--csv", str(tmp_path / "no" / "a")], "cannot be"),
    ):
        new = [] if "--out" in words else ["--out", str(tmp_path / "out")]
        assert main(["audit", *words, *new]) == 2
        error = capsys.readouterr().err
        assert text in error
        assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
