"""Images whose object leaves the crop: known in views that show much of them, lost in others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from deit.data.dataset import Source, read_size
from deit.data.plan import ViewConfig, crop_box, plan_views
from deit.measuring.votes import Votes

MIN_VIEWS = 8
"""With fewer views, halves of them say too little."""
MAX_SHOWN = 6
"""Crops that are kept of an image: so many lost ones at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crops:
    """Where single views lie in their images; rows in any order.

    Attributes:
        samples: the image.
        agrees: whether the teacher decided for the given label.
        weights: the view's weight as a vote.
        boxes: left, top, width, height as shares of the image's width and height.
    """

    samples: Int64[np.ndarray, "views"]
    agrees: Bool[np.ndarray, "views"]
    weights: Float64[np.ndarray, "views"]
    boxes: Float64[np.ndarray, "views 4"]

    @classmethod
    def joined(cls, parts: "Sequence[Crops]") -> "Crops":
        """Several as one."""
        return cls(
            samples=np.concatenate([part.samples for part in parts]),
            agrees=np.concatenate([part.agrees for part in parts]),
            weights=np.concatenate([part.weights for part in parts]),
            boxes=np.concatenate([part.boxes for part in parts]),
        )

    def shown(self) -> Float64[np.ndarray, "views"]:
        """Share of the image's area that each view shows; a border outside of it counts nothing."""
        left, top, width, height = self.boxes.T
        wide = np.minimum(left + width, 1) - np.maximum(left, 0)
        high = np.minimum(top + height, 1) - np.maximum(top, 0)
        return np.asarray(wide * high)

    def off_centre(self) -> Float64[np.ndarray, "views"]:
        """Distance of each crop's middle from the image's, in shares of width and height."""
        left, top, width, height = self.boxes.T
        return np.asarray(np.hypot(left + width / 2 - 0.5, top + height / 2 - 0.5))


@dataclass(frozen=True, slots=True)
class CropLoss:
    """An image that the teacher knows by views that show much of it, and loses in the others.

    Attributes:
        sample: the image.
        views: views that count.
        much: agreement with the given label in the half of the views that show more.
        little: the same in the half that show less.
        excess: the drop between them beyond that of its class, see `find_crop_losses`.
        lost: boxes of views that were not decided for the given label, the largest area first; at
            most `MAX_SHOWN`.
        kept: boxes of views that were, the smallest area first; at most as many.
    """

    sample: int
    views: int
    much: float
    little: float
    excess: float
    lost: Float64[np.ndarray, "lost 4"]
    kept: Float64[np.ndarray, "kept 4"]


def crop_views(
    config: ViewConfig,
    image_size: int,
    seed: int,
    epoch: int,
    positions: Int64[np.ndarray, "views"],
    samples: Int64[np.ndarray, "views"],
    agrees: Bool[np.ndarray, "views"],
    weights: Float64[np.ndarray, "views"],
    source: Source,
    sizes: dict[int, tuple[int, int]],
) -> Crops:
    """The crops of some views of an epoch.

    Args:
        config, image_size, seed, epoch, positions: the views, as in `plan_views`.
        samples, agrees, weights: as in `Crops`.
        source: the images; only their sizes are read.
        sizes: height and width of images that were met before; filled.
    """
    crops_alone = ViewConfig(
        crop=config.crop,
        scale=config.scale,
        ratio=config.ratio,
        padding=config.padding,
        policy="none",
        erase=0.0,
    )  # a view's crop does not depend on what else is done to it
    plan = plan_views(crops_alone, image_size, seed, epoch, positions)
    boxes = np.zeros((len(positions), 4))
    for row, sample in enumerate(samples.tolist()):
        if sample not in sizes:
            sizes[sample] = read_size(source, sample)
        height, width = sizes[sample]
        box = crop_box(plan, row, width, height)
        boxes[row] = np.divide(box, (width, height, width, height))
    return Crops(samples=samples, agrees=agrees, weights=weights, boxes=boxes)


def find_crop_losses(crops: Crops, votes: Votes) -> list[CropLoss]:
    """The images whose agreement depends most on how much of them a view shows.

    The views of an image are put in order of the share of it that they show (of equal shares, the
    more central first) and cut into two halves of equal number; the middle one of an odd number is
    left out. Its drop is the agreement ``a`` in the first half minus that in the second, drawn
    towards 0 as by one more view in each: ``d = (a_much - a_little) w / (w + 1)`` with w the mean
    weight of a half. What is ranked is the excess over the mean drop of the images with the same
    label, those included whose views were all decided alike: their drop is 0.

    Args:
        crops: the views of all images that were decided both ways.
        votes: gives labels, and the images that have views enough.

    Returns:
        Images with `MIN_VIEWS` or more and an excess above 0, the largest first.
    """
    if len(crops.samples) == 0:
        return []
    order = np.lexsort((crops.off_centre(), -crops.shown(), crops.samples))
    samples, first = np.unique(crops.samples[order], return_index=True)
    runs = np.split(order, first[1:])
    halves = {
        int(sample): _halves(crops, rows)
        for sample, rows in zip(samples, runs, strict=True)
        if len(rows) >= MIN_VIEWS
    }
    labels = votes.labels
    enough = votes.per_image(votes.views) >= MIN_VIEWS
    of_class = np.bincount(labels[enough], minlength=votes.num_classes)
    sums = np.zeros(votes.num_classes)
    for sample, (_, _, drop) in halves.items():
        sums[labels[sample]] += drop
    expected = sums / np.maximum(of_class, 1)
    found = []
    for sample, rows in zip(samples.tolist(), runs, strict=True):
        if sample not in halves:
            continue
        much, little, drop = halves[sample]
        excess = drop - expected[labels[sample]]
        if excess > 0:
            lost, kept = rows[~crops.agrees[rows]], rows[crops.agrees[rows]][::-1]
            found.append(
                CropLoss(
                    sample,
                    len(rows),
                    much,
                    little,
                    float(excess),
                    crops.boxes[lost[:MAX_SHOWN]],
                    crops.boxes[kept[:MAX_SHOWN]],
                )
            )
    return sorted(found, key=lambda loss: -loss.excess)


def _halves(crops: Crops, rows: Int64[np.ndarray, "views"]) -> tuple[float, float, float]:
    """Agreement in both halves of the ordered views of an image, and the drawn drop."""
    half = len(rows) // 2
    weights, agrees = crops.weights[rows], crops.agrees[rows]
    (much, little) = (
        float((weights[part] * agrees[part]).sum() / weights[part].sum())
        for part in (slice(half), slice(len(rows) - half, None))
    )
    weight = float(weights.mean()) * half
    return much, little, (much - little) * weight / (weight + 1)
