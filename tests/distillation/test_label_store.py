"""Stored labels: rows that are right or unfilled, files that are whole or refused."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deit.distillation.label_rows import RowFormat
from deit.distillation.label_store import LabelStore, StoreHeader, differences
from deit.errors import RunError, UserError

POSITIONS = 300
FORMATS = {
    "decisions": RowFormat(num_classes=10),
    "confidence": RowFormat(num_classes=10, confidence=True),
    "soft": RowFormat(num_classes=10, top_k=4, temperature=3.0),
    "everything": RowFormat(num_classes=10, top_k=10, temperature=2.0, confidence=True),
    "many classes": RowFormat(num_classes=65_535, top_k=2),
}


def make_store(path: Path, rows: RowFormat, length: int | None = None) -> LabelStore:
    header = StoreHeader(
        classes=("a", "b"),
        positions=POSITIONS,
        rows=rows,
        identity={"data": 1},
        made_with={},
        examination={},
    )
    return LabelStore.create(path, header, length)


def answers(rows: RowFormat, count: int, seed: int = 0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(count, rows.num_classes)).astype(np.float32)
    return rows.encode(3 * logits)


@pytest.mark.parametrize("rows", FORMATS.values(), ids=FORMATS)
def test_what_was_written_is_read_back(tmp_path, rows):
    """In any order of positions, by another object, before and after the epoch is sealed."""
    written = answers(rows, POSITIONS)
    order = np.random.default_rng(1).permutation(POSITIONS)
    store = make_store(tmp_path, rows)
    for part in np.array_split(order, 7):
        store.write(2, part, written[part])
    for _ in range(2):
        held, filled = LabelStore.open(tmp_path).read(2, order)
        assert filled.all()
        assert held.tobytes() == written[order].tobytes()
        store.flush()
    assert LabelStore.open(tmp_path).check() == {}
    assert store.epochs == [2]


@pytest.mark.parametrize("rows", FORMATS.values(), ids=FORMATS)
def test_nothing_is_filled_before_it_is_written(tmp_path, rows):
    """A new epoch, an epoch that does not exist, and positions past the end of an epoch."""
    store = make_store(tmp_path, rows)
    store.write(0, np.arange(10), answers(rows, 10))
    assert store.read(0, np.arange(8, 12))[1].tolist() == [True, True, False, False]
    assert not store.read(1, np.arange(5))[1].any()
    assert not store.read(0, np.array([POSITIONS + 1]))[1].any()


@pytest.mark.parametrize("rows", FORMATS.values(), ids=FORMATS)
def test_labels_are_the_argmax_and_take_two_bytes_up_to_65534_classes(rows):
    """The decision is that of torch; with more classes a label takes four bytes."""
    logits = np.random.default_rng(0).normal(size=(50, rows.num_classes)).astype(np.float32)
    encoded = rows.encode(logits)
    assert encoded["label"].tolist() == torch.from_numpy(logits).argmax(-1).tolist()
    assert encoded["label"].itemsize == (2 if rows.num_classes <= 65_534 else 4)


def test_equal_logits_give_the_lowest_class():
    """As the online loss decides."""
    assert RowFormat(num_classes=3).encode(np.float32([[1, 5, 5], [0, 0, 0]]))[
        "label"
    ].tolist() == [
        1,
        0,
    ]


def test_kept_probabilities_are_the_softmax_at_the_temperature():
    """Referee: torch in float64; float16 keeps 11 bits."""
    rows = FORMATS["everything"]
    logits = np.random.default_rng(3).normal(size=(40, 10)).astype(np.float32) * 4
    expected = torch.from_numpy(logits).double().div(2).softmax(-1).numpy()
    held = rows.encode(logits)
    assert np.allclose(rows.probabilities(held), expected, rtol=2**-10, atol=2**-24)
    confidence = torch.from_numpy(logits).double().softmax(-1).amax(-1).numpy()
    assert np.allclose(held["confidence"], confidence, rtol=2**-11)


def test_what_is_not_kept_is_spread_over_the_other_classes():
    """Two of four classes kept: the others share the rest, and the sum is one."""
    rows = RowFormat(num_classes=4, top_k=2)
    held = rows.encode(np.log(np.float32([[0.5, 0.125, 0.25, 0.125]])))
    assert rows.probabilities(held)[0].tolist() == pytest.approx([0.5, 0.125, 0.25, 0.125])
    peaked = rows.probabilities(rows.encode(np.float32([[100, 0, 0, 0]])))
    assert np.isfinite(np.log(peaked)).all()


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(FORMATS)), seed=st.integers(0, 2**32 - 1))
def test_a_row_of_which_any_part_is_missing_counts_as_unfilled(name, seed):
    """After a power loss, a sector that was not written leaves its numbers unfilled."""
    rows, random = FORMATS[name], np.random.default_rng(seed)
    whole = answers(rows, 20, seed)
    unit = whole["label"].dtype
    words = np.frombuffer(bytearray(whole.tobytes()), dtype=unit).reshape(20, -1)
    words[random.random(words.shape) < 0.1] = np.iinfo(unit).max
    torn = np.frombuffer(words.tobytes(), dtype=rows.dtype)
    filled = rows.filled(torn)
    assert torn[filled].tobytes() == whole[filled].tobytes()


def test_filled_rows_are_not_written_again(tmp_path):
    """The first answer stays, and the seal of a complete epoch with it."""
    rows = FORMATS["decisions"]
    store = make_store(tmp_path, rows)
    store.write(0, np.arange(POSITIONS), answers(rows, POSITIONS, seed=1))
    store.flush()
    seal = (tmp_path / "epoch-00000.json").read_text()
    other = LabelStore.open(tmp_path)
    other.write(0, np.arange(POSITIONS), answers(rows, POSITIONS, seed=2))
    other.flush()
    assert (tmp_path / "epoch-00000.json").read_text() == seal
    held, _ = other.read(0, np.arange(POSITIONS))
    assert held.tobytes() == answers(rows, POSITIONS, seed=1).tobytes()


def test_an_epoch_that_grows_is_sealed_anew(tmp_path):
    """A run of a larger batch leaves the last positions out; a later run fills them in."""
    rows = FORMATS["soft"]
    short = make_store(tmp_path, rows, length=256)
    short.write(0, np.arange(256), answers(rows, POSITIONS)[:256])
    short.flush()
    assert (tmp_path / "epoch-00000.json").exists()
    longer = LabelStore.open(tmp_path)
    longer.write(0, np.arange(256, POSITIONS), answers(rows, POSITIONS)[256:])
    assert not (tmp_path / "epoch-00000.json").exists()
    longer.flush()
    assert LabelStore.open(tmp_path).check() == {}
    assert LabelStore.open(tmp_path).count(0) == POSITIONS


@pytest.mark.parametrize("damage", ["bit", "cut", "longer", "seal"])
def test_damage_to_a_complete_epoch_is_found_and_named(tmp_path, damage):
    """One flipped bit anywhere, a file of another length, a seal that is no JSON."""
    rows = FORMATS["decisions"]
    store = make_store(tmp_path, rows)
    store.write(0, np.arange(POSITIONS), answers(rows, POSITIONS))
    store.flush()
    file, seal = tmp_path / "epoch-00000.labels", tmp_path / "epoch-00000.json"
    whole = file.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole) * 8, 50).tolist():
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        cases = {"bit": bytes(changed), "cut": whole[: place // 8], "longer": whole + b"\0"}
        file.write_bytes(cases.get(damage, whole))
        if damage == "seal":
            seal.write_text("{")
        with pytest.raises(RunError, match=r"epoch-00000.labels is damaged.*\n.*deit label"):
            LabelStore.open(tmp_path).read(0, np.arange(3))
        assert len(LabelStore.open(tmp_path).check()) == 1


def test_a_label_that_is_no_class_is_damage(tmp_path):
    """Where no seal can tell yet."""
    store = make_store(tmp_path, FORMATS["decisions"])
    wrong = np.array([(12,)], dtype=FORMATS["decisions"].dtype)
    store.write(0, np.array([5]), wrong)
    with pytest.raises(RunError, match="none of its classes"):
        LabelStore.open(tmp_path).read(0, np.arange(10))


def _write_share(path: Path, number: int) -> None:
    rows = FORMATS["everything"]
    store = LabelStore.open(path)
    for epoch in range(3):
        for place in np.random.default_rng(number).permutation(POSITIONS)[: POSITIONS * 2 // 3]:
            part = np.array([place])
            store.write(epoch, part, answers(rows, POSITIONS)[part])
        store.flush()


def test_processes_that_write_the_same_store_leave_it_whole(tmp_path):
    """Four at once, with overlapping shares and seals that come and go."""
    make_store(tmp_path, FORMATS["everything"])
    context = multiprocessing.get_context("forkserver")
    writers = [context.Process(target=_write_share, args=(tmp_path, n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    store = LabelStore.open(tmp_path)
    assert store.check() == {}
    expected = answers(FORMATS["everything"], POSITIONS)
    for epoch in range(3):
        held, filled = store.read(epoch, np.arange(POSITIONS))
        assert filled.mean() > 0.9
        assert held[filled].tobytes() == expected[filled].tobytes()


def test_bytes_per_view_are_two_for_an_epoch_of_cifar(tmp_path):
    """Seal, header and lock included."""
    header = StoreHeader(
        classes=tuple("0123456789"),
        positions=50_000,
        rows=FORMATS["decisions"],
        identity={},
        made_with={},
        examination={},
    )
    store = LabelStore.create(tmp_path, header)
    store.write(0, np.arange(50_000), answers(FORMATS["decisions"], 50_000))
    store.flush()
    assert store.num_bytes() / 50_000 <= 2.1


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    """Something else stands there, nothing does, or another version wrote it."""
    with pytest.raises(UserError, match="no stored labels"):
        LabelStore.open(tmp_path)
    (tmp_path / "thesis.txt").write_text("important")
    with pytest.raises(UserError, match="holds no labels"):
        make_store(tmp_path, FORMATS["decisions"])
    for content in ("{", "[]", '{"format": "deit-labels/9"}'):
        (tmp_path / "store.json").write_text(content)
        with pytest.raises(UserError, match=r"store.json cannot be read"):
            LabelStore.open(tmp_path)


@pytest.mark.parametrize("wrong", [{"top_k": 11}, {"top_k": -1}, {"temperature": 0.0}])
def test_rows_that_cannot_be_are_refused(wrong):
    """More probabilities than classes, or a temperature of zero."""
    with pytest.raises(UserError, match=next(iter(wrong))):
        RowFormat(num_classes=10, **wrong)


def test_differences_name_every_leaf_that_differs():
    """Nested values by their dotted path, and what is missing on one side."""
    then = {"views": {"flip": 0.5, "scale": [0.08, 1.0]}, "teacher": {"weights": "ab"}}
    now = {"views": {"flip": 0.0, "scale": [0.08, 1.0]}, "renderer": 2}
    assert differences(then, now) == [
        "views.flip: 0.5 then, 0.0 now",
        'teacher: {"weights": "ab"} then, nothing now',
        "renderer: nothing then, 2 now",
    ]
