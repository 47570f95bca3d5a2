"""Checkpoints are whole or not there."""

import json

import pytest
import torch

from deit.errors import UserError
from deit.run import checkpoint as module
from deit.run.checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)


def make(step: int) -> Checkpoint:
    return Checkpoint(
        step, {"model.weight": torch.full((3,), float(step))}, {"best": {"top1": 0.5}}
    )


def test_checkpoint_round_trip_is_exact(tmp_path):
    """Tensors bit for bit, the state as it was."""
    saved = Checkpoint(7, {"a": torch.randn(5), "b": torch.tensor([1, 2])}, {"best": {}})
    loaded = load_checkpoint(save_checkpoint(tmp_path, saved))
    assert loaded.step == 7
    assert loaded.state["best"] == {}
    assert all(torch.equal(loaded.tensors[name], saved.tensors[name]) for name in saved.tensors)


def test_only_the_newest_are_kept(tmp_path):
    """Retention by step."""
    for step in (1, 5, 9, 12):
        save_checkpoint(tmp_path, make(step), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000009", "step-00000012"]


@pytest.mark.parametrize("part", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, part, damage):
    """Any part, three kinds of damage."""
    save_checkpoint(tmp_path, make(1))
    path = save_checkpoint(tmp_path, make(2)) / part
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data[: len(data) // 2] if damage == "truncate" else data)
    loaded, skipped = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.step == 1
    assert len(skipped) == 1
    assert "step-00000002" in skipped[0]


@pytest.mark.parametrize("failing", ["save_file", "_sha256", "_sync"])
def test_a_save_that_dies_midway_leaves_the_old_checkpoint(tmp_path, monkeypatch, failing):
    """The temporary folder of a dead save is no checkpoint, and does not hinder the next save."""
    save_checkpoint(tmp_path, make(1))

    def die(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, failing, die)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, make(2))
    monkeypatch.undo()
    loaded, skipped = load_newest(tmp_path)
    assert loaded is not None
    assert (loaded.step, skipped) == (1, [])
    save_checkpoint(tmp_path, make(2))
    assert load_newest(tmp_path)[0].step == 2


def test_saving_the_same_step_again_replaces_it(tmp_path):
    """A resumed run may pass the step of its last checkpoint again."""
    save_checkpoint(tmp_path, make(3))
    path = save_checkpoint(tmp_path, make(3))
    assert load_checkpoint(path).step == 3


def test_empty_folder_has_no_checkpoint(tmp_path):
    """Nothing found is no error."""
    assert load_newest(tmp_path / "absent") == (None, [])


def test_checkpoint_holds_no_pickle(tmp_path):
    """Everything in a checkpoint is safetensors or JSON."""
    path = save_checkpoint(tmp_path, make(3))
    assert sorted(file.suffix for file in path.iterdir()) == [".json", ".json", ".safetensors"]
    assert json.loads((path / "state.json").read_text())["format"] == "deit-checkpoint/1"


def damage(path):
    (path / "tensors.safetensors").write_bytes(b"")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_new_checkpoint_outlives_damaged_later_ones(tmp_path):
    """A resume passed over 8 and 9; what it saves at 6 stays, with the whole 5 before it."""
    save_checkpoint(tmp_path, make(5))
    for step in (8, 9):
        damage(save_checkpoint(tmp_path, make(step), keep=3))
    save_checkpoint(tmp_path, make(6), keep=2)
    assert names(tmp_path) == ["step-00000005", "step-00000006"]
    assert load_newest(tmp_path)[0].step == 6


def test_a_whole_checkpoint_is_not_given_up_for_a_damaged_one(tmp_path):
    """With two to keep, the damaged 8 goes and the whole 5 stays beside the new 9."""
    save_checkpoint(tmp_path, make(5))
    damage(save_checkpoint(tmp_path, make(8)))
    save_checkpoint(tmp_path, make(9), keep=2)
    assert names(tmp_path) == ["step-00000005", "step-00000009"]


def test_what_killed_saves_left_is_removed(tmp_path):
    """Also the temporary folder of a step that is not saved again."""
    (tmp_path / ".step-00000002.tmp").mkdir()
    save_checkpoint(tmp_path, make(3))
    assert names(tmp_path) == ["step-00000003"]


def test_checkpoint_of_another_format_is_refused_not_passed_over(tmp_path, monkeypatch):
    """It is whole: beginning anew beside it would remove it."""
    save_checkpoint(tmp_path, make(1))
    monkeypatch.setattr(module, "_FORMAT", "deit-checkpoint/2")
    save_checkpoint(tmp_path, make(2))
    monkeypatch.undo()
    with pytest.raises(UserError, match="deit-checkpoint/2"):
        load_newest(tmp_path)
