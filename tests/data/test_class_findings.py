"""What a check says of classes."""

import numpy as np
import pytest

from deit.data.class_findings import alike_names, class_findings
from deit.data.classes import ClassList


def found(train: dict[str, int], val: dict[str, int] | None = None) -> dict[str, list]:
    """Findings by kind, from counts by class."""
    names = list(dict.fromkeys([*train, *(val or {})]))
    counts = {"train": np.array([train.get(name, 0) for name in names], dtype=np.int64)}
    if val is not None:
        counts["val"] = np.array([val.get(name, 0) for name in names], dtype=np.int64)
    findings = class_findings(ClassList(tuple(names)), counts)
    return {
        finding.kind: [(*item.classes, *item.values.values()) for item in finding.items]
        for finding in findings
        if finding.items
    }


def test_even_classes_in_both_splits_are_clean() -> None:
    """Nothing is said of what is as it should be."""
    assert found({"cat": 20, "dog": 25}, {"cat": 1, "dog": 1}) == {}


def test_classes_that_a_split_lacks_are_named() -> None:
    """One that only val has is an error; one that only train has is not measured."""
    told = found({"cat": 20, "dog": 20}, {"cat": 5, "Dog": 5, "emu": 1})
    assert told["unknown-class"] == [("Dog", "dog"), ("emu",)]
    assert told["unmeasured-class"] == [("dog",)]
    assert told["alike-names"] == [("dog", "Dog")]


def test_a_class_folder_without_an_image_is_empty() -> None:
    """Whether or not there is a validation split."""
    assert found({"cat": 20, "dog": 20, "emu": 0})["empty-class"] == [("emu",)]
    told = found({"cat": 20, "dog": 20, "emu": 0}, {"cat": 1, "dog": 1})
    assert told == {"empty-class": [("emu",)]}


def test_small_and_uneven_classes_are_counted() -> None:
    """Fewer than ten images; the largest over ten times the smallest."""
    assert found({"a1": 9, "b1": 10}) == {"few-images": [("a1", 9)]}
    assert found({"a1": 10, "b1": 100}) == {}
    assert found({"a1": 10, "b1": 101}) == {"imbalance": [("b1", 101), ("a1", 10)]}


@pytest.mark.parametrize(
    "names",
    [("cat", "cats"), ("cat", "Cat"), ("red fox", "Red_Fox"), ("leopard", "leopad"), ("2", "02")],
)
def test_names_that_are_nearly_alike_are_paired(names: tuple[str, ...]) -> None:
    """In the plural, in another case, with other signs, with a letter lost, with zeros added."""
    assert alike_names([names[0], "zebra crossing", names[1]]) == [names]


@pytest.mark.parametrize(
    "names",
    [
        ("0", "1", "10"),
        ("n01440764", "n01440765"),
        ("cat", "car", "can"),
        ("class 1", "class 2"),
        ("-1", "+1", "a", "A"),
        ("0", "00x", "10", "100", "1.5", "1.05"),
    ],
)
def test_names_that_differ_on_purpose_are_left_alone(names: tuple[str, ...]) -> None:
    """Numbers, ids, short words."""
    assert alike_names(list(names)) == []
