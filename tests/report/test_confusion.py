import numpy as np
from sklearn.metrics import confusion_matrix as sklearn_matrix

from deit.report.confusion import (
    all_classes,
    class_accuracies,
    confused_pairs,
    confusion_matrix,
)


def test_matrix_equals_sklearns():
    """Rows are the truth, columns the decision."""
    names = list("abcde")
    labels, decisions = np.random.default_rng(0).choice(names, (2, 300)).tolist()
    expected = sklearn_matrix(labels, decisions, labels=names)
    np.testing.assert_array_equal(confusion_matrix(names, labels, decisions), expected)


def test_accuracies_begin_with_the_worst():
    """Each class with what it is most often taken for; classes without images are left out."""
    matrix = np.array([[9, 1, 0, 0], [2, 5, 3, 0], [0, 0, 4, 0], [0, 0, 0, 0]])
    rows = class_accuracies(["ant", "bee", "cat", "dog"], matrix)
    assert [(row.name, row.hits, row.count, row.mistaken_for) for row in rows] == [
        ("bee", 5, 10, "cat"),
        ("ant", 9, 10, "bee"),
        ("cat", 4, 4, ""),
    ]


def test_pairs_begin_with_the_most_frequent():
    """Of equally frequent pairs, the one that costs its class more comes first."""
    matrix = np.array([[90, 2, 0], [1, 7, 2], [0, 0, 5]])
    pairs = confused_pairs(["ant", "bee", "cat"], matrix, limit=2)
    assert [(pair.label, pair.predicted, pair.count) for pair in pairs] == [
        ("bee", "cat", 2),
        ("ant", "bee", 2),
    ]
    assert pairs[0].share == 0.2


def test_unknown_classes_come_last():
    """A name that the model does not list still gets its row."""
    assert all_classes(["b", "a"], ["a", "z"], ["c"]) == ("b", "a", "c", "z")
