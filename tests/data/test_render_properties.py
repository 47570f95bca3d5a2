"""What every policy and every crop must keep, for images of any size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deit.data.plan import ViewConfig, ViewPlan, crop_box, plan_views
from deit.data.render import render_view

CONFIGS = {
    "deit": ViewConfig(),
    "rand-augment, weak": ViewConfig(num_ops=4, magnitude=1.0, op_probability=1.0),
    "auto-augment": ViewConfig(policy="auto-augment", interpolation="bilinear"),
    "3-augment": ViewConfig(crop="simple", padding=1, policy="3-augment", color_jitter=0.3),
    "pad": ViewConfig(crop="pad", padding=2, policy="none", erase=0.0),
    "resize, jitter": ViewConfig(crop="resize", policy="none", color_jitter=1.0, flip=0.0),
    "small crops": ViewConfig(scale=(0.01, 0.02), ratio=(0.1, 10.0), erase=1.0),
}
ARRAYS = ("areas", "aspects", "places", "flip", "ops", "arguments", "erase")

sides = st.one_of(st.sampled_from([1, 2, 3]), st.integers(1, 90))
view_sizes = st.integers(2, 40)
seeds = st.integers(0, 2**32 - 1)
positions = st.lists(st.integers(0, 2**62), min_size=2, max_size=6)
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
few = settings(max_examples=25, deadline=None)


def image_of(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width * 1000 + height).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


def row_of(plan: ViewPlan, row: int) -> list[np.ndarray]:
    return [getattr(plan, name)[row] for name in ARRAYS]


@every_config
@few
@given(sides, sides, view_sizes, seeds, positions)
def test_view_has_its_size_and_type(
    config: ViewConfig, width: int, height: int, size: int, seed: int, places: list[int]
) -> None:
    """Any image from 1 x 1 gives square RGB bytes, and rendering again gives the same."""
    image = image_of(width, height)
    plan = plan_views(config, size, seed, 0, np.array(places))
    for row in range(len(plan)):
        view = render_view(image, plan, row, config, size)
        assert view.shape == (size, size, 3)
        assert view.dtype == np.uint8
        np.testing.assert_array_equal(render_view(image, plan, row, config, size), view)


@every_config
@few
@given(view_sizes, seeds, st.integers(0, 2**32 - 1), positions, st.data())
def test_view_is_the_same_alone_and_in_bulk(
    config: ViewConfig, size: int, seed: int, epoch: int, places: list[int], data: st.DataObject
) -> None:
    """Splitting the positions anywhere changes no row: any worker and process plans its own."""
    cut = data.draw(st.integers(1, len(places) - 1))
    whole = plan_views(config, size, seed, epoch, np.array(places))
    halves = [
        plan_views(config, size, seed, epoch, np.array(part, dtype=np.int64))
        for part in (places[:cut], places[cut:])
    ]
    for row in range(len(whole)):
        half, place = (halves[0], row) if row < cut else (halves[1], row - cut)
        for here, there in zip(row_of(whole, row), row_of(half, place), strict=True):
            np.testing.assert_array_equal(here, there)


@every_config
@few
@given(sides, sides, seeds)
def test_crop_is_never_empty_and_always_shows_the_image(
    config: ViewConfig, width: int, height: int, seed: int
) -> None:
    """Whatever sticks out over the border, some pixels of the image are inside."""
    plan = plan_views(config, 8, seed, 0, np.arange(10))
    for row in range(len(plan)):
        left, top, box_width, box_height = crop_box(plan, row, width, height)
        assert min(left + box_width, width) > max(left, 0)
        assert min(top + box_height, height) > max(top, 0)


@every_config
def test_seeds_and_epochs_differ(config: ViewConfig) -> None:
    """Of 50 views of a noisy image, most change with the epoch and with the seed."""
    image = image_of(40, 30)

    def views(seed: int, epoch: int) -> np.ndarray:
        plan = plan_views(config, 16, seed, epoch, np.arange(50))
        return np.stack([render_view(image, plan, row, config, 16) for row in range(50)])

    for other in (views(0, 1), views(1, 0)):
        assert (views(0, 0) != other).any(axis=(1, 2, 3)).mean() > 0.5
