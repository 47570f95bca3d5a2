"""Where the index is kept, and what becomes of one that is damaged or made up."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deit.data import array_file, cache
from deit.data.names import Names
from deit.data.sources import open_data
from kept_index import fresh, outcome, settle


def test_small_folders_leave_no_index(photos: Path, tmp_path: Path) -> None:
    """To list them again takes no longer than to read an index."""
    before = cache.usage()
    settle()
    outcome(photos)
    assert cache.usage() == before


def test_the_index_can_be_switched_off(
    index: Path, photos: Path, scanned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither read nor written."""
    monkeypatch.setenv("DEIT_INDEX", "off")
    settle()
    outcome(photos)
    scanned.clear()
    outcome(photos)
    assert "paws" in scanned
    assert not index.exists()


def test_without_a_place_for_the_index_it_is_said_once(
    index: Path, photos: Path, tmp_path: Path
) -> None:
    """Everything else goes on as without."""
    (tmp_path / "cache").write_text("a file")
    settle()
    notes = [open_data(str(photos)).notes for _ in range(2)]
    assert [len(one) - len(notes[1]) for one in notes] == [1, 0]
    assert "index of files cannot be kept" in notes[0][-1]
    assert str(tmp_path / "cache") in notes[0][-1]


def test_on_a_full_disk_nothing_is_left(
    index: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No half of a file, and a note with the reason."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    settle()
    assert "No space left on device" in open_data(str(photos)).notes[-1]
    assert list(index.iterdir()) == []


def only_file(index: Path) -> Path:
    (file,) = index.glob("*.arrays")
    return file


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:500] + bytes([content[500] ^ 1]) + content[501:],
        lambda content: b"",
        lambda content: b"PK\x03\x04" + content,
    ],
    ids=["cut", "a bit", "empty", "foreign"],
)
def test_a_damaged_index_is_made_anew(
    damage: Callable[[bytes], bytes], index: Path, photos: Path, scanned: list[str]
) -> None:
    """Ignored, without a word; the start after that is helped by an index again."""
    settle()
    first = outcome(photos)
    file = only_file(index)
    file.write_bytes(damage(file.read_bytes()))
    scanned.clear()
    assert outcome(photos) == first
    assert "paws" in scanned
    scanned.clear()
    assert outcome(photos) == first
    assert "paws" not in scanned


def test_the_index_of_another_folder_is_not_taken(index: Path, photos: Path) -> None:
    """Whatever its file is called."""
    settle()
    outcome(photos)
    file = only_file(index)
    shutil.copytree(photos, photos.with_name("others"), symlinks=True)
    (photos.with_name("others") / "train/cat/only here.jpg").touch()
    settle()
    outcome(photos.with_name("others"))
    (other,) = set(index.glob("*.arrays")) - {file}
    shutil.copy(other, file)
    assert outcome(photos) == fresh(photos)


def rewrite(file: Path, changes: dict[str, np.ndarray], about: dict[str, object]) -> None:
    """Another file of the same kind, under a digest that is right."""
    kind = file.name.partition("-")[0]
    stored = array_file.load(file, kind)
    assert stored is not None
    array_file.save(file, kind, {**stored.about, **about}, {**stored.arrays, **changes})


NUMBERS = (0, 1, 46, 47, 255, 2**31, 2**63 - 1, 2**63 - 2, -1, -(2**63))


def test_a_made_up_index_never_leads_outside_or_to_a_crash(index: Path, photos: Path) -> None:
    """Any number in it may be another one: names stay below the folder, errors are `UserError`."""
    settle()
    first = outcome(photos)
    file = only_file(index)
    good = array_file.load(file, "folder")
    assert good is not None

    @settings(max_examples=40, deadline=None)
    @given(st.sampled_from(sorted(good.arrays)), st.integers(0, 999), st.sampled_from(NUMBERS))
    def check(name: str, place: int, value: int) -> None:
        array = good.arrays[name].copy()
        array[place % len(array)] = np.array([value]).astype(array.dtype)[0]
        array_file.save(file, "folder", good.about, {**good.arrays, name: array})
        found = outcome(photos)
        names = found[0][0][0] if isinstance(found, tuple) else []
        assert all(not n.startswith("/") and ".." not in n.split("/") for n in names)
        assert found == first or name in ("text", "firsts")

    check()


@pytest.mark.parametrize(
    "path", ["train/cat/../../../../etc/passwd", "/etc/passwd", "../x.jpg", "train/cat/.."]
)
def test_a_name_in_the_index_cannot_lead_out(path: str, index: Path, photos: Path) -> None:
    """Other names of the file's own length would not do: the list itself is replaced."""
    settle()
    first = outcome(photos)
    stored = array_file.load(only_file(index), "folder")
    assert stored is not None
    names = list(Names.stored(stored))
    names[1] = path
    rewrite(only_file(index), Names.of(names).arrays(), {})
    assert outcome(photos) == first


def test_parts_of_the_index_must_stand_in_their_order(index: Path, photos: Path) -> None:
    """Else a class might have the names of none, or of others."""
    settle()
    first = outcome(photos)
    stored = array_file.load(only_file(index), "folder")
    assert stored is not None
    firsts = stored.arrays["firsts"].copy()
    firsts[1] = firsts[0]
    firsts[2] = firsts[3] + 1
    rewrite(only_file(index), {"firsts": firsts}, {})
    assert outcome(photos) == first


@pytest.mark.parametrize(
    "about",
    [
        {"endings": 3},
        {"endings": {"train/cat": 3}},
        {"endings": {"train/cat": {".x": "many"}}},
        {"loops": {"train/cat": 3}},
        {"loops": None},
        {"version": 0},
        {"encoding": "utf-16"},
    ],
    ids=str,
)
def test_other_words_in_the_header_are_not_believed(
    about: dict[str, object], index: Path, photos: Path
) -> None:
    """Another version, another encoding of names, or no notes at all."""
    settle()
    first = outcome(photos)
    rewrite(only_file(index), {}, about)
    assert outcome(photos) == first
