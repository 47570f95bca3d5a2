"""Which labels are likely wrong, and which classes a teacher confuses, from its counted votes.

Numbers only; where the votes come from is the business of `deit.programs.audit`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from deit.measuring.votes import Votes

NO_CLASS = -1
"""Stands for the suggestion where no view decided against the given label."""
CANDIDATES = 4
"""Classes that are compared with the given label of each image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelEvidence:
    """What the views of each image say of its given label; every array is ``[images]``.

    Attributes:
        labels: the given labels.
        views: views that count; images without any have nan below.
        agreement: share of them that decide for the given label, by weight.
        suggested: the other class that fits best; `NO_CLASS` where no view decided for any.
        suggested_share: its share of the mass.
        given_share: that of the given label: its mean probability, where probabilities were stored.
        confidence: mean confidence of the decisions; nan where it was not stored.
        score: how much speaks for a wrong label, see `weigh_labels`.
        off: whether it meets the condition of confident learning, see `weigh_labels`.
    """

    labels: Int64[np.ndarray, "images"]
    views: Int64[np.ndarray, "images"]
    agreement: Float64[np.ndarray, "images"]
    suggested: Int64[np.ndarray, "images"]
    suggested_share: Float64[np.ndarray, "images"]
    given_share: Float64[np.ndarray, "images"]
    confidence: Float64[np.ndarray, "images"]
    score: Float64[np.ndarray, "images"]
    off: Bool[np.ndarray, "images"]

    def ranking(self) -> Int64[np.ndarray, "ranked"]:
        """The images with a view, the likeliest wrong label first; equal ones as they stand."""
        seen = np.flatnonzero(self.views > 0)
        return seen[np.argsort(-self.score[seen], kind="stable")]


def weigh_labels(votes: Votes) -> LabelEvidence:
    """Score every image by how much better its votes fit another class than the given label.

    With ``s_ik`` the share of class k in the mass of image i, labelled ``y_i``:

    * the rates ``m_jk`` say how images labelled j are usually decided: the mean of ``s_ik`` over
      them, drawn towards even shares as by one more image. A class that the teacher is weak on, or
      takes for another one, has rates that say so: its images do not flood the list.
    * the score is the logarithm of a likelihood ratio, in nats per view, of the model of Dawid and
      Skene (Applied Statistics 28, 1979) in which each decision on an image of class j is drawn
      from ``m_j``: ``score_i = max over j of sum_k mass_ik log(m_jk / m_(y_i)k) / (total_i + 1)``.
      The 1 draws scores of few views towards 0. Above 0, the votes fit class j better.
    * j goes through the `CANDIDATES` classes, other than the given one, that stand out most among
      the votes: by ``s_ik`` over its mean of all images.
    * a label is off when its score is above 0, ``s_ij >= t_j``, and not (``s_iy >= t_y`` and
      ``s_iy >= s_ij``), with ``t_j`` the mean of ``s_ij`` over images labelled j: the condition by
      which the confident joint of Northcutt, Jiang and Chuang (JAIR 70, 2021) counts errors.

    Where every view was decided for the given label there is no j, and nothing speaks against the
    label: the score is ``-log(classes) total_i / (total_i + 1)``.
    """
    images, classes = votes.images, votes.classes
    total = votes.total[images]
    shares = np.divide(votes.mass, total, out=np.zeros(len(images)), where=total > 0)
    rates = _Rates(votes, shares)
    given_log = np.log(rates.at(votes.labels[images], classes))
    best, gain = _best_candidate(votes, shares, rates, given_log)
    there = best >= 0
    suggested = np.where(there, classes[best], NO_CLASS).astype(np.int64)
    gain = np.where(there, gain, -np.log(votes.num_classes) * votes.total)
    score = gain / (votes.total + 1)
    seen = votes.total > 0
    share, given = np.where(there, shares[best], 0.0), votes.on_given(shares)
    thresholds = rates.thresholds()
    threshold = thresholds[votes.labels]
    keeps = (given >= threshold) & (given >= share)
    decided = votes.per_image(votes.decided)
    return LabelEvidence(
        labels=votes.labels,
        views=votes.per_image(votes.views).astype(np.int64),
        agreement=_ratio(votes.on_given(votes.decided), decided),
        suggested=suggested,
        suggested_share=np.where(seen, share, np.nan),
        given_share=np.where(seen, given, np.nan),
        confidence=_ratio(votes.sure, decided),
        score=np.where(seen, score, np.nan),
        off=seen & there & (score > 0) & (share >= thresholds[suggested]) & ~keeps,
    )


@dataclass(frozen=True, slots=True)
class Confusion:
    """Decisions by given label; pairs of two different classes.

    Attributes:
        given, decided: the two classes.
        views: views of images of the one that were decided for the other.
        share: of all views of the given class.
    """

    given: int
    decided: int
    views: int
    share: float


def confused_classes(votes: Votes, limit: int = 50) -> list[Confusion]:
    """The pairs of classes with the largest share of views that are decided for another class.

    The share is of the views of the given class, so that large classes do not stand first for their
    size. Of equal shares the one with more views comes first.
    """
    counts = label_counts(votes)
    of_class = np.bincount(votes.labels[votes.images], votes.views, votes.num_classes)
    pairs = [
        Confusion(given, decided, views, views / of_class[given])
        for (given, decided), views in counts.items()
        if given != decided
    ]
    return sorted(pairs, key=lambda pair: (-pair.share, -pair.views))[:limit]


def label_counts(votes: Votes) -> dict[tuple[int, int], int]:
    """How many views of images of a label were decided for a class, by (label, class)."""
    keys = votes.labels[votes.images] * votes.num_classes + votes.classes
    found, places = np.unique(keys, return_inverse=True)
    sums = np.bincount(places, weights=votes.views, minlength=len(found)).astype(np.int64)
    return {
        (int(key) // votes.num_classes, int(key) % votes.num_classes): int(views)
        for key, views in zip(found, sums, strict=True)
        if views
    }


class _Rates:
    """How images of a label are usually decided; kept for pairs of label and class that occur."""

    def __init__(self, votes: Votes, shares: Float64[np.ndarray, "pairs"]) -> None:
        self.num_classes = votes.num_classes
        keys = votes.labels[votes.images] * self.num_classes + votes.classes
        self._keys, places = np.unique(keys, return_inverse=True)
        self._sums = np.bincount(places, weights=shares, minlength=len(self._keys))
        seen = votes.labels[votes.total > 0]
        self._counts = np.bincount(seen, minlength=self.num_classes)

    def at(
        self, labels: Int64[np.ndarray, "places"], classes: Int64[np.ndarray, "places"]
    ) -> Float64[np.ndarray, "places"]:
        """m of each label and class, above 0."""
        even = 1 / self.num_classes
        return np.asarray((self._sum(labels, classes) + even) / (self._counts[labels] + 1))

    def thresholds(self) -> Float64[np.ndarray, "classes"]:
        """Mean share of each class among the images that have it as label."""
        own = np.arange(self.num_classes)
        return np.asarray(self._sum(own, own) / np.maximum(self._counts, 1))

    def _sum(
        self, labels: Int64[np.ndarray, "places"], classes: Int64[np.ndarray, "places"]
    ) -> Float64[np.ndarray, "places"]:
        wanted = labels * self.num_classes + classes
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[places] == wanted, self._sums[places], 0.0)


def _best_candidate(
    votes: Votes,
    shares: Float64[np.ndarray, "pairs"],
    rates: _Rates,
    given_log: Float64[np.ndarray, "pairs"],
) -> tuple[Int64[np.ndarray, "images"], Float64[np.ndarray, "images"]]:
    """The pair whose class the votes of each image fit best, and by how many nats better; or -1."""
    images, classes = votes.images, votes.classes
    usual = np.bincount(classes, weights=shares, minlength=votes.num_classes)
    lift = shares / np.maximum(usual[classes], np.finfo(float).tiny)
    others = np.flatnonzero((classes != votes.labels[images]) & (votes.mass > 0))
    order = others[np.lexsort((others, -lift[others], images[others]))]
    rank = np.arange(len(order)) - np.searchsorted(images[order], images[order])
    best = np.full(len(votes.labels), -1, dtype=np.int64)
    gain = np.full(len(votes.labels), -np.inf)
    for number in range(CANDIDATES):
        pairs = order[rank == number]
        candidate = np.full(len(votes.labels), -1, dtype=np.int64)
        candidate[images[pairs]] = pairs
        told = candidate[images] >= 0
        fits = np.zeros(len(images))
        rate = rates.at(classes[candidate[images[told]]], classes[told])
        fits[told] = votes.mass[told] * (np.log(rate) - given_log[told])
        found = np.where(candidate >= 0, votes.per_image(fits), -np.inf)
        best, gain = np.where(found > gain, candidate, best), np.maximum(found, gain)
    return best, gain


def _ratio(
    part: Float64[np.ndarray, "images"], whole: Float64[np.ndarray, "images"]
) -> Float64[np.ndarray, "images"]:
    """A quotient that is nan where there is nothing to divide by."""
    quotient = np.full(len(whole), np.nan)
    np.divide(part, whole, out=quotient, where=whole > 0)
    return quotient
