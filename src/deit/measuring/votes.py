"""What a teacher decided on many views of each image, counted for image and class.

A view of one image is one vote. A mixed view shows two images: it is a vote on the one that fills
the larger part of it, with that part as its weight, and what it says for the other one's label is
left out. Counts are kept for pairs of image and class that occur, so that a million images and
thousands of classes take little memory.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from deit.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Views:
    """Some views that a teacher was asked about.

    Attributes:
        samples: the image that each view is a vote on.
        decisions: the teacher's class.
        weights: the share of the view that the image fills, 0.5 to 1.
        beside: the given label of the image it is mixed with; -1 where it is not mixed.
        confidence: probability of the decision; None where it was not stored.
        classes: the likeliest classes, in falling order; None where they were not stored.
        probabilities: their probabilities.
    """

    samples: Int64[np.ndarray, "views"]
    decisions: Int64[np.ndarray, "views"]
    weights: Float64[np.ndarray, "views"]
    beside: Int64[np.ndarray, "views"]
    confidence: Float64[np.ndarray, "views"] | None = None
    classes: Int64[np.ndarray, "views top"] | None = None
    probabilities: Float64[np.ndarray, "views top"] | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """Which image a mixed view speaks of, see `larger_part`."""

    places: Int64[np.ndarray, "views"]
    weights: Float64[np.ndarray, "views"]
    others: Int64[np.ndarray, "views"]


def larger_part(lam: Float32[np.ndarray, "views"], partner: Int64[np.ndarray, "views"]) -> Shown:
    """The place whose image fills at least half of each view, its share, and the other place.

    Args:
        lam: share of the place's own image, from `deit.data.mix_plan`.
        partner: the place it is mixed with; meaningless where lam is 1.

    >>> shown = larger_part(np.float32([0.75, 0.25]), np.array([1, 0]))
    >>> shown.places.tolist(), shown.weights.tolist(), shown.others.tolist()
    ([0, 0], [0.75, 0.75], [1, 1])
    """
    place = np.arange(len(lam))
    own = lam >= 0.5
    weights = np.where(own, lam, 1 - lam).astype(np.float64)
    return Shown(np.where(own, place, partner), weights, np.where(own, partner, place))


class Votes:
    """Votes by image and class, added up.

    The mass of a class for an image is the sum over its views of weight times probability. Where no
    probabilities were stored, the decision has probability 1. The probability of the label of an
    image that is mixed in is left out, for and against: that of the given label stays. What the
    stored probabilities leave of 1 is spread evenly over the other classes, as when it is learned
    from.

    Args:
        labels: the given label of each image.
        num_classes: how many classes there are.

    Attributes:
        images, classes: the pairs that occur, ascending.
        views: for each pair, how many counted views of the image decided for the class.
        decided: the same with their weights.
        mass: see above.
        total: for each image, the mass of all classes.
        sure: for each image, the sum of weight times confidence; nan where not stored.
    """

    def __init__(self, labels: Int64[np.ndarray, "images"], num_classes: int) -> None:
        outside = (labels < 0) | (labels >= num_classes)
        if outside.any():
            raise UserError(
                f"label {labels[outside][0]} of {num_classes} classes",
                f"0 to {num_classes - 1}",
                "correct the labels",
            )
        self.labels = labels
        self.num_classes = num_classes
        self._keys = np.zeros(0, dtype=np.int64)
        self._sums = np.zeros((0, 3))  # [pairs, (views, decided, mass)]
        self.total = np.zeros(len(labels))
        self.sure = np.zeros(len(labels))

    @property
    def images(self) -> Int64[np.ndarray, "pairs"]:
        """The image of each pair."""
        return self._keys // self.num_classes

    @property
    def classes(self) -> Int64[np.ndarray, "pairs"]:
        """The class of each pair."""
        return self._keys % self.num_classes

    @property
    def views(self) -> Int64[np.ndarray, "pairs"]:
        """How many views of the image decided for the class."""
        return self._sums[:, 0].astype(np.int64)

    @property
    def decided(self) -> Float64[np.ndarray, "pairs"]:
        """The same with the weights of the views."""
        return np.asarray(self._sums[:, 1])

    @property
    def mass(self) -> Float64[np.ndarray, "pairs"]:
        """Sum of weight times probability."""
        return np.asarray(self._sums[:, 2])

    def per_image(
        self, values: Float64[np.ndarray, "pairs"] | Int64[np.ndarray, "pairs"]
    ) -> Float64[np.ndarray, "images"]:
        """Sums of a column over the pairs of each image."""
        sums = np.bincount(self.images, weights=values, minlength=len(self.labels))
        return np.asarray(sums, dtype=np.float64)

    def on_given(
        self, values: Float64[np.ndarray, "pairs"] | Int64[np.ndarray, "pairs"]
    ) -> Float64[np.ndarray, "images"]:
        """A column at the pair of each image and its given label; 0 where there is none."""
        given = self.classes == self.labels[self.images]
        return self.per_image(np.where(given, values, 0))

    def add(self, views: Views) -> None:
        """Count some views."""
        counted = self.counts(views).astype(np.float64)
        weights = views.weights * counted
        if views.classes is None:
            self._merge(views.samples, views.decisions, counted, weights, weights)
            self.total += self._sum(views.samples, weights)
        else:
            self._merge(views.samples, views.decisions, counted, weights, np.zeros(len(weights)))
            self._add_probabilities(views)
        sure = np.full(len(weights), np.nan) if views.confidence is None else views.confidence
        self.sure += self._sum(views.samples, weights * sure)

    def counts(self, views: Views) -> Bool[np.ndarray, "views"]:
        """Which decisions count: not those for the label of the other image of a mixed view."""
        own = views.beside == self.labels[views.samples]
        return np.asarray((views.decisions != views.beside) | own)

    def _add_probabilities(self, views: Views) -> None:
        """Masses of the stored classes, and of the given label where it is not among them."""
        assert views.classes is not None
        assert views.probabilities is not None
        top = views.classes.shape[1]
        given = self.labels[views.samples]
        beside = np.where(views.beside == given, -1, views.beside)  # one's own label always counts
        rest = np.clip(1 - views.probabilities.sum(1), 0, 1) / max(self.num_classes - top, 1)
        kept = views.probabilities * (views.classes != beside[:, None])
        absent = ~(views.classes == given[:, None]).any(1)
        hidden = ~(views.classes == beside[:, None]).any(1) & (beside >= 0)
        others = self.num_classes - top - hidden
        self.total += self._sum(views.samples, views.weights * (kept.sum(1) + rest * others))
        samples = np.concatenate([np.repeat(views.samples, top), views.samples])
        classes = np.concatenate([views.classes.ravel(), given])
        mass = np.concatenate(
            [(views.weights[:, None] * kept).ravel(), views.weights * rest * absent]
        )
        none = np.zeros(len(mass))
        self._merge(samples, classes, none, none, mass)

    def _merge(
        self,
        images: Int64[np.ndarray, "rows"],
        classes: Int64[np.ndarray, "rows"],
        *columns: Float64[np.ndarray, "rows"],
    ) -> None:
        """Add rows of image, class, views, decided and mass to the table."""
        sums = np.stack(columns, axis=1)
        used = sums.any(axis=1)
        keys = images[used] * self.num_classes + classes[used]
        self._keys, places = np.unique(np.append(self._keys, keys), return_inverse=True)
        rows, self._sums = np.concatenate([self._sums, sums[used]]), np.zeros((len(self._keys), 3))
        np.add.at(self._sums, places, rows)

    def _sum(
        self, samples: Int64[np.ndarray, "views"], values: Float64[np.ndarray, "views"]
    ) -> Float64[np.ndarray, "images"]:
        return np.asarray(np.bincount(samples, weights=values, minlength=len(self.labels)))
