"""Rendering: crop, flip and operations in their order, and the memory of what comes out."""

import dataclasses
import multiprocessing

import numpy as np
import pytest

from deit.data.operations import Operation
from deit.data.plan import ViewConfig, ViewPlan, crop_box, plan_views
from deit.data.render import render_view

POSITIONS = np.arange(50)
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
PLAIN = {"policy": "none", "flip": 0.0, "erase": 0.0}


def planned(size: int, **settings: object) -> tuple[ViewPlan, ViewConfig]:
    config = ViewConfig(**settings)
    return plan_views(config, size, 0, 0, POSITIONS), config


def with_operations(plan: ViewPlan, *operations: tuple[Operation, float]) -> ViewPlan:
    """The plan with the same operations for every view."""
    ops, arguments = (
        np.array([list(column)] * len(plan)) for column in zip(*operations, strict=True)
    )
    return dataclasses.replace(
        plan, ops=ops.astype(np.int8), arguments=arguments.astype(np.float32)
    )


def test_nothing_asked_for_changes_nothing() -> None:
    """An image of the view's size without crop, flip and operations comes back as it is."""
    plan, config = planned(32, crop="resize", **PLAIN)
    np.testing.assert_array_equal(render_view(PIXELS, plan, 0, config, 32), PIXELS)


def test_flip_mirrors_left_and_right() -> None:
    """Columns in reverse."""
    plan, config = planned(32, crop="resize", **PLAIN | {"flip": 1.0})
    np.testing.assert_array_equal(render_view(PIXELS, plan, 0, config, 32), PIXELS[:, ::-1])


def test_operations_follow_their_order_after_the_flip() -> None:
    """Solarising after moving would invert the fill colour; moving before the flip, move right."""
    plan, config = planned(32, crop="resize", **PLAIN | {"flip": 1.0})
    steps = ((Operation.SOLARIZE, 100.0), (Operation.TRANSLATE_X, 0.25))
    solarized = np.where(PIXELS >= 100, 255 - PIXELS, PIXELS)[:, ::-1]
    expected = np.full_like(PIXELS, config.fill)
    expected[:, :24] = solarized[:, 8:]
    rendered = render_view(PIXELS, with_operations(plan, *steps), 0, config, 32)
    np.testing.assert_array_equal(rendered, expected)


def test_settings_reach_the_operations() -> None:
    """Fill and interpolation of the config are those of a translation."""
    plan, config = planned(32, crop="resize", interpolation="bilinear", fill=(1, 2, 3), **PLAIN)
    moved = with_operations(plan, (Operation.IDENTITY, 0.0), (Operation.TRANSLATE_Y, 5.5 / 32))
    expected = np.full_like(PIXELS, (1, 2, 3))
    expected[:26] = (PIXELS[5:31].astype(int) + PIXELS[6:32]) // 2
    rendered = render_view(PIXELS, moved, 0, config, 32)
    np.testing.assert_array_equal(rendered, expected)


@pytest.mark.parametrize(("crop", "mode"), [("pad", "constant"), ("simple", "reflect")])
def test_crop_over_the_border_equals_numpys_padding(crop: str, mode: str) -> None:
    """Pad the whole image, then cut: torchvision's RandomCrop(32, padding=4, padding_mode)."""
    plan, config = planned(32, crop=crop, **PLAIN)
    padded = np.pad(PIXELS, ((4, 4), (4, 4), (0, 0)), mode=mode)
    for row in range(len(plan)):
        left, top, _, _ = crop_box(plan, row, 32, 32)
        expected = padded[top + 4 : top + 36, left + 4 : left + 36]
        np.testing.assert_array_equal(render_view(PIXELS, plan, row, config, 32), expected)


def test_mirrored_border_may_be_wider_than_the_image() -> None:
    """Then it is mirrored again and again, as numpy does; a single pixel is repeated."""
    for side in (1, 2, 3, 5):
        image = PIXELS[:side, :side]
        plan, config = planned(side, crop="simple", padding=side, **PLAIN)
        widths = ((side, side), (side, side), (0, 0))
        padded = np.pad(image, widths, mode="reflect" if side > 1 else "edge")
        for row in range(len(plan)):
            left, top, _, _ = crop_box(plan, row, side, side)
            expected = padded[top + side :, left + side :][:side, :side]
            np.testing.assert_array_equal(render_view(image, plan, row, config, side), expected)


def test_image_is_left_as_it_was() -> None:
    """One decoded image serves several views: it may be read-only and is never written."""
    image = PIXELS.copy()
    image.setflags(write=False)
    for crop in ("random-resized", "pad", "simple", "resize"):
        plan, config = planned(32, crop=crop)
        for row in range(len(plan)):
            view = render_view(image, plan, row, config, 32)
            assert view.flags.writeable
            assert not np.shares_memory(view, image)


def test_operations_of_a_strided_image() -> None:
    """A decoder may hand over a view into something else, mirrored or cut."""
    plan, config = planned(16)
    strided = PIXELS[::-1, 4:28][:, ::-1]
    for row in range(len(plan)):
        np.testing.assert_array_equal(
            render_view(strided, plan, row, config, 16),
            render_view(np.ascontiguousarray(strided), plan, row, config, 16),
        )


def _first_view() -> bytes:
    plan, config = planned(24)
    return render_view(PIXELS, plan, 0, config, 24).tobytes()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_forked_process_renders_the_same() -> None:
    """Loader workers are forked from a process in which torch has already been at work."""
    expected = _first_view()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_first_view).get(timeout=30) == expected
