"""Scores of labels against arithmetic, and what they are for."""

import numpy as np
import pytest

from deit.measuring.audit import NO_CLASS, confused_classes, label_counts, weigh_labels
from deit.measuring.votes import Views, Votes


def votes_of(labels, counts) -> Votes:
    """Votes from a table of counts by image and class."""
    counts = np.array(counts)
    images, classes = np.nonzero(counts)
    repeats = counts[images, classes]
    samples, decisions = np.repeat(images, repeats), np.repeat(classes, repeats)
    votes = Votes(np.array(labels), counts.shape[1])
    size = len(samples)
    votes.add(
        Views(
            samples=samples,
            decisions=decisions,
            weights=np.ones(size),
            beside=np.full(size, -1),
        )
    )
    return votes


def test_scores_follow_the_formula():
    """Class 0 has t = 0.375 and typically 0.625 of class 1, whose t is 1; one view more."""
    evidence = weigh_labels(votes_of([0, 0, 1], [[3, 1], [0, 4], [0, 4]]))
    assert evidence.score == pytest.approx(
        [(1.625 / 5 - 1) - (3.375 / 5 - 0.375), (4.625 / 5 - 1) - (0.375 / 5 - 0.375), -1]
    )
    assert evidence.suggested.tolist() == [1, 1, NO_CLASS]
    assert evidence.agreement.tolist() == [0.75, 0.0, 1.0]
    assert evidence.off.tolist() == [False, True, False]
    assert evidence.ranking().tolist() == [1, 0, 2]


def test_thresholds_are_those_of_confident_learning():
    """Off-diagonal counts of the confident joint, written as in the paper with a dense matrix."""
    generator = np.random.default_rng(0)
    labels, counts = generator.integers(0, 4, 60), generator.multinomial(8, [0.25] * 4, 60)
    counts[np.arange(60), labels] += generator.integers(0, 16, 60)
    shares = counts / counts.sum(1, keepdims=True)
    thresholds = np.array([shares[labels == k, k].mean() for k in range(4)])
    above = np.where(shares >= thresholds, shares, -1)
    # the paper compares with the best other class alone where several are above
    best = np.argmax(np.where(np.arange(4) == labels[:, None], -1, shares), axis=1)
    rows = np.arange(60)
    expected = (above[rows, best] >= 0) & (above[rows, best] > above[rows, labels])
    assert weigh_labels(votes_of(labels, counts)).off.tolist() == expected.tolist()
    assert 0 < expected.sum() < 60


def test_a_weak_class_does_not_flood_the_list():
    """Twenty images of a class known in 4 of 10 views stand behind one that is doubted in 11 of 20.

    By the plain margin of shares they would all stand before it.
    """
    weak = [[8, 12]] * 20
    strong = [[0, 20]] * 19
    evidence = weigh_labels(votes_of([0] * 20 + [1] * 20, [*weak, *strong, [11, 9]]))
    plain = evidence.suggested_share - evidence.given_share
    assert plain[39] < plain[:20].min()
    assert evidence.ranking()[0] == 39
    assert not evidence.off[:20].any()


def test_more_views_say_more():
    """Equal shares from 2 and from 20 views."""
    labels, pure = [0, 0, *[0] * 8, *[1] * 10], [[20, 0]] * 8 + [[0, 20]] * 10
    evidence = weigh_labels(votes_of(labels, [[0, 2], [0, 20], *pure]))
    assert evidence.score[0] < evidence.score[1]
    assert evidence.ranking()[:2].tolist() == [1, 0]


def test_images_without_views_are_no_part_of_the_ranking():
    """Nor do they lower the threshold of their class."""
    evidence = weigh_labels(votes_of([0, 0, 1], [[4, 0], [0, 0], [0, 4]]))
    assert evidence.ranking().tolist() == [0, 2]
    assert np.isnan(evidence.score[1])
    assert np.isnan(evidence.agreement[1])
    assert evidence.score[0] == pytest.approx(-1)


def test_confused_pairs_are_shares_of_the_given_class():
    """A large class with more views stands behind a small one with a larger share."""
    votes = votes_of([0, 1, 2], [[90, 10, 0], [2, 2, 0], [0, 0, 4]])
    pairs = [(p.given, p.decided, p.views, p.share) for p in confused_classes(votes)]
    assert pairs == [(1, 0, 2, 0.5), (0, 1, 10, 0.1)]
    assert label_counts(votes) == {(0, 0): 90, (0, 1): 10, (1, 0): 2, (1, 1): 2, (2, 2): 4}
