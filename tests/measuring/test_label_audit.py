"""Scores of labels against arithmetic, and what they are for."""

import math

import numpy as np
import pytest
from scipy.stats import multinomial

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
    """Two images of class 0 with shares 3/4 and 0, one of class 1 with share 1; even rates added.

    m_00 = (3/4 + 1/2) / 3, m_01 = (5/4 + 1/2) / 3, m_10 = 1/2 / 2, m_11 = 3/2 / 2.
    """
    evidence = weigh_labels(votes_of([0, 0, 1], [[3, 1], [0, 4], [0, 4]]))
    for_0, for_1 = math.log((1 / 4) / (5 / 12)), math.log((3 / 4) / (7 / 12))
    expected = [(3 * for_0 + for_1) / 5, 4 * for_1 / 5, -math.log(2) * 4 / 5]
    assert evidence.score == pytest.approx(expected)
    assert evidence.suggested.tolist() == [1, 1, NO_CLASS]
    assert evidence.agreement.tolist() == [0.75, 0.0, 1.0]
    assert evidence.off.tolist() == [False, True, False]
    assert evidence.ranking().tolist() == [1, 0, 2]


def test_scores_agree_with_a_dense_computation():
    """Likelihoods of whole rows of counts under every class, by SciPy's multinomial."""
    generator = np.random.default_rng(0)
    labels, counts = generator.integers(0, 4, 60), generator.multinomial(8, [0.25] * 4, 60)
    counts[np.arange(60), labels] += generator.integers(0, 16, 60)
    evidence = weigh_labels(votes_of(labels, counts))
    shares = counts / counts.sum(1, keepdims=True)
    rates = np.stack([(shares[labels == j].sum(0) + 1 / 4) for j in range(4)])
    rates /= rates.sum(1, keepdims=True)
    totals = counts.sum(1)
    logs = np.stack([multinomial.logpmf(counts, totals, rate) for rate in rates], axis=1)
    gains = np.where(counts > 0, logs, -np.inf) - logs[np.arange(60), labels][:, None]
    gains[np.arange(60), labels] = -np.inf
    assert evidence.suggested.tolist() == gains.argmax(1).tolist()
    assert evidence.score == pytest.approx(gains.max(1) / (totals + 1))
    thresholds = np.array([shares[labels == k, k].mean() for k in range(4)])
    given, other = shares[np.arange(60), labels], shares[np.arange(60), gains.argmax(1)]
    confident = (other >= thresholds[gains.argmax(1)]) & (gains.max(1) > 0)
    confident &= (given < thresholds[labels]) | (given < other)
    assert evidence.off.tolist() == confident.tolist()
    assert 0 < confident.sum() < 60


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
    assert evidence.score[0] == pytest.approx(-math.log(2) * 4 / 5)


def test_confused_pairs_are_shares_of_the_given_class():
    """A large class with more views stands behind a small one with a larger share."""
    votes = votes_of([0, 1, 2], [[90, 10, 0], [2, 2, 0], [0, 0, 4]])
    pairs = [(p.given, p.decided, p.views, p.share) for p in confused_classes(votes)]
    assert pairs == [(1, 0, 2, 0.5), (0, 1, 10, 0.1)]
    assert label_counts(votes) == {(0, 0): 90, (0, 1): 10, (1, 0): 2, (1, 1): 2, (2, 2): 4}
