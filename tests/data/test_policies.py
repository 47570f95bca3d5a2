"""Policies as arrays: ranges, neutral values and independence, by arithmetic."""

import numpy as np
import pytest
from scipy import stats

from deit.data.operations import Operation
from deit.data.policies import (
    AUTO_AUGMENT,
    RAND_AUGMENT,
    Draw,
    auto_augment,
    color_jitter,
    increasing_arguments,
    rand_augment,
    three_augment,
)

POSITIONS = np.arange(20_000)
WITHOUT_ARGUMENT = (Operation.IDENTITY, Operation.AUTO_CONTRAST, Operation.EQUALIZE)


def arguments_of(draw: Draw, operation: Operation) -> np.ndarray:
    return draw.arguments[draw.ops == operation]


@pytest.mark.parametrize(
    ("operation", "low", "high"),
    [
        (Operation.ROTATE, -30, 30),
        (Operation.POSTERIZE, 0, 4),
        (Operation.SOLARIZE, 0, 256),
        (Operation.SOLARIZE_ADD, 0, 110),
        (Operation.COLOR, 0.1, 1.9),
        (Operation.SHEAR_X, -0.3, 0.3),
        (Operation.TRANSLATE_Y, -0.45, 0.45),
    ],
)
def test_arguments_cover_the_published_range(operation: Operation, low: float, high: float) -> None:
    """Levels 0 to 10 and both signs give the published extremes and nothing beyond them."""
    level = np.tile(np.linspace(0, 10, 1001), 2)
    sign = np.repeat([-1.0, 1.0], 1001)
    arguments = increasing_arguments(np.full(2002, int(operation), np.int8), level, sign)
    np.testing.assert_allclose([arguments.min(), arguments.max()], [low, high], atol=1e-12)


def test_operations_without_argument_carry_none() -> None:
    """A zero, so that equal views have equal plans."""
    draw = rand_augment(0, 0, POSITIONS)
    assert not draw.arguments[np.isin(draw.ops, WITHOUT_ARGUMENT)].any()


def test_levels_are_clipped_normal() -> None:
    """Rotation is 3 degrees per level: 9 +- 0.5 clipped at 10, so P(30 degrees) = P(z > 2)."""
    degrees = np.abs(arguments_of(rand_augment(1, 0, POSITIONS), Operation.ROTATE))
    assert len(degrees) > 1000
    share = (degrees == 30).mean()
    expected = stats.norm.sf(2)
    assert abs(share - expected) < 3 * np.sqrt(expected / len(degrees))
    below = degrees[degrees < 30] / 3
    assert stats.kstest(below, stats.truncnorm(-18, 2, 9, 0.5).cdf).pvalue > 0.01


def test_slots_are_independent() -> None:
    """The second operation does not depend on the first: all pairs are equally frequent."""
    ops = rand_augment(2, 0, POSITIONS, probability=1.0).ops
    first, second = (np.searchsorted(RAND_AUGMENT, ops[:, slot]) for slot in (0, 1))
    counts = np.zeros((15, 15))
    np.add.at(counts, (first, second), 1)
    assert stats.chisquare(counts.ravel()).pvalue > 0.01


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_extreme_probabilities_are_exact(probability: float, share: float) -> None:
    """Never and always mean never and always."""
    ops = rand_augment(0, 0, POSITIONS, probability=probability).ops
    assert (ops != Operation.IDENTITY).mean() == share


def test_zero_spread_gives_one_magnitude() -> None:
    """Without a spread every operation is at the level asked for."""
    draw = rand_augment(0, 0, POSITIONS, magnitude=5.0, magnitude_std=0.0)
    assert set(np.abs(arguments_of(draw, Operation.ROTATE))) == {15.0}


def test_auto_augment_applies_each_operation_with_its_own_probability() -> None:
    """The mean number of operations per view is the table's mean of summed probabilities."""
    draw = auto_augment(0, 0, POSITIONS)
    expected = np.mean([first[1] + second[1] for first, second in AUTO_AUGMENT])
    counts = (draw.ops != Operation.IDENTITY).sum(axis=1)
    assert abs(counts.mean() - expected) < 3 * counts.std() / np.sqrt(len(counts))


def test_auto_augment_rotates_both_ways() -> None:
    """The sign of a direction is a fair coin."""
    degrees = arguments_of(auto_augment(0, 0, POSITIONS), Operation.ROTATE)
    assert stats.binomtest(int((degrees > 0).sum()), len(degrees)).pvalue > 0.01


def test_three_augment_always_applies_one_of_three() -> None:
    """Grey, solarise and blur are equally frequent; the blur's sigma is uniform on 0.1 to 2."""
    draw = three_augment(0, 0, POSITIONS)
    names, counts = np.unique(draw.ops, return_counts=True)
    assert set(names) == {Operation.GRAYSCALE, Operation.SOLARIZE, Operation.GAUSSIAN_BLUR}
    assert stats.chisquare(counts).pvalue > 0.01
    assert set(arguments_of(draw, Operation.SOLARIZE)) == {128.0}
    sigmas = arguments_of(draw, Operation.GAUSSIAN_BLUR)
    assert stats.kstest(sigmas, stats.uniform(0.1, 1.9).cdf).pvalue > 0.01


def test_full_color_jitter_never_goes_below_zero() -> None:
    """At strength 1 the smallest factor is 0, as torchvision clips it."""
    factors = color_jitter(0, 0, POSITIONS, 1.0).arguments
    assert factors.min() >= 0
    assert stats.kstest(factors.ravel(), stats.uniform(0, 2).cdf).pvalue > 0.01


@pytest.mark.parametrize("policy", [rand_augment, auto_augment, three_augment])
def test_policy_is_a_function_of_its_place(policy: object) -> None:
    """Any part of the positions, in any order, gives the same rows."""
    whole = policy(3, 5, POSITIONS)
    some = np.array([700, 3, 19_999])
    part = policy(3, 5, some)
    np.testing.assert_array_equal(part.ops, whole.ops[some])
    np.testing.assert_array_equal(part.arguments, whole.arguments[some])
