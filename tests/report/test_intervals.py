import math

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from deit.report.intervals import accuracy_interval, paired_interval

shares = st.floats(0, 1)


@given(st.lists(st.tuples(shares, shares), min_size=2, max_size=9), st.sampled_from([0.9, 0.95]))
def test_paired_interval_is_students(pairs, level):
    """scipy's paired t-test gives the same interval."""
    ours, theirs = zip(*pairs, strict=True)
    if len({our - their for our, their in pairs}) == 1:
        return  # scipy gives nan where nothing scatters
    expected = scipy.stats.ttest_rel(ours, theirs).confidence_interval(level)
    interval = paired_interval(ours, theirs, level)
    assert interval.low == pytest.approx(expected.low, abs=1e-9)
    assert interval.high == pytest.approx(expected.high, abs=1e-9)


def test_pairing_removes_what_the_seeds_share():
    """Methods that differ by one point on each of very different seeds differ by one point."""
    interval = paired_interval([0.51, 0.71, 0.91], [0.50, 0.70, 0.90])
    assert interval.mean == pytest.approx(0.01)
    assert interval.sign == 1
    assert paired_interval([0.50, 0.70], [0.51, 0.71]).sign == -1


def test_one_pair_has_no_interval():
    """A single seed says nothing about its scatter."""
    interval = paired_interval([0.9], [0.8])
    assert interval.mean == pytest.approx(0.1)
    assert (interval.low, interval.high, interval.sign) == (None, None, 0)


def test_interval_that_holds_zero_has_no_sign():
    """Two seeds that fall on different sides decide nothing."""
    assert paired_interval([0.9, 0.7], [0.8, 0.8]).sign == 0


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([0.5], [0.5, 0.6])])
def test_unpaired_values_are_refused(ours, theirs):
    """Pairs are pairs."""
    with pytest.raises(ValueError):  # noqa: PT011
        paired_interval(ours, theirs)


@given(st.integers(1, 50_000), st.data())
def test_accuracy_interval_is_wilsons(count, data):
    """scipy's score interval of a binomial share is the same."""
    hits = data.draw(st.integers(0, count))
    expected = scipy.stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
    interval = accuracy_interval(hits, count)
    assert interval.mean == hits / count
    assert math.isclose(interval.low, expected.low, abs_tol=1e-12)
    assert math.isclose(interval.high, expected.high, abs_tol=1e-12)


@pytest.mark.parametrize(("hits", "count"), [(1, 0), (3, 2), (-1, 2)])
def test_impossible_accuracy_is_refused(hits, count):
    """Counts that cannot be are a mistake of the caller."""
    with pytest.raises(ValueError, match="no accuracy"):
        accuracy_interval(hits, count)
