"""What a worker that is started afresh gets of a source: little, and the same."""

import hashlib
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deit.data import cache, dataset
from deit.data.classes import ClassList
from deit.data.dataset import ArraySource, DataSet, set_aside, take_per_class
from deit.data.names import Names, stable_hash
from deit.data.packing import pack_choice, pack_labels, unpack
from deit.data.sources import open_data
from deit.programs.prepare import fingerprint
from kept_index import describe, outcome, put, settle

NAMES = st.lists(
    st.binary(min_size=1, max_size=20).map(
        lambda name: name.replace(b"\0", b"_").decode("utf-8", "surrogateescape")
    )
)


@given(st.lists(st.integers(0, 3), max_size=50), st.integers(1, 30))
def test_labels_are_unpacked_as_they_were(labels: list[int], repeats: int) -> None:
    """In runs or mixed, none or many."""
    array = np.repeat(np.array(labels, dtype=np.int64), repeats)
    np.testing.assert_array_equal(unpack(pack_labels(array)), array)


@given(st.lists(st.integers(-3, 500), max_size=50), st.booleans())
def test_a_choice_is_unpacked_as_it_was(indices: list[int], ascending: bool) -> None:
    """Ascending or in any order, with repetitions, from the end."""
    array = np.array(sorted(set(indices)) if ascending else indices, dtype=np.int64)
    np.testing.assert_array_equal(unpack(pack_choice(array)), array)


@given(st.lists(NAMES, max_size=5))
def test_joined_names_are_those_of_all_parts(parts: list[list[str]]) -> None:
    """Whatever the parts are, selections of one list among them."""
    expected = [name for part in parts for name in part]
    assert list(Names.joined(map(Names.of, parts))) == expected
    whole = Names.of(expected)
    middle = len(whole) // 2
    assert Names.joined([whole[:middle], whole[middle:]]) == whole
    assert list(Names.joined([whole[middle:], whole[:middle]])) == [
        *whole[middle:],
        *whole[:middle],
    ]
    backwards = whole.take(np.arange(len(whole))[::-1])
    assert list(pickle.loads(pickle.dumps(backwards))) == expected[::-1]


def test_many_names_are_gone_through_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the block are an implementation's own: one name more than three of them."""
    monkeypatch.setattr("deit.data.names._CHUNK", 7)
    expected = [f"{number}.jpg" for number in range(22)]
    names = Names.of(expected)
    assert list(names) == expected
    assert [name.decode() for name in names.encoded()] == expected
    assert names == Names.of(expected) != Names.of([*expected[:-1], "x.jpg"])


def many(count: int) -> ArraySource:
    labels = np.sort(np.arange(count) % 7)
    names = [f"train/class{label}/x/{number}.jpg" for number, label in enumerate(labels)]
    classes = ClassList(tuple(f"class{number}" for number in range(7)))
    return ArraySource(np.zeros((count, 1, 1), np.uint8), labels, classes, names)


def test_what_is_set_aside_is_that_of_the_definition(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lowest hashes of each class, whether computed or kept; and no hash is computed twice."""
    source = many(500)
    hashes = stable_hash([name.split("/", 2)[2] for name in source.names], "set aside")
    expected = []
    for label in range(7):
        members = np.flatnonzero(source.labels == label)
        share = (len(members) + 5) // 10
        expected += members[np.argsort(hashes[members])[:share]].tolist()
    first = [list(part.names) for part in set_aside(source, 10)]
    assert first[1] == [source.names[place] for place in sorted(expected)]
    monkeypatch.setattr(dataset, "stable_hash_of_bytes", None)
    assert [list(part.names) for part in set_aside(many(500), 10)] == first


def test_other_names_have_a_choice_of_their_own(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many, with the same labels: chosen is what would be without anything kept."""
    set_aside(many(500), 10)
    renamed = many(500)
    renamed.names = Names.of(name.replace("/x/", "/y/") for name in renamed.names)
    chosen = list(set_aside(renamed, 10)[1].names)
    monkeypatch.setenv("DEIT_INDEX", "off")
    assert chosen == list(set_aside(renamed, 10)[1].names)


def test_each_choice_is_kept_for_itself(index: Path) -> None:
    """Another number, purpose or list of images has another result."""
    sources = [many(500), many(501)]
    chosen = [take_per_class(source, number) for source in sources for number in (5, 6)]
    for _ in range(2):
        for selection, number in zip(chosen, (5, 6, 5, 6), strict=True):
            assert np.bincount(selection.labels).tolist() == [number] * 7
        chosen = [take_per_class(source, number) for source in sources for number in (5, 6)]
    assert set_aside(sources[0], 10)[1].names != take_per_class(sources[0], 7).names


def test_a_made_up_choice_is_made_anew(index: Path) -> None:
    """Other places, too many, out of order, twice: it must be so many images of each class."""
    first = list(take_per_class(many(500), 5).names)
    (file,) = index.glob("choice-*")
    kind = "choice"
    for wrong in ([0], [-1] * 35, [10**9] * 35, list(range(35)), list(range(465, 500))[::-1]):
        cache.array_file.save(file, kind, {}, {"chosen": np.array(wrong, dtype=np.int64)})
        assert list(take_per_class(many(500), 5).names) == first


@pytest.mark.filterwarnings("ignore:.*use of fork")
def test_a_spawned_worker_maps_the_index_again(index: Path, tmp_path: Path) -> None:
    """Names, labels and places of a selection are the same there, and were not sent."""
    for number in range(300):
        put(tmp_path / f"data/{'ab'[number % 2]}/{number:03d}-{'long' * 20}.jpg")
    settle()
    outcome(tmp_path / "data")
    train = open_data(str(tmp_path / "data")).train
    sent = pickle.dumps(train)
    assert b"longlong" not in sent
    assert len(sent) < 2000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(describe, (train,)) == describe(train)


@given(NAMES.filter(bool))
def test_the_fingerprint_is_that_of_its_definition(names: list[str]) -> None:
    """SHA-256 of the names as UTF-8 with zeros between, a zero and the labels: runs keep it."""
    labels = np.arange(len(names), dtype=np.int64) % 2
    images = np.zeros((len(names), 1, 1), np.uint8)
    source = ArraySource(images, labels, ClassList(("a", "b")), names)
    text = "\0".join(names).encode("utf-8", "surrogatepass") + b"\0" + labels.tobytes()
    assert fingerprint(DataSet(source, source))["train"] == {
        "images": len(names),
        "sha256": hashlib.sha256(text).hexdigest(),
    }
    assert os.fsencode(names[0]) == next(Names.of(names).encoded())
