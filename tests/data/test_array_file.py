"""Files of arrays: written whole or not at all, and never trusted when damaged."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deit.data import array_file, cache
from deit.data.array_file import load, reopen, save

ARRAYS = {
    "bytes": np.arange(100, dtype=np.uint8),
    "none": np.zeros(0, dtype=np.int64),
    "table": np.arange(12, dtype=np.int32).reshape(3, 4),
    "unsigned": np.array([2**64 - 1], dtype=np.uint64),
}
ABOUT = {"root": "caf\udce9", "counts": [1, 2]}


SHARED = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.arrays"
    save(path, "kind", ABOUT, ARRAYS)
    return path


@pytest.mark.parametrize("is_local", [True, False])
def test_what_was_saved_is_loaded(
    is_local: bool, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mapped, or read where it lies on a network drive; no array can be written to."""
    monkeypatch.setattr(array_file, "is_local", lambda path: is_local)
    stored = load(file, "kind")
    assert stored is not None
    assert stored.about == ABOUT
    for name, array in ARRAYS.items():
        assert stored.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(stored.arrays[name], array)
        assert not stored.arrays[name].flags.writeable
    assert [path.name for path in file.parent.iterdir()] == ["x.arrays"]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(file: Path, place: int, bit: int) -> None:
    """In the header, in an array, in the digest."""
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= 1 << bit
    damaged = file.with_name("damaged")
    damaged.write_bytes(content)
    assert load(damaged, "kind") is None


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(length=st.integers(0, 10**6), tail=st.binary(max_size=40))
def test_a_cut_or_foreign_file_is_none(file: Path, length: int, tail: bytes) -> None:
    """Copied in part, or never one of ours."""
    content = file.read_bytes()
    damaged = file.with_name("damaged")
    damaged.write_bytes(content[: length % len(content)] + tail)
    assert load(damaged, "kind") is None
    damaged.write_bytes(tail)
    assert load(damaged, "kind") is None


def test_other_kinds_and_missing_files_are_none(file: Path) -> None:
    """A kind names what is meant by the arrays."""
    assert load(file, "another kind") is None
    assert load(file.parent, "kind") is None
    assert load(file.parent / "missing", "kind") is None


HEADERS = (
    b"[" * 100_000,
    b'{"kind": "kind", "about": {}, "arrays": [["a", "|O8", [1]]]}',
    b'{"kind": "kind", "about": {}, "arrays": [["a", "<i8", [-1]]]}',
    b'{"kind": "kind", "about": {}, "arrays": [["a", "<i8", [9223372036854775807, 4]]]}',
    b'{"kind": "kind", "about": {}, "arrays": [["a", "<i8", [1e9]]]}',
    b'{"kind": "kind", "about": [], "arrays": []}',
    b'{"kind": "kind", "about": {}, "arrays": 3}',
    b'{"kind": "kind"}',
    b"3",
)


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_a_header_that_means_harm_is_none(
    header: bytes, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a digest that is right: objects, sizes beyond the file or below nothing, no arrays."""
    head = array_file._MAGIC + len(header).to_bytes(8, "little") + header
    monkeypatch.setattr(array_file, "_head", lambda *of: head)
    save(file, "kind", {}, {"a": ARRAYS["bytes"]})
    assert load(file, "kind") is None


def _write(path: Path, number: int) -> None:
    for _ in range(20):
        save(path, "kind", {"number": number}, {"a": np.full(50_000, number)})


@pytest.mark.filterwarnings("ignore:.*use of fork")
def test_readers_beside_writers_see_whole_files(file: Path) -> None:
    """Two processes write other contents to the same place; each load is of one or the other."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(file, number)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        stored = load(file, "kind")
        assert stored is not None
        if "a" in stored.arrays:
            assert (stored.arrays["a"] == stored.about["number"]).all()
            seen.add(stored.about["number"])
    assert seen == {1, 2}
    assert [path.name for path in file.parent.iterdir()] == ["x.arrays"]


def test_a_replaced_file_stays_as_it_was_for_those_who_have_it(file: Path) -> None:
    """And who asks for it by its place is told that it is gone."""
    stored = load(file, "kind")
    assert stored is not None
    assert stored.is_there()
    np.testing.assert_array_equal(reopen(stored.place).arrays["table"], ARRAYS["table"])
    save(file, "kind", {}, {"table": np.zeros(3, dtype=np.int64)})
    np.testing.assert_array_equal(stored.arrays["table"], ARRAYS["table"])
    assert not stored.is_there()
    with pytest.raises(RuntimeError, match="was changed or deleted"):
        reopen(pickle.loads(pickle.dumps(stored.place)))


def test_what_was_unused_for_longest_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a limit; what a killed writer left goes after a day; other files stay."""
    monkeypatch.setenv("DEIT_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "MOST_BYTES", 250_000)
    (tmp_path / "index").mkdir()
    (tmp_path / "index/notes.txt").write_text("mine")
    (tmp_path / "index/.x.unfinished").write_text("half")
    monkeypatch.setattr(cache.time, "time", lambda: 2e10)
    for key in (b"1", b"2", b"3"):
        assert cache.keep("kind", key, {}, {"a": np.zeros(100_000, dtype=np.uint8)}) == ""
    kept = [cache.load("kind", key) is not None for key in (b"1", b"2", b"3")]
    assert kept == [False, True, True]
    assert cache.usage()[0] == 2
    assert (tmp_path / "index/notes.txt").exists()
