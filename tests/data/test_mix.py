"""Mixing and smoothing, against timm."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.data import Mixup, mixup

from deit.data.mix import mix_images, mix_targets, smooth_targets
from deit.data.mix_plan import MixConfig, MixPlan, plan_mix


def plan_of(lam: float, box: tuple[int, int, int, int], places: int) -> MixPlan:
    """A plan with one group."""
    return MixPlan(
        lam=np.full(places, lam, dtype=np.float32),
        boxes=np.tile(np.array(box, dtype=np.int32), (places, 1)),
        partner=np.arange(places)[::-1].copy(),
        group=places,
    )


@pytest.mark.parametrize(
    ("lam", "box"),
    [(0.3, (0, 0, 0, 0)), (0.9, (0, 0, 0, 0)), (0.875, (2, 1, 4, 2)), (0.75, (0, 4, 4, 4))],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_images_and_targets_are_timms(
    lam: float,
    box: tuple[int, int, int, int],
    smoothing: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """timm's Mixup with its draws replaced by ours, with and without smoothing."""
    top, left, height, width = box
    bounds = (top, top + height, left, left + width)
    monkeypatch.setattr(mixup, "cutmix_bbox_and_lam", lambda *_, **__: (bounds, lam))
    theirs = Mixup(label_smoothing=smoothing, num_classes=5)
    monkeypatch.setattr(theirs, "_params_per_batch", lambda: (lam, height > 0))
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    expected_images, expected_targets = theirs(images.clone(), labels)
    plan = plan_of(lam, box, 6)
    # One rounding of a + w (b - a) against two of w a + (1 - w) b.
    torch.testing.assert_close(mix_images(images, plan), expected_images, rtol=0, atol=1e-6)
    targets = mix_targets(smooth_targets(labels, 5, smoothing), plan)
    torch.testing.assert_close(targets, expected_targets, rtol=0, atol=1e-7)


def test_mixing_is_in_place() -> None:
    """The batch is the largest thing on the device: there is no second one."""
    images = torch.rand(5, 1, 4, 4)
    assert mix_images(images, plan_of(0.5, (0, 0, 0, 0), 5)) is images
    assert torch.equal(images[0], images[4])


@given(
    places=st.integers(1, 90),
    num_classes=st.integers(2, 1000),
    smoothing=st.floats(0, 0.9),
    epoch=st.integers(0, 1000),
)
def test_target_rows_sum_to_one(
    places: int, num_classes: int, smoothing: float, epoch: int
) -> None:
    """Whatever the plan, to the rounding of float32; and no weight is negative."""
    plan = plan_mix(MixConfig(group=32), 16, 0, epoch, np.arange(places))
    labels = torch.arange(places) % num_classes
    targets = mix_targets(smooth_targets(labels, num_classes, smoothing), plan)
    torch.testing.assert_close(targets.sum(1), torch.ones(places), rtol=0, atol=1e-5)
    assert targets.min() >= 0


def test_targets_weigh_what_the_pixels_show() -> None:
    """Images that are their one-hot label everywhere: the mixed pixels average to the targets."""
    positions = np.arange(300)
    labels = torch.tensor(positions % 7)
    targets = smooth_targets(labels, 7, 0.0)
    images = targets[:, :, None, None].expand(-1, -1, 16, 16).clone()
    plan = plan_mix(MixConfig(group=50), 16, 0, 0, positions)
    mean = mix_images(images, plan).mean((2, 3))
    torch.testing.assert_close(mean, mix_targets(targets, plan), rtol=0, atol=1e-5)


def test_groups_do_not_leak_into_each_other() -> None:
    """With two groups, each is as if it were alone."""
    positions = np.arange(96)
    images = torch.rand(96, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    alone = torch.cat(
        [
            mix_images(images[part].clone(), plan_mix(MixConfig(), 16, 0, 0, positions[part]))
            for part in (slice(0, 64), slice(64, 96))
        ]
    )
    assert torch.equal(mix_images(images, plan_mix(MixConfig(), 16, 0, 0, positions)), alone)
