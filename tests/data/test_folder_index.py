"""The index of a folder: what it gives is what a fresh listing gives, whatever has happened."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deit.data import cache, file_systems
from kept_index import fresh, outcome, put, settle


def test_a_second_start_lists_no_class_folder(
    index: Path, photos: Path, scanned: list[str]
) -> None:
    """Only the folders above the classes; what is found is the same."""
    settle()
    first = outcome(photos)
    assert {"cat", "dog", "fox", "paws", "linked"} <= set(scanned)
    scanned.clear()
    assert outcome(photos) == first
    assert set(scanned) - {"index"} == {"photos", "train", "val"}
    assert first == fresh(photos)


def replace_by_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    put(path / "inside.png")


def restore_times(folder: Path, change: Callable[[], None]) -> None:
    """What rsync and tar do."""
    before = folder.stat()
    change()
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_copy(folder: Path) -> None:
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy, symlinks=True)
    swap(folder, copy)


def swap(one: Path, other: Path) -> None:
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


CHANGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "a file comes": (lambda r: put(r / "train/cat/0.jpg"), {"cat", "paws"}),
    "a file goes": (lambda r: (r / "train/cat/2.jpg").unlink(), {"cat", "paws"}),
    "a file is renamed": (
        lambda r: (r / "val/dog/1.jpg").rename(r / "val/dog/9.jpg"),
        {"dog"},
    ),
    "a file comes in a nested folder": (
        lambda r: put(r / "train/cat/paws/4.jpg"),
        {"cat", "paws"},
    ),
    "a nested folder comes": (lambda r: put(r / "train/dog/ears/4.jpg"), {"dog", "ears"}),
    "a nested folder goes": (lambda r: shutil.rmtree(r / "train/cat/paws"), {"cat"}),
    "a file that is no image": (lambda r: put(r / "train/cat/b.doc"), {"cat", "paws"}),
    "a class comes": (lambda r: put(r / "train/ant/1.jpg"), {"ant"}),
    "a class goes": (
        lambda r: [shutil.rmtree(r / split / "dog") for split in ("train", "val")],
        set(),
    ),
    "a class is renamed": (
        lambda r: [(r / split / "dog").rename(r / split / "cow") for split in ("train", "val")],
        {"cow"},
    ),
    "two classes change places": (
        lambda r: swap(r / "train/cat", r / "train/fox"),
        {"cat", "fox", "paws", "linked", "deep"},
    ),
    "a file comes behind a link": (
        lambda r: put(r.parent / "elsewhere/dogs/deep/10.png"),
        {"fox", "linked", "deep"},
    ),
    "a linked file becomes a folder": (
        lambda r: replace_by_folder(r.parent / "elsewhere/cats/7.png"),
        {"dog", "link.png"},
    ),
    "a dead link comes to life as a folder": (
        lambda r: replace_by_folder(r.parent / "elsewhere/cats/later.png"),
        {"dog", "dead.png"},
    ),
    "so does one into no folder": (
        lambda r: replace_by_folder(r.parent / "gone/away.png"),
        {"dog", "lost.png"},
    ),
    "a linked folder is another one": (
        lambda r: swap(r.parent / "elsewhere/dogs", r.parent / "elsewhere/cats"),
        {"fox", "linked", "dog"},
    ),
    "the time is set back after a change": (
        lambda r: restore_times(r / "train/cat", lambda: put(r / "train/cat/0.jpg")),
        {"cat", "paws"},
    ),
    "a file is written anew": (lambda r: put(r / "train/cat/1.jpg"), set()),
    "the whole folder is another one": (
        replace_by_copy,
        {"cat", "dog", "fox", "paws", "linked", "deep"},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_listed_again_and_nothing_else(
    change: str, index: Path, photos: Path, scanned: list[str]
) -> None:
    """The listing after any change is the fresh one; other class folders are not looked into."""
    settle()
    outcome(photos)
    act, expected = CHANGES[change]
    act(photos)
    settle()
    scanned.clear()
    now = outcome(photos)
    again = set(scanned) - {"index", "photos", "train", "val"}
    assert now == fresh(photos)
    assert again == expected
    scanned.clear()
    assert outcome(photos) == now
    assert set(scanned) - {"index"} == {"photos", "train", "val"}


PARTS = st.sampled_from(["a", "b", "c"])
PATHS = st.builds(
    lambda split, parts, file: "/".join([split, *parts, file]),
    st.sampled_from(["train", "train", "val", "elsewhere"]),
    st.lists(PARTS, min_size=1, max_size=3),
    st.sampled_from(["1.png", "2.png", "x.txt", "d.png"]),
)
ACTIONS = st.tuples(
    st.sampled_from(["put", "put", "remove", "rename", "link", "folder", "restore"]), PATHS, PATHS
)


def act(root: Path, action: str, one: str, other: str) -> None:
    """One of many things that may happen to a folder; nothing where it cannot."""
    path, second = root / one, root / other
    try:
        if action == "put":
            put(path)
        elif action == "remove":
            shutil.rmtree(path.parent) if len(one) % 2 else path.unlink()
        elif action == "rename":
            second.parent.mkdir(parents=True, exist_ok=True)
            path.parent.rename(second.parent / "moved") if len(one) % 2 else path.rename(second)
        elif action == "link":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(second.parent if len(other) % 2 else second)
        elif action == "folder":
            replace_by_folder(path)
        else:
            restore_times(path.parent, lambda: put(path))
    except OSError:
        pass


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(ACTIONS, max_size=4), min_size=1, max_size=5))
def test_after_any_history_the_listing_is_the_fresh_one(
    index: Path,
    tmp_path_factory: pytest.TempPathFactory,
    history: list[list[tuple[str, str, str]]],
) -> None:
    """Files, folders and links come, go, move and change their kind, between starts."""
    root = tmp_path_factory.mktemp("data")
    for name in ("train/a/1.png", "train/b/1.png", "train/c/b/1.png", "val/a/1.png"):
        put(root / name)
    for step in history:
        for action, one, other in step:
            act(root, action, one, other)
        settle()
        assert outcome(root) == fresh(root)
        assert outcome(root) == fresh(root)


@pytest.mark.parametrize(
    ("is_local", "too_soon", "late_enough"), [(True, 0, 0.002), (False, 24, 26)]
)
def test_a_folder_that_was_changed_a_moment_ago_is_not_trusted(
    is_local: bool,
    too_soon: float,
    late_enough: float,
    photos: Path,
    tmp_path: Path,
    scanned: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A change in the same step of the clock would not show; nor by a clock that is hours off."""
    monkeypatch.setenv("DEIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "LEAST_IMAGES", 1)
    monkeypatch.setattr(file_systems, "is_local", lambda path: is_local)
    clock, seen = time.time_ns, []
    for hours in (too_soon, too_soon, late_enough, late_enough):
        monkeypatch.setattr(time, "time_ns", lambda hours=hours: clock() + int(hours * 3600e9))
        scanned.clear()
        outcome(photos)
        seen.append("paws" in scanned)
    assert seen == [True, True, True, False]


def test_a_folder_that_changes_while_it_is_listed_is_not_trusted(
    index: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that comes between the look at a folder and the end of its listing is not lost."""
    settle()
    scandir = os.scandir

    def late(path: str) -> object:
        entries = scandir(path)
        if str(path).endswith("train/cat"):
            listed = list(entries)
            put(photos / "train/cat/late.jpg")
            return _Listed(listed)
        return entries

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", late)
        outcome(photos)
    settle()
    assert outcome(photos) == fresh(photos)


class _Listed:
    def __init__(self, entries: list[os.DirEntry[str]]) -> None:
        self._entries = entries

    def __enter__(self) -> Iterator[os.DirEntry[str]]:
        return iter(self._entries)

    def __exit__(self, *problem: object) -> None:
        return None


@pytest.mark.parametrize("place", ["train/cat/up", "train/fox/linked/back"])
def test_links_that_lead_back_are_noted_from_the_index_too(
    place: str, index: Path, photos: Path
) -> None:
    """They depend on what lies above the class folder."""
    (photos / place).symlink_to(photos / "train")
    settle()
    first = outcome(photos)
    assert "lead back to a folder above" in str(first)
    assert outcome(photos) == first == fresh(photos)


def test_what_lies_above_may_change_without_the_folder(
    index: Path, photos: Path, tmp_path: Path
) -> None:
    """A link aside leads back once the data lie there, out of sight in a hidden folder."""
    (tmp_path / "box/.within").mkdir(parents=True)
    put(tmp_path / "box/1.png")
    (photos / "train/cat/far").symlink_to(tmp_path / "box")
    settle()
    assert "train/cat/far/1.png" in str(outcome(photos))
    photos.rename(tmp_path / "box/.within/photos")
    photos.symlink_to(tmp_path / "box/.within/photos")
    settle()
    assert "lead back" in str(outcome(photos))
    assert outcome(photos) == fresh(photos)
