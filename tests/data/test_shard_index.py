"""The index of tar shards: the same images as from their headers, whichever shard has changed."""

import contextlib
import io
import os
import pickle
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deit.data import archive_index, array_file, cache
from deit.data.images import BadImage
from deit.data.shards import ShardSource
from deit.data.sources import open_data
from kept_index import fresh, outcome, settle


def pack(path: Path, *names: str) -> None:
    """A tar archive of images of one pixel, and a link."""
    with tarfile.open(path, "w") as archive:
        for number, name in enumerate(names):
            content = b"P5 1 1 255 " + bytes([number])
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("train/cat/link.png")
        link.type = tarfile.SYMTYPE
        archive.addfile(link)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    pack(folder / "0.tar", "./train/cat/1.pgm", "train/dog/1.pgm", "train/dog/x.txt")
    pack(folder / "1.tar", "train/cat/2.pgm", "train/dog/caf\udce9.pgm", "val/dog/3.pgm")
    return folder


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The archives whose headers are read, by name."""
    read, names = archive_index.list_members, []

    def noting(path: str) -> object:
        names.append(os.path.basename(path))
        return read(path)

    monkeypatch.setattr(archive_index, "list_members", noting)
    return names


def pixels(source: ShardSource) -> list[bytes]:
    return [source.read(index).tobytes() for index in range(len(source))]


def test_a_second_start_reads_no_header(index: Path, shards: Path, parsed: list[str]) -> None:
    """Names, labels, notes and pixels are the same."""
    settle()
    first, source = outcome(shards), open_data(str(shards)).train
    assert parsed == ["0.tar", "1.tar"]
    assert outcome(shards) == first == fresh(shards)
    assert parsed == ["0.tar", "1.tar"] * 2  # the fresh one's
    assert pixels(open_data(str(shards)).train) == pixels(source)


CHANGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "written anew": (lambda f: pack(f / "0.tar", "train/dog/9.pgm", "train/cat/1.pgm"), ["0.tar"]),
    "another shard": (lambda f: pack(f / "2.tar", "train/ant/9.pgm"), ["2.tar"]),
    "one less": (lambda f: (f / "0.tar").unlink(), []),
    "replaced by an equal copy": (
        lambda f: [shutil.copy2(f / "0.tar", f / "c"), (f / "c").rename(f / "0.tar")],
        ["0.tar"],
    ),
    "cut": (lambda f: os.truncate(f / "1.tar", 2048), ["1.tar"]),
    "in place, with its old time": (lambda f: rename_within(f / "1.tar"), ["1.tar"]),
}


def rename_within(path: Path) -> None:
    """Another name of the same length, in an archive of the same size and time."""
    before = path.stat()
    pack(path, "train/cat/7.pgm", "train/dog/caf\udce9.pgm", "val/dog/3.pgm")
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", CHANGES)
def test_only_changed_shards_are_read_again(
    change: str, index: Path, shards: Path, parsed: list[str]
) -> None:
    """The listing is the one that all headers give."""
    settle()
    outcome(shards)
    act, expected = CHANGES[change]
    act(shards)
    settle()
    parsed.clear()
    now = outcome(shards)
    assert parsed == expected
    assert now == fresh(shards)
    assert outcome(shards) == now


def test_a_shard_that_was_written_a_moment_ago_is_read_again(
    shards: Path, parsed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written in the same step of the clock would not show."""
    monkeypatch.setenv("DEIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "LEAST_IMAGES", 1)
    monkeypatch.setattr(archive_index, "LEAST_MEMBERS", 1)
    clock, seen = time.time_ns, []
    for hours in (0, 0, 26, 26):
        monkeypatch.setattr(time, "time_ns", lambda hours=hours: clock() + int(hours * 3600e9))
        parsed.clear()
        outcome(shards)
        seen.append(len(parsed))
    assert seen == [2, 2, 2, 0]


@pytest.mark.parametrize("kind", ["archive", "shards"])
def test_a_made_up_index_never_leads_to_a_crash(kind: str, index: Path, shards: Path) -> None:
    """Any number in it may be another one: opening and reading end as with bad data."""
    settle()
    outcome(shards)
    file = sorted(index.glob(f"{kind}-*"))[0]
    good = array_file.load(file, kind)
    assert good is not None
    columns = sorted(name for name, array in good.arrays.items() if array.size)

    @settings(max_examples=30, deadline=None)
    @given(st.sampled_from(columns), st.integers(0, 999), st.integers(-(2**63), 2**63 - 1))
    def check(name: str, place: int, value: int) -> None:
        array = good.arrays[name].copy()
        array.reshape(-1)[place % array.size] = np.array([value]).astype(array.dtype)[0]
        array_file.save(file, kind, good.about, {**good.arrays, name: array})
        if kind == "archive":
            for other in index.glob("shards-*"):
                other.unlink()
        if isinstance(outcome(shards), tuple):
            source = open_data(str(shards)).train
            with contextlib.suppress(BadImage):
                pixels(source)

    check()


def test_a_worker_gets_the_place_of_the_index(index: Path, shards: Path) -> None:
    """And by value what has no such place, or whose index has been replaced."""
    settle()
    sources = [fresh_source(shards)]
    for _ in range(2):
        outcome(shards)
        sources += [open_data(str(shards)).train, open_data(str(shards)).val]
    expected = {len(source): pixels(source) for source in sources}
    for source in sources:
        again = pickle.loads(pickle.dumps(source))
        assert list(again.names) == list(source.names)
        assert again.labels.tolist() == source.labels.tolist()
        assert pixels(again) == expected[len(source)]
    shutil.rmtree(index)
    again = pickle.loads(pickle.dumps(sources[-2]))
    assert (list(again.names), pixels(again)) == (list(sources[-2].names), pixels(sources[-2]))


def fresh_source(root: Path) -> ShardSource:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEIT_INDEX", "off")
        return open_data(str(root)).train
