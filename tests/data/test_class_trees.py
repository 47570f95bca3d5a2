"""Class trees and class lists with random faults: mapped by name or refused, never shifted."""

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from class_trees import (
    Tree,
    draw_classes,
    draw_tree,
    judge_evaluation,
    judge_splits,
    judge_teacher,
    perturbed_names,
    shifts,
    write_folder,
    write_shards,
)
from deit.data.classes import ClassList
from deit.data.dataset import ArraySource, DataSet

WRITERS = {"folder": write_folder, "shards": write_shards}


def judged(kind: str, seeds: Iterable[int], root: Path) -> Counter[str]:
    """How many trees were mapped, refused or shifted; those without a fault must be mapped."""
    found: Counter[str] = Counter()
    for seed in seeds:
        tree, draw = draw_tree(seed), random.Random(seed)
        spec = WRITERS[kind](tree, root / str(seed), draw)
        verdict = judge_splits(spec)
        alone = judge_evaluation(
            f"{spec}/{tree.val_name}" if kind == "folder" else spec, tree, draw
        )
        assert verdict != "shifted", (seed, tree)
        assert alone != "shifted", (seed, tree)
        assert tree.faults or verdict == alone == "mapped", (seed, tree)
        found[verdict] += 1
    return found


def judged_teachers(seeds: Iterable[int]) -> Counter[str]:
    """The same for teachers' class lists."""
    found: Counter[str] = Counter()
    for seed in seeds:
        draw = random.Random(seed)
        classes = draw_classes(draw)
        teacher, fault = perturbed_names(classes, draw)
        teacher = perturbed_names(teacher, draw)[0] if draw.random() < 0.3 else teacher
        if any(teacher.get(name, number) != number for name, number in classes.items()):
            continue  # a name of the data's that has another meaning there: nothing can tell
        verdict = judge_teacher(classes, teacher, draw)
        assert verdict != "shifted", (seed, fault, classes, teacher)
        assert fault != "nothing" or teacher != classes or verdict == "mapped", (seed, classes)
        found[verdict] += 1
    return found


@pytest.mark.parametrize("kind", WRITERS)
def test_perturbed_trees_are_mapped_by_name_or_refused(kind: str, tmp_path: Path) -> None:
    """Both happens, and no image gets the label of another class."""
    found = judged(kind, range(2000, 2050), tmp_path)
    assert min(found["mapped"], found["refused"]) >= 10


def test_perturbed_teachers_are_mapped_by_name_or_refused() -> None:
    """Both happens, and no class is answered by another's output."""
    found = judged_teachers(range(2000, 2200))
    assert min(found["mapped"], found["refused"]) >= 50


@pytest.mark.long
@pytest.mark.parametrize("kind", WRITERS)
def test_a_thousand_trees(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same, of other trees; the figures are shown."""
    found = judged(kind, range(1000), tmp_path)
    with capsys.disabled():
        print(f"\n1000 trees, {kind}: {dict(found)}")
    assert sum(found.values()) == 1000


@pytest.mark.long
def test_ten_thousand_teachers(capsys: pytest.CaptureFixture[str]) -> None:
    """Class lists cost no files."""
    found = judged_teachers(range(10_000))
    with capsys.disabled():
        print(f"\n{found.total()} teachers: {dict(found)}")
    assert found.total() > 9000


def test_the_judge_sees_a_shift() -> None:
    """Labels by place instead of by name, as where each split numbers its own folders."""
    trees = [draw_tree(seed) for seed in range(200)]
    places = [shifts(data) for tree in trees if (data := by_place(tree)) is not None]
    assert sum(count > 0 for count in places) > 20


def by_place(tree: Tree) -> DataSet | None:
    """What opening would give if folders were numbered in each split; none with fewer classes."""
    if len(tree.val) > len(tree.train):
        return None
    classes = ClassList(tuple(sorted(tree.train)))
    splits = [_numbered(split, classes) for split in (tree.train, tree.val)]
    return DataSet(*splits)


def _numbered(split: dict[str, int], classes: ClassList) -> ArraySource:
    images = np.array([split[name] for name in sorted(split)], np.uint8)[:, None, None]
    return ArraySource(images, np.arange(len(split)), classes, sorted(split))
