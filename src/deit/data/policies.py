"""Augmentation policies: which operations a view gets, and with which arguments.

A policy is a function of (seed, epoch, positions) that returns arrays, one row per view and one
column per slot, in the vocabulary of `operations`. Slots are applied from left to right.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, Int8, Int64

from deit.data.operations import Operation
from deit.randomness import Stream, normal, uniform


class Draw(NamedTuple):
    """The operations of some views, ``[views, slots]``: numbers, and arguments in their units."""

    ops: Int8[np.ndarray, "views slots"]
    arguments: Float32[np.ndarray, "views slots"]


RAND_AUGMENT = (
    Operation.AUTO_CONTRAST,
    Operation.EQUALIZE,
    Operation.INVERT,
    Operation.ROTATE,
    Operation.POSTERIZE,
    Operation.SOLARIZE,
    Operation.SOLARIZE_ADD,
    Operation.COLOR,
    Operation.CONTRAST,
    Operation.BRIGHTNESS,
    Operation.SHARPNESS,
    Operation.SHEAR_X,
    Operation.SHEAR_Y,
    Operation.TRANSLATE_X,
    Operation.TRANSLATE_Y,
)
"""What RandAugment chooses from: 15 operations, all stronger at higher levels."""

AUTO_AUGMENT = (
    ((Operation.POSTERIZE, 0.4, 8), (Operation.ROTATE, 0.6, 9)),
    ((Operation.SOLARIZE, 0.6, 5), (Operation.AUTO_CONTRAST, 0.6, 5)),
    ((Operation.EQUALIZE, 0.8, 8), (Operation.EQUALIZE, 0.6, 3)),
    ((Operation.POSTERIZE, 0.6, 7), (Operation.POSTERIZE, 0.6, 6)),
    ((Operation.EQUALIZE, 0.4, 7), (Operation.SOLARIZE, 0.2, 4)),
    ((Operation.EQUALIZE, 0.4, 4), (Operation.ROTATE, 0.8, 8)),
    ((Operation.SOLARIZE, 0.6, 3), (Operation.EQUALIZE, 0.6, 7)),
    ((Operation.POSTERIZE, 0.8, 5), (Operation.EQUALIZE, 1.0, 2)),
    ((Operation.ROTATE, 0.2, 3), (Operation.SOLARIZE, 0.6, 8)),
    ((Operation.EQUALIZE, 0.6, 8), (Operation.POSTERIZE, 0.4, 6)),
    ((Operation.ROTATE, 0.8, 8), (Operation.COLOR, 0.4, 0)),
    ((Operation.ROTATE, 0.4, 9), (Operation.EQUALIZE, 0.6, 2)),
    ((Operation.EQUALIZE, 0.0, 7), (Operation.EQUALIZE, 0.8, 8)),
    ((Operation.INVERT, 0.6, 4), (Operation.EQUALIZE, 1.0, 8)),
    ((Operation.COLOR, 0.6, 4), (Operation.CONTRAST, 1.0, 8)),
    ((Operation.ROTATE, 0.8, 8), (Operation.COLOR, 1.0, 2)),
    ((Operation.COLOR, 0.8, 8), (Operation.SOLARIZE, 0.8, 7)),
    ((Operation.SHARPNESS, 0.4, 7), (Operation.INVERT, 0.6, 8)),
    ((Operation.SHEAR_X, 0.6, 5), (Operation.EQUALIZE, 1.0, 9)),
    ((Operation.COLOR, 0.4, 0), (Operation.EQUALIZE, 0.6, 3)),
    ((Operation.EQUALIZE, 0.4, 7), (Operation.SOLARIZE, 0.2, 4)),
    ((Operation.SOLARIZE, 0.6, 5), (Operation.AUTO_CONTRAST, 0.6, 5)),
    ((Operation.INVERT, 0.6, 4), (Operation.EQUALIZE, 1.0, 8)),
    ((Operation.COLOR, 0.6, 4), (Operation.CONTRAST, 1.0, 8)),
    ((Operation.EQUALIZE, 0.8, 8), (Operation.EQUALIZE, 0.6, 3)),
)
"""The 25 sub-policies found for ImageNet: two of (operation, probability, level 0 to 10)."""


def rand_augment(
    seed: int,
    epoch: int,
    positions: Int64[np.ndarray, "views"],
    *,
    num_ops: int = 2,
    magnitude: float = 9.0,
    magnitude_std: float = 0.5,
    probability: float = 0.5,
) -> Draw:
    """RandAugment (Cubuk et al., arXiv 1909.13719) as DeiT uses it: ``rand-m9-mstd0.5-inc1``.

    ``num_ops`` operations are drawn with replacement from `RAND_AUGMENT`. Each is applied with the
    given probability, at a level of its own, normal around ``magnitude`` and clipped to 0..10;
    where an operation has a direction, its sign is random (`increasing_arguments`).
    """
    draws = uniform(seed, epoch, positions, Stream.OPERATIONS, 3 * num_ops)
    choice, applied, side = draws.reshape(-1, 3, num_ops).swapaxes(0, 1)  # [views, num_ops] each
    noise = normal(seed, epoch, positions, Stream.MAGNITUDE, num_ops).astype(np.float64)
    level = np.clip(magnitude + magnitude_std * noise, 0, 10)
    ops = np.array(RAND_AUGMENT, dtype=np.int8)[(choice * len(RAND_AUGMENT)).astype(np.int64)]
    return _gate(ops, increasing_arguments(ops, level, _signs(side)), applied < probability)


def auto_augment(seed: int, epoch: int, positions: Int64[np.ndarray, "views"]) -> Draw:
    """AutoAugment's ImageNet policy (Cubuk et al., arXiv 1805.09501); timm calls it ``original``.

    One of the 25 pairs of `AUTO_AUGMENT` is drawn; its two operations are applied each with its own
    probability, at fixed levels, with a random sign where there is a direction.
    """
    draws = uniform(seed, epoch, positions, Stream.OPERATIONS, 5)
    pair = (draws[:, 0] * len(AUTO_AUGMENT)).astype(np.int64)
    table = np.array(AUTO_AUGMENT, dtype=np.float64)[pair]  # [views, 2, 3]
    ops, level = table[..., 0].astype(np.int8), table[..., 2]
    arguments = auto_augment_arguments(ops, level, _signs(draws[:, 3:5]))
    return _gate(ops, arguments, draws[:, 1:3] < table[..., 1])


def three_augment(seed: int, epoch: int, positions: Int64[np.ndarray, "views"]) -> Draw:
    """3-Augment (Touvron et al., DeiT III, arXiv 2204.07118): one of three, always applied.

    Grey, solarise at 128, or a Gaussian blur of standard deviation U(0.1, 2) pixels. The colour
    jitter that follows it there is a setting of its own.
    """
    draws = uniform(seed, epoch, positions, Stream.OPERATIONS, 2)
    choice = (draws[:, :1] * 3).astype(np.int64)
    names = (Operation.GRAYSCALE, Operation.SOLARIZE, Operation.GAUSSIAN_BLUR)
    ops = np.array(names, dtype=np.int8)[choice]
    arguments = np.select([choice == 1, choice == 2], [128.0, 0.1 + 1.9 * draws[:, 1:]])
    return Draw(ops, arguments.astype(np.float32))


_JITTER_ORDERS = np.array(
    [
        (Operation.BRIGHTNESS, Operation.CONTRAST, Operation.COLOR),
        (Operation.BRIGHTNESS, Operation.COLOR, Operation.CONTRAST),
        (Operation.CONTRAST, Operation.BRIGHTNESS, Operation.COLOR),
        (Operation.CONTRAST, Operation.COLOR, Operation.BRIGHTNESS),
        (Operation.COLOR, Operation.BRIGHTNESS, Operation.CONTRAST),
        (Operation.COLOR, Operation.CONTRAST, Operation.BRIGHTNESS),
    ],
    dtype=np.int8,
)


def color_jitter(
    seed: int, epoch: int, positions: Int64[np.ndarray, "views"], strength: float
) -> Draw:
    """Brightness, contrast and colour in random order, each by a factor of 1 +- U(0, strength).

    torchvision's ``ColorJitter(strength, strength, strength)``.
    """
    draws = uniform(seed, epoch, positions, Stream.COLOR_JITTER, 4)
    ops = _JITTER_ORDERS[(draws[:, 0] * len(_JITTER_ORDERS)).astype(np.int64)]
    low = max(0.0, 1.0 - strength)
    factors = low + (1.0 + strength - low) * draws[:, 1:]
    return Draw(ops, factors.astype(np.float32))


def increasing_arguments(
    ops: Int[np.ndarray, "*shape"],
    level: Float[np.ndarray, "*shape"],
    sign: Float[np.ndarray, "*shape"],
) -> Float[np.ndarray, "*shape"]:
    """The arguments of RandAugment's operations at a level of 0 to 10, 0 being the mildest.

    Rotation to +-30 degrees, shear to +-0.3, translation to +-45 %, enhancement factors 1 +- 0.9,
    4 down to 0 bits kept, threshold 256 down to 0, up to 110 added (timm's ``inc1``).
    """
    share = level / 10.0
    factor = np.maximum(0.1, 1.0 + sign * (share * 0.9))
    return _select(
        ops,
        {
            Operation.ROTATE: sign * (share * 30.0),
            Operation.POSTERIZE: 4.0 - np.floor(share * 4.0),
            Operation.SOLARIZE: 256.0 - np.floor(share * 256.0),
            Operation.SOLARIZE_ADD: np.floor(share * 110.0),
            Operation.COLOR: factor,
            Operation.CONTRAST: factor,
            Operation.BRIGHTNESS: factor,
            Operation.SHARPNESS: factor,
            Operation.SHEAR_X: sign * (share * 0.3),
            Operation.SHEAR_Y: sign * (share * 0.3),
            Operation.TRANSLATE_X: sign * (share * 0.45),
            Operation.TRANSLATE_Y: sign * (share * 0.45),
        },
    )


def auto_augment_arguments(
    ops: Int[np.ndarray, "*shape"],
    level: Float[np.ndarray, "*shape"],
    sign: Float[np.ndarray, "*shape"],
) -> Float[np.ndarray, "*shape"]:
    """The arguments of AutoAugment's operations at a level of 0 to 10, as its authors scaled them.

    Rotation to +-30 degrees, shear to +-0.3, enhancement factors 0.1 to 1.9, 4 to 8 bits kept,
    threshold 0 to 256. Not all grow stronger: bits and threshold are mildest at level 10, and a
    factor is 1, no change, at level 5.
    """
    share = level / 10.0
    factor = 0.1 + share * 1.8
    return _select(
        ops,
        {
            Operation.ROTATE: sign * (share * 30.0),
            Operation.POSTERIZE: 4.0 + np.floor(share * 4.0),
            Operation.SOLARIZE: np.floor(share * 256.0),
            Operation.COLOR: factor,
            Operation.CONTRAST: factor,
            Operation.SHARPNESS: factor,
            Operation.SHEAR_X: sign * (share * 0.3),
        },
    )


def _select(
    ops: Int[np.ndarray, "*shape"], arguments: dict[Operation, Float[np.ndarray, "*shape"]]
) -> Float[np.ndarray, "*shape"]:
    """The argument of each operation, 0 for operations without one."""
    return np.select([ops == name for name in arguments], list(arguments.values()), default=0.0)


def _signs(side: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return np.where(side < 0.5, -1.0, 1.0)


def _gate(
    ops: Int8[np.ndarray, "views slots"],
    arguments: Float[np.ndarray, "views slots"],
    applied: np.ndarray,
) -> Draw:
    """Operations that are not applied become the identity, without an argument."""
    kept = np.where(applied, ops, np.int8(Operation.IDENTITY))
    return Draw(kept, np.where(applied, arguments, 0.0).astype(np.float32))
