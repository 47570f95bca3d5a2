"""The three sides of the distillation benchmark compute the same, or nothing is timed."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from deit.benchmarking import timm_peer
from deit.benchmarking.distill import _steps, build_recipe, find_student
from deit.benchmarking.lesson import POSITIONS, prepare_lesson
from deit.benchmarking.timm_peer import build_peer, compare_outputs
from deit.distillation.label_store import LabelStore
from deit.errors import RunError, UserError
from deit.foreign import load_zoo_classifier
from deit.programs.step import build_parts

CPU = torch.device("cpu")
STUDENT, TEACHER = "deit_nano_distilled_patch8_64", "timm:test_resnet"


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """Six pictures, a teacher and a whole epoch of labels."""
    classifier = load_zoo_classifier(TEACHER, pretrained=False)
    folder = tmp_path_factory.mktemp("lesson") / "labels"
    return prepare_lesson(recipe_of(), classifier, CPU, folder)


def recipe_of(**model):
    recipe = build_recipe(find_student(STUDENT), TEACHER, 1000, 6, "float32", CPU)
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **model))


def build_sides(lesson, **model):
    """Our two sides and timm's, from the same weights."""
    recipe = recipe_of(**model)
    stored, online = (
        build_parts(recipe, lesson.steps_per_epoch, CPU, answers)
        for answers in (lesson.stored, lesson.online)
    )
    return stored, online, build_peer(recipe, lesson, stored.model.state_dict(), CPU)


def test_all_sides_agree(lesson):
    """On pictures that are no zeros, with logits that are none either."""
    stored, _, peer = build_sides(lesson)
    apart = compare_outputs(stored.model, peer, lesson)
    assert apart["images"] == 6
    assert max(apart[name] for name in ("class_logits", "distillation_logits", "loss")) < 1e-4
    assert lesson.batch.images.std() > 0.5
    assert stored.model(lesson.batch.images).dist.std() > 0.1
    assert stored.model.training
    assert peer.task.trainable_module.blocks[0].training


def test_steps_with_stored_and_with_asked_labels_are_the_same_steps(lesson):
    """Loss, gradient and weights after two steps, bit for bit."""
    stored, online, _ = build_sides(lesson)
    first, second = _steps(stored, lesson), _steps(online, lesson)
    for _ in range(2):
        assert next(first) == next(second)
    for name, tensor in stored.model.state_dict().items():
        assert torch.equal(tensor, online.model.state_dict()[name]), name


def test_a_step_of_timm_changes_its_student_as_ours(lesson):
    """The same AdamW on the same groups; without dropped branches, which timm draws at random."""
    stored, _, peer = build_sides(lesson, drop_path_rate=0.0)
    before = {name: value.clone() for name, value in stored.model.state_dict().items()}
    lr = next(_steps(stored, lesson))["lr"]
    peer.take_step(lesson)
    for name, theirs in peer.task.trainable_module.state_dict().items():
        ours = stored.model.state_dict()[name]
        assert (ours - before[name]).abs().mean() > lr / 10, name
        assert (ours - theirs).abs().mean() < lr / 1000, name


def test_the_store_on_the_disk_is_a_whole_epoch_in_two_bytes_a_view(lesson):
    """Counted by the file system, with everything that lies beside the labels."""
    store = lesson.store
    on_disk = sum(file.stat().st_size for file in store.path.iterdir())
    assert store.count(0) == store.length == POSITIONS // 6 * 6
    assert store.num_bytes() == on_disk
    assert 2 <= on_disk / store.length <= 2.1
    assert store.check() == {}


def plant_in_student(task):
    with torch.no_grad():
        task.trainable_module.blocks[1].mlp.fc1.bias[0] += 0.5


def plant_in_second_head(task):
    with torch.no_grad():
        task.trainable_module.head_dist.bias[3] += 0.01


def plant_in_teacher(task):
    task.teacher.model = torch.nn.Sequential(task.teacher.model, Turned())


def plant_in_loss(task):
    task.task_loss_weight = 0.6


class Turned(torch.nn.Module):
    """Every decision becomes the class beside it."""

    def forward(self, logits):
        return logits.roll(1, -1)


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (plant_in_student, "student's class logits"),
        (plant_in_second_head, "student's distillation logits"),
        (plant_in_teacher, "teacher's decisions here and in timm: 4 of 4"),
        (plant_in_loss, "the loss"),
    ],
)
def test_sides_that_compute_something_else_are_not_timed(lesson, plant, message):
    """Each part of the comparison notices what it is there for."""
    stored, _, peer = build_sides(lesson)
    plant(peer.task)
    with pytest.raises(RunError, match=message):
        compare_outputs(stored.model, peer, lesson)


def test_another_label_in_the_store_is_noticed(lesson, tmp_path):
    """One of six, in a copy of the store."""
    copy = Path(shutil.copytree(lesson.store.path, tmp_path / "labels"))
    labels = np.fromfile(copy / "epoch-00000.labels", dtype="<u2")
    place = int(lesson.batch.positions[2])
    labels[place] = (labels[place] + 1) % 1000
    labels.tofile(copy / "epoch-00000.labels")
    (copy / "epoch-00000.json").unlink()  # its seal
    wrong = dataclasses.replace(lesson.stored, stores=(LabelStore.open(copy),))
    stored, _, peer = build_sides(lesson)
    with pytest.raises(RunError, match="decisions asked and stored: 1 of 6"):
        compare_outputs(stored.model, peer, dataclasses.replace(lesson, stored=wrong))


def test_not_a_number_is_no_agreement():
    """A comparison with NaN is false both ways."""
    with pytest.raises(RunError, match="nan apart"):
        timm_peer._require_near("the loss", torch.tensor(float("nan")), torch.tensor(1.0), 1.0)


def test_a_teacher_of_a_fixed_other_size_is_refused(tmp_path):
    """timm's task would show it the student's 64 px, and it takes 160."""
    teacher = "timm:test_vit"
    classifier = load_zoo_classifier(teacher, pretrained=False)
    student = find_student(STUDENT)
    recipe = build_recipe(student, teacher, 1000, 2, "float32", CPU)
    with pytest.raises(UserError, match="160 px, the student of 64"):
        prepare_lesson(recipe, classifier, CPU, tmp_path / "labels")
