"""How sure a measured accuracy, or a difference of two, is: 95 % intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the interval around it.

    Attributes:
        mean: the middle of what was measured.
        low: lower end, or None where one measurement gives no interval.
        high: upper end, or None likewise.
    """

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def sign(self) -> int:
        """1 when the whole interval lies above 0, -1 below, 0 when it holds 0 or is not known."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


def paired_interval(
    ours: Sequence[float], theirs: Sequence[float], level: float = 0.95
) -> Interval:
    """Mean of the differences ``ours - theirs`` of paired runs, with Student's t interval.

    Pairs share their seed, hence the order of the images and, where the shapes agree, the initial
    weights; what the seed does to both then falls out of the difference. With n differences of mean
    ``m`` and standard deviation ``s``, the interval is ``m -+ t(level, n - 1) * s / sqrt(n)``. It
    speaks of the scatter of seeds, not of another choice of validation images.

    Args:
        ours: one value for each seed.
        theirs: the values of the other method, seeds in the same order.
        level: the share of such intervals that hold the true difference.

    Returns:
        the mean; both ends are None for a single pair.

    Raises:
        ValueError: for no pairs, or lengths that differ.

    >>> paired_interval([0.75, 0.875], [0.5, 0.625]).mean
    0.25
    """
    differences = [our - their for our, their in zip(ours, theirs, strict=True)]
    count = len(differences)
    if count == 0:
        raise ValueError("paired_interval needs at least one pair")
    mean = math.fsum(differences) / count
    if count == 1:
        return Interval(mean)
    from scipy.special import stdtrit

    variance = math.fsum((difference - mean) ** 2 for difference in differences) / (count - 1)
    half = float(stdtrit(count - 1, (1 + level) / 2)) * math.sqrt(variance / count)
    return Interval(mean, mean - half, mean + half)


def accuracy_interval(hits: int, count: int) -> Interval:
    """The accuracy ``hits / count`` with Wilson's 95 % score interval.

    It says how far the accuracy on other images of the same kind may lie from the measured one, and
    keeps its meaning near 0 and 1 (Wilson 1927, Eq. of the score interval without continuity
    correction), with p = hits / count and z = 1.96:
    ``(p + z^2 / 2n -+ z * sqrt(p(1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``.

    Raises:
        ValueError: unless ``0 <= hits <= count`` and ``count >= 1``.
    """
    if not 0 <= hits <= count or count < 1:
        raise ValueError(f"{hits} of {count} is no accuracy")
    z = 1.959963984540054
    share = hits / count
    middle = share + z**2 / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    scale = 1 + z**2 / count
    return Interval(share, max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0))
