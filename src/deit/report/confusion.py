"""How decisions fall on the classes: the confusion matrix and what is read from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """How well one class is recognised.

    Attributes:
        name: the class.
        count: its validation images.
        hits: those decided right.
        mistaken_for: the class that its other images are most often taken for; empty without one.
    """

    name: str
    count: int
    hits: int
    mistaken_for: str

    @property
    def accuracy(self) -> float:
        """Share of its images that are decided right; nan without images."""
        return self.hits / self.count if self.count else float("nan")


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """Images of one class that were taken for another.

    Attributes:
        label: the true class.
        predicted: what they were taken for.
        count: how many.
        share: their share of the true class's images.
    """

    label: str
    predicted: str
    count: int
    share: float


def all_classes(classes: Sequence[str], *columns: Sequence[str]) -> tuple[str, ...]:
    """The known classes in their order, then those that only appear in the columns, sorted."""
    unknown = set().union(*columns) - set(classes)
    return (*classes, *sorted(unknown))


def confusion_matrix(
    classes: Sequence[str], labels: Sequence[str], decisions: Sequence[str]
) -> Int[np.ndarray, "classes classes"]:
    """Counts of images by true class (row) and decision (column).

    >>> confusion_matrix(["ant", "bee"], ["ant", "ant", "bee"], ["ant", "bee", "bee"]).tolist()
    [[1, 1], [0, 1]]
    """
    index = {name: place for place, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for label, decision in zip(labels, decisions, strict=True):
        matrix[index[label], index[decision]] += 1
    return matrix


def class_accuracies(
    classes: Sequence[str], matrix: Int[np.ndarray, "classes classes"]
) -> list[ClassAccuracy]:
    """Every class that has images, the least recognised first; in equal cases as they stand."""
    wrong = matrix - np.diag(np.diag(matrix))
    rows = [
        ClassAccuracy(
            name=name,
            count=int(matrix[place].sum()),
            hits=int(matrix[place, place]),
            mistaken_for=classes[int(wrong[place].argmax())] if wrong[place].any() else "",
        )
        for place, name in enumerate(classes)
    ]
    return sorted((row for row in rows if row.count), key=lambda row: row.accuracy)


def confused_pairs(
    classes: Sequence[str], matrix: Int[np.ndarray, "classes classes"], limit: int = 20
) -> list[ConfusedPair]:
    """The most frequent mistakes, at most ``limit``; of equals, the larger share of its class."""
    totals = matrix.sum(axis=1)
    pairs = [
        ConfusedPair(
            classes[row],
            classes[column],
            int(matrix[row, column]),
            matrix[row, column] / totals[row],
        )
        for row, column in zip(*np.nonzero(matrix), strict=True)
        if row != column
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share))[:limit]
