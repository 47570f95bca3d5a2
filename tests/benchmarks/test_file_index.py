"""The comparison of listings opens the same images in every way."""

import importlib.util
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "file_index.py"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("file_index", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_all_ways_open_the_same_number_of_images(program, tmp_path, monkeypatch):
    """Each file is a link to one of a few images; classes and counts are as asked for."""
    monkeypatch.setattr(program, "_LINKS", 5)
    assert program.make_tree(tmp_path / "tree", 3, 4, 2) == 18
    counts = {name: program.measure(name, str(tmp_path / "tree")) for name in program.OPENERS}
    assert {row["images"] for row in counts.values()} == {12}
    for row in counts.values():
        assert set(program._SHOWN) <= row.keys()
        assert row["sent_to_spawned_worker_bytes"] > 0


def test_shards_hold_as_many_images_as_they_say(program, tmp_path):
    """All of them can be opened as one data set."""
    assert program.make_shards(tmp_path / "shards", 2, 30) == 60
    opened = program.open_with_deit(str(tmp_path / "shards"))
    assert len(opened) == 40  # of 20 classes, one of three images of each is set aside


def test_the_table_shows_medians(program):
    """Of three runs the middle one, whatever their order."""
    runs = [dict.fromkeys(program._SHOWN, number) for number in (9, 1, 5)]
    text = program.table("a title", {"one way": runs, "bytes": 7})
    assert text.splitlines()[1].split() == ["one", "way", "5.000", "5.00", "5", "5"]
    assert len(text.splitlines()) == 2
