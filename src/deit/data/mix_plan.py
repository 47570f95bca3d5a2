"""The plan of mixup and CutMix: who is mixed with whom, by how much, and where.

Arrays only, computed from (seed, epoch, position); `mix.py` carries the plan out.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64

from deit.errors import UserError
from deit.randomness import Stream, uniform


@dataclass(frozen=True, kw_only=True, slots=True)
class MixConfig:
    """Mixing of images and targets within a batch, and label smoothing."""

    mixup: float = 0.8
    """Mixup (Zhang et al., 2018): weights are drawn from Beta(mixup, mixup); 0 = off. The paper's
    Table 9 prints this and the next value as probabilities; they are these parameters."""

    cutmix: float = 1.0
    """CutMix (Yun et al., 2019): areas are drawn from Beta(cutmix, cutmix); 0 = off."""

    probability: float = 1.0
    """Share of the groups that are mixed at all; the reference mixes every batch."""

    switch: float = 0.5
    """Share of the mixed groups that get CutMix where both kinds are on, as in the reference."""

    group: int = 64
    """Images that share one draw and are mixed among each other: consecutive places of a batch.
    64 is the reference's batch on one GPU for DeiT-B; results do not depend on the split here."""

    smoothing: float = 0.1
    """Label smoothing: this much of a target's weight is spread evenly over all classes."""

    def __post_init__(self) -> None:
        for name, allowed, holds in (
            ("mixup", "a number from 0", self.mixup >= 0),
            ("cutmix", "a number from 0", self.cutmix >= 0),
            ("probability", "a number from 0 to 1", 0 <= self.probability <= 1),
            ("switch", "a number from 0 to 1", 0 <= self.switch <= 1),
            ("group", "a whole number from 2", self.group >= 2),
            ("smoothing", "a number from 0, below 1", 0 <= self.smoothing < 1),
        ):
            if not holds:
                given = f"mix.{name} = {getattr(self, name)}"
                raise UserError(given, allowed, "set mix.mixup=0 mix.cutmix=0 for no mixing")


@dataclass(frozen=True, slots=True, eq=False)
class MixPlan:
    """What each place of a batch becomes: ``lam`` of itself and ``1 - lam`` of its partner.

    Attributes:
        lam: the weight of the place's own image and target, ``[places]``.
        boxes: top, left, height, width of what CutMix pastes from the partner, ``[places, 4]``; of
            zero height where the whole image is blended (mixup) or nothing is done (lam = 1).
        partner: the place in the batch to mix with, ``[places]``.
        group: all three are constant, or mirrored, within so many consecutive places.
    """

    lam: Float32[np.ndarray, "places"]
    boxes: Int32[np.ndarray, "places 4"]
    partner: Int64[np.ndarray, "places"]
    group: int


def plan_mix(
    config: MixConfig,
    image_size: int,
    seed: int,
    epoch: int,
    positions: Int64[np.ndarray, "places"],
) -> MixPlan:
    """Plan the mixing of one whole batch, or of a part that begins and ends with a group.

    Every group of `config.group` consecutive places, the last one perhaps smaller, draws one kind,
    one weight and one box, keyed by its first position; the partner is the group reversed. So a
    plan depends neither on the number of processes nor on micro-batches. In CutMix ``lam`` is the
    share of the image that is left outside of the box after the box is cut off at the border.

    This is timm's ``Mixup(mode="batch")`` per group of 64, with NumPy's global generator replaced.
    (The timm of the reference loses a pixel of boxes with odd sides; today's, and this, does not.)

    Args:
        config: the kinds and their parameters.
        image_size: height and width of the images in pixels.
        seed, epoch: the place in the run.
        positions: places of the samples in the epoch's global order.
    """
    starts = np.arange(0, len(positions), config.group)
    sizes = np.minimum(config.group, len(positions) - starts)
    draws = uniform(seed, epoch, positions[starts], Stream.MIX, 5)
    mixed, cut = _kinds(config, draws[:, 0], draws[:, 1])
    drawn = np.where(
        cut, _beta_quantile(config.cutmix, draws[:, 2]), _beta_quantile(config.mixup, draws[:, 2])
    )
    boxes = np.where(cut[:, None], _boxes(drawn, draws[:, 3:], image_size), 0)
    kept = 1 - boxes[:, 2] * boxes[:, 3] / image_size**2
    lam = np.where(cut, kept, np.where(mixed, drawn, 1.0))
    place = np.arange(len(positions))
    return MixPlan(
        lam=np.repeat(lam, sizes).astype(np.float32),
        boxes=np.repeat(boxes, sizes, axis=0).astype(np.int32),
        partner=np.repeat(2 * starts + sizes - 1, sizes) - place,
        group=config.group,
    )


def _kinds(
    config: MixConfig, first: Float64[np.ndarray, "groups"], second: Float64[np.ndarray, "groups"]
) -> tuple[Bool[np.ndarray, "groups"], Bool[np.ndarray, "groups"]]:
    """Which groups are mixed, and which of them by CutMix; with one kind on, only that is used."""
    probability = config.probability if config.mixup or config.cutmix else 0.0
    switch = config.switch if config.mixup and config.cutmix else float(config.cutmix > 0)
    mixed = first < probability
    return mixed, mixed & (second < switch)


def _beta_quantile(
    alpha: float, draws: Float64[np.ndarray, "groups"]
) -> Float64[np.ndarray, "groups"]:
    """Numbers distributed as Beta(alpha, alpha) from uniform ones.

    Rounded to multiples of 2**-20, so that no library's last bit can change a run.
    """
    if alpha == 0:
        return np.ones_like(draws)
    from scipy.special import betaincinv  # a third of a second that `deit --help` need not wait

    quantile = np.asarray(betaincinv(alpha, alpha, draws), dtype=np.float64)
    return np.rint(quantile * 2**20) / 2**20


def _boxes(
    lam: Float64[np.ndarray, "groups"], centres: Float64[np.ndarray, "groups 2"], image_size: int
) -> Int64[np.ndarray, "groups 4"]:
    """Squares of area ``1 - lam`` around a pixel of the image, cut off at its border."""
    side = (image_size * np.sqrt(1 - lam)).astype(np.int64)[:, None]
    centre = (image_size * centres).astype(np.int64)
    first = np.clip(centre - side // 2, 0, image_size)
    last = np.clip(centre + (side + 1) // 2, 0, image_size)
    return np.concatenate([first, last - first], axis=1)
