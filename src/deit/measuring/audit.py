"""Which labels are likely wrong, and which classes a teacher confuses, from its counted votes.

Numbers only; where the votes come from is the business of `deit.programs.audit`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from deit.measuring.votes import Votes

NO_CLASS = -1
"""Stands for the suggestion where no view decided against the given label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelEvidence:
    """What the views of each image say of its given label; every array is ``[images]``.

    Attributes:
        labels: the given labels.
        views: views that count; images without any have nan below.
        agreement: share of them that decide for the given label, by weight.
        suggested: the class that most speaks for instead; `NO_CLASS` where nothing does.
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
    """Score every image by the margin between its given label and the best other class.

    With ``s_ik`` the share of class k in the mass of image i, labelled ``y_i``:

    * the threshold of class k is its mean self-confidence, ``t_k = mean of s_ik over i with
      y_i = k``: Eq. 2 of confident learning (Northcutt, Jiang and Chuang, JAIR 70, 2021). A class
      that the teacher is weak on has a low one.
    * shares are drawn towards the mean ``m_jk`` of the images with label j as by one more view,
      ``p_ik = (mass_ik + m_(y_i)k) / (total_i + 1)``: what two views say counts less than what
      twenty say. The thresholds are not changed by it.
    * the score is the normalised margin of that paper (section 3.2.2) with thresholds taken off and
      its sign turned: ``score_i = (p_ik - t_k) - (p_iy - t_y)`` with y the given label and k the
      class with the most mass besides. From -2, nothing speaks against the label, to 2.
    * a label is off when ``s_ik >= t_k`` and not (``s_iy >= t_y`` and ``s_iy >= s_ik``), the
      condition by which that paper's confident joint counts it as an error.

    Where no other class has mass, ``p_ik - t_k`` is -1.
    """
    images, classes = votes.images, votes.classes
    total = votes.total[images]
    shares = np.divide(votes.mass, total, out=np.zeros(len(images)), where=total > 0)
    typical = _mean_by_label(votes, shares)
    drawn = (votes.mass + typical) / (total + 1)
    thresholds = np.zeros(votes.num_classes)
    own = classes == votes.labels[images]
    thresholds[classes[own]] = typical[own]
    best = _best_other(votes)
    there = best >= 0
    suggested = np.where(there, classes[best], NO_CLASS)
    excess = np.where(there, drawn[best] - thresholds[suggested], -1.0)
    share = np.where(there, shares[best], 0.0)
    threshold = thresholds[votes.labels]
    given = votes.on_given(shares)
    given_drawn = _given_drawn(votes, thresholds)
    seen = votes.total > 0
    keeps = (given >= threshold) & (given >= share)
    off = seen & there & (share >= thresholds[suggested]) & ~keeps
    decided = votes.per_image(votes.decided)
    return LabelEvidence(
        labels=votes.labels,
        views=votes.per_image(votes.views).astype(np.int64),
        agreement=_ratio(votes.on_given(votes.decided), decided),
        suggested=suggested.astype(np.int64),
        suggested_share=np.where(seen, share, np.nan),
        given_share=np.where(seen, given, np.nan),
        confidence=_ratio(votes.sure, decided),
        score=np.where(seen, excess - (given_drawn - threshold), np.nan),
        off=off,
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


def _mean_by_label(
    votes: Votes, shares: Float64[np.ndarray, "pairs"]
) -> Float64[np.ndarray, "pairs"]:
    """For each pair (image, k), the mean share of k among the images with the image's label."""
    labels = votes.labels[votes.images]
    found, places = np.unique(labels * votes.num_classes + votes.classes, return_inverse=True)
    sums = np.bincount(places, weights=shares, minlength=len(found))
    seen = np.bincount(votes.labels[votes.total > 0], minlength=votes.num_classes)
    return np.asarray((sums / np.maximum(seen[found // votes.num_classes], 1))[places])


def _given_drawn(
    votes: Votes, thresholds: Float64[np.ndarray, "classes"]
) -> Float64[np.ndarray, "images"]:
    """p of the given label, of images too whose views never decided for it."""
    mass = votes.on_given(votes.mass)
    return np.asarray((mass + thresholds[votes.labels]) / (votes.total + 1))


def _best_other(votes: Votes) -> Int64[np.ndarray, "images"]:
    """The pair with the most mass besides the given label, for each image; -1 where none is."""
    images = votes.images
    others = np.flatnonzero((votes.classes != votes.labels[images]) & (votes.mass > 0))
    order = others[np.lexsort((others, -votes.mass[others], images[others]))]
    found, first = np.unique(images[order], return_index=True)
    best = np.full(len(votes.labels), -1, dtype=np.int64)
    best[found] = order[first]
    return best


def _ratio(
    part: Float64[np.ndarray, "images"], whole: Float64[np.ndarray, "images"]
) -> Float64[np.ndarray, "images"]:
    """A quotient that is nan where there is nothing to divide by."""
    quotient = np.full(len(whole), np.nan)
    np.divide(part, whole, out=quotient, where=whole > 0)
    return quotient
