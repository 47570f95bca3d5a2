"""Who is mixed with whom: distributions against timm, independence of splits."""

import functools
import re
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from timm.data import Mixup
from timm.data.mixup import cutmix_bbox_and_lam

from deit.data.mix_plan import MixConfig, MixPlan, plan_mix
from deit.errors import UserError

NUM_DRAWS = 20_000


@functools.cache
def drawn(mixup: float, cutmix: float, image_size: int = 224) -> MixPlan:
    """20,000 groups of two; each group is told by its first place."""
    config = MixConfig(mixup=mixup, cutmix=cutmix, group=2)
    return plan_mix(config, image_size, 0, 0, np.arange(2 * NUM_DRAWS))


def first_places(values: np.ndarray) -> np.ndarray:
    return values[::2]


def draw_with_timm(mixup: float, cutmix: float) -> list[tuple[float, bool]]:
    np.random.seed(1)  # noqa: NPY002  (timm draws from the global generator)
    theirs = Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix)
    return [theirs._params_per_batch() for _ in range(NUM_DRAWS)]


@pytest.mark.parametrize("alpha", [0.4, 0.8, 1.0, 4.0])
def test_mixup_weights_follow_the_beta_distribution(alpha: float) -> None:
    """Against the exact distribution and against 20,000 draws of timm.

    Smaller parameters pile up within a rounding step of 0 and 1, which the test would see.
    """
    plan = drawn(alpha, 0.0)
    lam = first_places(plan.lam)
    assert not plan.boxes.any()
    assert scipy.stats.kstest(lam, scipy.stats.beta(alpha, alpha).cdf).pvalue > 0.01
    theirs = [lam for lam, _ in draw_with_timm(alpha, 0.0)]
    assert scipy.stats.ks_2samp(lam, theirs).pvalue > 0.01


@pytest.mark.parametrize("image_size", [224, 5])
def test_cutmix_boxes_and_weights_are_distributed_as_timms(image_size: int) -> None:
    """Top, left, height, width and weight; at 5 pixels a pixel more or less would show.

    Boxes without a pixel, which mix nothing, are left out on both sides.
    """
    plan = drawn(0.0, 1.0, image_size)
    theirs = np.array(
        [
            (top, left, bottom - top, right - left, np.float32(corrected))
            for lam, _ in draw_with_timm(0.0, 1.0)
            for (top, bottom, left, right), corrected in [
                cutmix_bbox_and_lam((image_size, image_size), lam)
            ]
            if corrected < 1
        ]
    )
    ours = np.column_stack([first_places(plan.boxes), first_places(plan.lam)])
    ours = ours[ours[:, 4] < 1]
    assert abs(len(ours) - len(theirs)) < 5 * np.sqrt(NUM_DRAWS)
    for place in range(5):
        assert scipy.stats.ks_2samp(ours[:, place], theirs[:, place]).pvalue > 0.01


def test_half_of_the_groups_get_cutmix_when_both_are_on() -> None:
    """As in timm; the groups with mixup keep mixup's weights."""
    plan = drawn(0.8, 1.0)
    cut = first_places(plan.boxes)[:, 2] > 0
    theirs = sum(use_cutmix for _, use_cutmix in draw_with_timm(0.8, 1.0))
    assert scipy.stats.binomtest(int(cut.sum()), NUM_DRAWS).pvalue > 0.01
    assert abs(cut.sum() - theirs) < 4 * np.sqrt(2 * NUM_DRAWS / 4)
    # A CutMix whose box is under a pixel has none: 1 in 224**2, too rare to show here.
    lam = first_places(plan.lam)[~cut]
    assert scipy.stats.kstest(lam, scipy.stats.beta(0.8, 0.8).cdf).pvalue > 0.01


def test_the_weight_of_cutmix_is_the_area_left_outside_of_the_box() -> None:
    """Counted pixel by pixel, with boxes cut off at the border."""
    plan = plan_mix(MixConfig(mixup=0.0, group=2), 12, 0, 0, np.arange(200))
    for lam, (top, left, height, width) in zip(plan.lam, plan.boxes, strict=True):
        pixels = np.ones((12, 12))
        pixels[top : top + height, left : left + width] = 0
        assert lam == np.float32(pixels.mean())
        assert min(top, left) >= 0
        assert max(top + height, left + width) <= 12


def test_probability_is_the_share_of_groups_that_are_mixed() -> None:
    """A group that is not mixed has weight 1 and no box."""
    config = MixConfig(probability=0.3, group=2)
    lam = plan_mix(config, 224, 0, 0, np.arange(2 * NUM_DRAWS)).lam[::2]
    assert scipy.stats.binomtest(int((lam < 1).sum()), NUM_DRAWS, 0.3).pvalue > 0.01


@pytest.mark.parametrize("config", [MixConfig(mixup=0.0, cutmix=0.0), MixConfig(probability=0.0)])
def test_nothing_is_mixed_when_mixing_is_off(config: MixConfig) -> None:
    """Every place keeps its own image and target."""
    plan = plan_mix(config, 8, 0, 0, np.arange(500))
    assert (plan.lam == 1).all()
    assert not plan.boxes.any()


@given(places=st.integers(1, 200), group=st.integers(2, 70))
def test_each_group_is_mixed_with_itself_reversed(places: int, group: int) -> None:
    """One draw per group, partners mirrored in it, also in a last, smaller, odd one."""
    plan = plan_mix(MixConfig(group=group), 16, 0, 0, np.arange(places))
    for start in range(0, places, group):
        mine = np.arange(start, min(start + group, places))
        assert (plan.partner[mine] == mine[::-1]).all()
        assert (plan.lam[mine] == plan.lam[start]).all()
        assert (plan.boxes[mine] == plan.boxes[start]).all()


@given(batch=st.integers(0, 50), rank=st.integers(0, 3))
def test_the_plan_of_a_share_is_part_of_the_plan_of_the_batch(batch: int, rank: int) -> None:
    """So a batch of 1024 is mixed alike on one process and on four."""
    positions = np.arange(batch * 1024, (batch + 1) * 1024)
    part = slice(rank * 256, (rank + 1) * 256)
    whole = plan_mix(MixConfig(), 32, 0, 3, positions)
    mine = plan_mix(MixConfig(), 32, 0, 3, positions[part])
    assert (mine.lam == whole.lam[part]).all()
    assert (mine.boxes == whole.boxes[part]).all()
    assert (mine.partner + 256 * rank == whole.partner[part]).all()


def test_draws_differ_by_seed_epoch_and_position() -> None:
    """And by nothing else: the same place gives the same plan."""
    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 64), (0, 0, 0)]
    plans = [
        plan_mix(MixConfig(cutmix=0.0), 32, seed, epoch, np.arange(first, first + 64)).lam[0]
        for seed, epoch, first in places
    ]
    assert len(set(plans)) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"mixup": -0.1},
        {"cutmix": -1.0},
        {"probability": 1.1},
        {"switch": -0.1},
        {"group": 1},
        {"smoothing": 1.0},
    ],
)
def test_values_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    """The message names the field and its value."""
    ((name, value),) = wrong.items()
    with pytest.raises(UserError, match=re.escape(f"mix.{name} = {value}")):
        MixConfig(**wrong)
