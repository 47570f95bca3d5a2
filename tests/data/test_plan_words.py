"""A plan in words."""

import numpy as np
import pytest

from deit.data.mix_plan import MixConfig, MixPlan, plan_mix
from deit.data.operations import Operation
from deit.data.operations_host import apply_operation
from deit.data.plan import ViewConfig, crop_box, plan_views
from deit.data.plan_words import mix_words, operation_words, view_words


@pytest.mark.parametrize("operation", [op for op in Operation if op != Operation.IDENTITY])
def test_every_operation_has_words(operation):
    """And every argument is filled in."""
    words = operation_words(operation, 0.5)
    assert words
    assert "{" not in words


@pytest.mark.parametrize(
    ("operation", "argument", "words"),
    [
        (Operation.ROTATE, 12.34, "rotated by 12.3° counter-clockwise"),
        (Operation.ROTATE, -12.34, "rotated by 12.3° clockwise"),
        (Operation.TRANSLATE_X, 0.25, "moved by 25% to the left"),
        (Operation.TRANSLATE_Y, -0.25, "moved by 25% down"),
        (Operation.COLOR, 1.9, "colour × 1.90"),
        (Operation.EQUALIZE, 0.0, "histogram equalised"),
    ],
)
def test_arguments_are_told_with_their_direction(operation, argument, words):
    """A translation says where the picture goes."""
    assert operation_words(operation, argument) == words


def test_a_moved_picture_goes_where_the_words_say():
    """The sign of the words, against the pixels."""
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[8, 8] = 255
    moved = apply_operation(pixels, Operation.TRANSLATE_X, 0.25, (0, 0, 0))
    assert moved[8].sum(-1).argmax() == 4  # to the left
    moved = apply_operation(pixels, Operation.TRANSLATE_Y, 0.25, (0, 0, 0))
    assert moved[:, 8].sum(-1).argmax() == 4  # up


def test_the_words_of_a_view_are_its_plan():
    """Crop, mirror, as many operations as are not none, erasing."""
    config = ViewConfig(erase=0.5)
    plan = plan_views(config, 32, 0, 0, np.arange(200))
    for row in range(200):
        words = view_words(plan, row, 50, 40)
        left, top, width, height = crop_box(plan, row, 50, 40)
        whole = (left, top, width, height) == (0, 0, 50, 40)
        expected = "the whole image" if whole else f"crop: {width} × {height} px at ({left}, {top})"
        assert words[0].startswith(expected)
        assert ("mirrored" in words) == plan.flip[row]
        assert any(text.startswith("erased") for text in words) == plan.erase[row].any()
        extra = int(plan.flip[row]) + int((plan.ops[row] > 0).sum()) + int(plan.erase[row].any())
        assert len(words) == 1 + extra


def test_a_padded_crop_says_that_it_sticks_out():
    """Beyond the edge there is no share of the area to tell."""
    plan = plan_views(ViewConfig(crop="pad"), 32, 0, 0, np.arange(50))
    for row in range(50):
        left, top, *_ = crop_box(plan, row, 32, 32)
        assert view_words(plan, row, 32, 32)[0].endswith("beyond the edge") == (
            (left, top) != (0, 0)
        )


def test_mixing_tells_the_weight_of_the_partner():
    """A box for CutMix, a share for mixup, nothing where nothing is mixed."""
    boxes = np.array([[2, 3, 4, 5], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=np.int32)
    lam = np.array([0.75, 0.6, 1.0], dtype=np.float32)
    plan = MixPlan(lam, boxes, np.array([2, 1, 0]), 3)
    assert mix_words(plan, 0, "a.png") == "CutMix: 5 × 4 px at (3, 2) of a.png, 25%"
    assert mix_words(plan, 1, "a.png") == "mixup: 40% of a.png"
    assert mix_words(plan, 2, "a.png") == ""


def test_a_real_plan_of_mixing_is_told_in_full():
    """Every place of a mixed batch has words."""
    plan = plan_mix(MixConfig(), 32, 0, 0, np.arange(256))
    told = [mix_words(plan, place, "it") for place in range(256)]
    assert all(told)
    assert {text.split(":")[0] for text in told} == {"CutMix", "mixup"}
