"""Crops, erasing boxes and resizing against timm, torchvision and Pillow."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation

from deit.data.plan import ViewConfig, crop_box, plan_erasing, plan_views
from deit.data.render import render_view

VIEWS = 20_000


@pytest.mark.parametrize(("width", "height"), [(500, 375), (32, 32), (64, 200)])
def test_random_resized_crops_are_distributed_as_timms(width: int, height: int) -> None:
    """Kolmogorov-Smirnov on place, size, area and shape of 20,000 boxes of each."""
    random.seed(0)
    image = Image.new("RGB", (width, height))
    draw = RandomResizedCropAndInterpolation.get_params
    theirs = np.array([draw(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(VIEWS)])
    plan = plan_views(ViewConfig(), 224, 0, 0, np.arange(VIEWS))
    left, top, box_width, box_height = np.array(
        [crop_box(plan, row, width, height) for row in range(VIEWS)]
    ).T
    ours = np.stack([top, left, box_height, box_width], axis=1)
    for here, there in zip(described(ours).T, described(theirs).T, strict=True):
        assert stats.ks_2samp(here, there).pvalue > 0.01


@pytest.mark.parametrize("size", [224, 32])
def test_erasing_boxes_are_distributed_as_timms(size: int) -> None:
    """The same for the boxes of random erasing, among the quarter of the views that has one."""
    random.seed(1)
    erasing = RandomErasing(1.0, mode="const", max_count=1, device="cpu")
    theirs = np.array([erased_box(erasing, size) for _ in range(VIEWS)])
    ours = plan_erasing(ViewConfig(), size, 0, 0, np.arange(4 * VIEWS))
    ours = ours[ours[:, 2] > 0]
    for here, there in zip(described(ours).T, described(theirs).T, strict=True):
        assert stats.ks_2samp(here, there).pvalue > 0.01


def test_a_quarter_of_the_views_is_erased() -> None:
    """DeiT's probability, by a binomial test."""
    erased = plan_erasing(ViewConfig(), 224, 0, 0, np.arange(VIEWS))[:, 2] > 0
    assert stats.binomtest(int(erased.sum()), VIEWS, 0.25).pvalue > 0.01


def described(boxes: np.ndarray) -> np.ndarray:
    """Top, left, height, width, area and shape."""
    height, width = boxes[:, 2], boxes[:, 3]
    return np.column_stack([boxes, height * width, height / np.maximum(width, 1)])


class _BoxRecorder:
    """In the place of an image: remembers which box is written to."""

    def __init__(self) -> None:
        self.box = (0, 0, 0, 0)

    def __setitem__(self, key: tuple[slice, slice, slice], value: torch.Tensor) -> None:
        _, rows, columns = key
        self.box = (rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)


def erased_box(erasing: RandomErasing, size: int) -> tuple[int, int, int, int]:
    recorder = _BoxRecorder()
    erasing._erase(recorder, 1, size, size, torch.float32)
    return recorder.box


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [224, 32, 7, 1])
def test_crop_and_resize_equal_pillows(interpolation: str, size: int) -> None:
    """Two grey levels at most, a tenth of one on average: weights of 16 bits against 22.

    Pillow's passes are asked for one by one, width first: in one call their order depends on its
    release and on the size, which shows where noise overshoots and is clipped in between.
    """
    rng = np.random.default_rng(0)
    config = ViewConfig(interpolation=interpolation, policy="none", flip=0.0)
    plan = plan_views(config, size, 0, 0, np.arange(40))
    method = Image.Resampling[interpolation.upper()]
    for row, (width, height) in enumerate(rng.integers(1, 300, (40, 2)).tolist()):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        left, top, box_width, box_height = crop_box(plan, row, width, height)
        box = Image.fromarray(image).crop((left, top, left + box_width, top + box_height))
        theirs = box.resize((size, box_height), method).resize((size, size), method)
        ours = render_view(image, plan, row, config, size)
        distance = np.abs(ours.astype(int) - np.asarray(theirs))
        assert distance.max() <= 2
        if size > 1:
            assert distance.mean() < 0.1
