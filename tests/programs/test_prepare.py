"""What stands before the first step: a teacher that was measured, each of several by itself."""

import json
import shutil

import pytest
import torch

from deit.data.sources import open_data
from deit.distillation.ensemble import Ensemble
from deit.distillation.teacher import Teacher
from deit.errors import UserError
from deit.measuring.gate import Examination
from deit.programs import prepare
from deit.programs.train import train
from deit.recipes.book import get_recipe
from deit.recipes.recipe import distilled, override


def make_member(name):
    return Teacher(
        torch.nn.Flatten(),
        name=name,
        classes=tuple("0123456789"),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        image_size=8,
    )


@pytest.fixture
def asked(monkeypatch):
    """The gate's questions, (teacher, least accuracy); a teacher called "wrong" does not pass."""
    questions = []

    def check(teacher, source, config, preprocess, *, workers):
        questions.append((teacher.name, config.min_teacher_accuracy))
        if teacher.name == "wrong":
            raise UserError("teacher wrong: 10 %")
        return Examination(
            teacher=teacher.name, correct=90, count=100, chance=0.1, notes=("assumed",)
        )

    monkeypatch.setattr(prepare.gate, "check_teacher", check)
    return questions


def examine(teacher, said):
    recipe = distilled(get_recipe("digits"), "a,b", "hard")
    recipe = override(recipe, {"distillation.min_teacher_accuracy": 0.7})
    data = open_data("digits")
    return prepare.examine_teacher(recipe, data, teacher, torch.device("cpu"), said.append)


def test_each_of_several_teachers_passes_the_gate_alone_and_then_all_together(asked):
    """The least accuracy is asked of the whole; the record keeps what each knew.

    Of a member hardly anything is asked, but not nothing: that would bring in the baseline.
    """
    said = []
    _, examined = examine(Ensemble([make_member("a"), make_member("b")]), said)
    assert [name for name, _ in asked] == ["a", "b", "a + b"]
    assert [least for _, least in asked] == pytest.approx([0, 0, 0.7], abs=1e-6)
    assert asked[0][1] > 0
    assert examined.teacher == "a + b"
    assert examined.notes == ("assumed", "a alone: 90.00%", "b alone: 90.00%")
    assert len(said) == 3


def test_a_member_that_was_wired_up_wrongly_is_found_among_healthy_ones(asked):
    """Their mean could still pass."""
    members = [make_member("a"), make_member("wrong"), make_member("c")]
    with pytest.raises(UserError, match="teacher wrong"):
        examine(Ensemble(members), [])


def test_a_single_teacher_is_asked_once(asked):
    """With the recipe's least accuracy."""
    _, examined = examine(make_member("a"), [])
    assert asked == [("a", 0.7)]
    assert examined.notes == ("assumed",)


def test_three_runs_teach_together(teacher_run, tmp_path):
    """From their names in the recipe to the record of a run: both alone, and both together."""
    names = [str(shutil.copytree(teacher_run, tmp_path / name)) for name in ("a", "b", "c")]
    recipe = distilled(get_recipe("digits"), ",".join(names), "hard")
    changes = {"data.source": "digits", "data.images_per_class": 5, "epochs": 1}
    quick = {"schedule.warmup_epochs": 0, "distillation.vote": "majority"}
    result = train(override(recipe, changes | quick), tmp_path / "run")
    told = json.loads((result.path / "result.json").read_text())["teacher"]
    alone = [note for note in told["notes"] if " alone: " in note]
    assert len(alone) == 3
    assert all(note.endswith(f"{told['accuracy']:.2%}") for note in alone)  # they are the same
