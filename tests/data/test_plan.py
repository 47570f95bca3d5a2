"""The plan of views: what it promises whatever the settings, and its edges."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from deit.data.plan import ViewConfig, ViewPlan, crop_box, keep_masks, plan_erasing, plan_views
from deit.errors import UserError

POSITIONS = np.arange(2000)
ARRAYS = ("areas", "aspects", "places", "flip", "ops", "arguments", "erase")


def plan_of(size: int = 32, seed: int = 0, epoch: int = 0, **settings: object) -> ViewPlan:
    return plan_views(ViewConfig(**settings), size, seed, epoch, POSITIONS)


def boxes_of(plan: ViewPlan, width: int, height: int) -> np.ndarray:
    return np.array([crop_box(plan, row, width, height) for row in range(len(plan))])


@pytest.mark.parametrize("changed", ["seed", "epoch"])
def test_another_seed_or_epoch_is_another_plan(changed: str) -> None:
    """No part of the plan repeats from epoch to epoch or from run to run."""
    here, there = plan_of(), plan_of(**{changed: 1})
    for name in ARRAYS:
        assert not np.array_equal(getattr(here, name), getattr(there, name)), name


def test_parts_of_a_plan_are_independent() -> None:
    """No two streams share their numbers: no part of a plan tells anything about another."""
    plan = plan_of(erase=0.5)
    columns = np.stack(
        [
            plan.flip,
            plan.places[:, 0],
            plan.areas[:, 0],
            plan.aspects[:, 0],
            plan.ops[:, 0] > 0,
            plan.erase[:, 2] > 0,
            keep_masks(0, 0, POSITIONS, [0.5])[:, 0, 0],
        ],
        axis=1,
    )
    correlation = np.corrcoef(columns, rowvar=False) - np.eye(columns.shape[1])
    assert np.abs(correlation).max() < 4 / np.sqrt(len(plan))


@pytest.mark.parametrize(("setting", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_extreme_flip_and_erase_probabilities_are_exact(setting: float, share: float) -> None:
    """Never and always mean never and always."""
    plan = plan_of(flip=setting, erase=setting)
    assert plan.flip.mean() == share
    assert (plan.erase[:, 2] > 0).mean() == share


def test_color_jitter_comes_after_the_policy() -> None:
    """DeiT III's order: one of three first, then brightness, contrast and colour in any order."""
    plan = plan_of(policy="3-augment", color_jitter=0.3)
    assert plan.ops.shape == (len(POSITIONS), 4)
    assert {tuple(sorted(row)) for row in plan.ops[:, 1:].tolist()} == {(8, 9, 10)}


def test_no_policy_has_no_operations() -> None:
    """No slots at all, so that nothing is paid for them."""
    assert plan_of(policy="none").ops.shape == (len(POSITIONS), 0)


def test_boxes_lie_within_the_image() -> None:
    """Random-resized crops of images of any shape, down to a single pixel, are never empty."""
    plan = plan_of()
    for width, height in ((1, 1), (1, 37), (37, 1), (2, 3), (500, 375), (40, 4000)):
        left, top, box_width, box_height = boxes_of(plan, width, height).T
        assert min(left.min(), top.min()) >= 0
        assert min(box_width.min(), box_height.min()) >= 1
        assert (left + box_width).max() <= width
        assert (top + box_height).max() <= height


@pytest.mark.parametrize(("size", "box"), [((400, 10), (193, 0, 13, 10)), ((3, 90), (0, 43, 3, 4))])
def test_narrow_image_falls_back_to_its_centre(size: tuple[int, int], box: tuple[int, ...]) -> None:
    """Where no try can fit, the largest centred box of ratio 4/3 or 3/4: 10 * 4/3, 3 / (3/4)."""
    assert crop_box(plan_of(scale=(1.0, 1.0)), 0, *size) == box


def test_whole_image_may_be_chosen() -> None:
    """Area 1 and the image's own ratio give the image."""
    plan = plan_of(scale=(1.0, 1.0), ratio=(2.0, 2.0))
    assert crop_box(plan, 0, 200, 100) == (0, 0, 200, 100)


def test_pad_crop_is_uniform_over_all_offsets() -> None:
    """An image of the view's size moves by -4 to 4 in both directions, 81 ways."""
    left, top, box_width, box_height = boxes_of(plan_of(crop="pad"), 32, 32).T
    assert (box_width == 32).all()
    assert (box_height == 32).all()
    counts = np.zeros((9, 9))
    np.add.at(counts, (left + 4, top + 4), 1)
    assert stats.chisquare(counts.ravel()).pvalue > 0.01


def test_border_of_a_larger_image_is_as_wide_in_the_view() -> None:
    """Padding is in pixels of the view: 4 of 32 is an eighth of a 320-pixel side, 40."""
    left, top, box_width, _ = boxes_of(plan_of(crop="simple"), 400, 320).T
    assert (box_width == 320).all()
    assert (left.min(), left.max()) == (-40, 120)
    assert (top.min(), top.max()) == (-40, 40)


def test_resize_takes_the_whole_image() -> None:
    """No cut at all."""
    assert crop_box(plan_of(crop="resize"), 5, 17, 9) == (0, 0, 17, 9)


def test_erased_boxes_lie_within_the_view() -> None:
    """And are smaller than it in both directions, as in timm."""
    top, left, height, width = plan_of(size=224, erase=1.0).erase.T
    assert min(top.min(), left.min()) >= 0
    assert min(height.min(), width.min()) >= 1
    assert max(height.max(), width.max()) < 224
    assert max((top + height).max(), (left + width).max()) <= 224


def test_view_too_small_for_any_box_is_not_erased() -> None:
    """In a view of one pixel no box is smaller than the view."""
    assert not plan_of(size=1, erase=1.0).erase.any()


def test_erasing_planned_alone_equals_the_whole_plan() -> None:
    """The device needs the boxes only, and must find the same."""
    alone = plan_erasing(ViewConfig(), 32, 0, 0, POSITIONS)
    np.testing.assert_array_equal(alone, plan_of().erase)


def test_stochastic_depth_drops_at_each_blocks_rate() -> None:
    """Shares of dropped branches within 3.5 standard errors of the rates; 0 never drops."""
    rates = np.linspace(0, 0.1, 12)
    masks = keep_masks(0, 0, np.arange(20_000), rates.tolist())
    assert masks.shape == (20_000, 12, 2)
    assert masks.dtype == np.float32
    assert set(np.unique(masks)) == {0.0, 1.0}
    dropped = 1 - masks.mean(axis=0)
    errors = np.sqrt(rates * (1 - rates) / 20_000)[:, None]
    assert (np.abs(dropped - rates[:, None]) <= 3.5 * errors).all()


def test_stochastic_depth_masks_are_independent() -> None:
    """The two branches of a block, and the blocks, are dropped independently."""
    masks = keep_masks(0, 0, np.arange(20_000), [0.5] * 4).reshape(20_000, 8)
    correlation = np.corrcoef(masks, rowvar=False) - np.eye(8)
    assert np.abs(correlation).max() < 4 / np.sqrt(20_000)


def test_stochastic_depth_is_a_function_of_its_place() -> None:
    """The same masks alone and in bulk; others in another epoch and for another seed."""
    rates = [0.1, 0.5]
    masks = keep_masks(1, 2, POSITIONS, rates)
    np.testing.assert_array_equal(keep_masks(1, 2, POSITIONS[700:703], rates), masks[700:703])
    assert not np.array_equal(keep_masks(1, 3, POSITIONS, rates), masks)
    assert not np.array_equal(keep_masks(2, 2, POSITIONS, rates), masks)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"scale": (0.0, 1.0)}, "views.scale = (0.0, 1.0)"),
        ({"scale": (0.9, 0.1)}, "views.scale = (0.9, 0.1)"),
        ({"scale": (0.1, float("nan"))}, "views.scale = (0.1, nan)"),
        ({"ratio": (-1.0, 1.0)}, "views.ratio = (-1.0, 1.0)"),
        ({"crop": "pad", "padding": -1}, "views.padding = -1"),
        ({"flip": 1.5}, "views.flip = 1.5"),
        ({"op_probability": -0.5}, "views.op_probability = -0.5"),
        ({"color_jitter": 2.0}, "views.color_jitter = 2.0"),
        ({"num_ops": 0}, "views.num_ops = 0"),
        ({"magnitude": 11.0}, "views.magnitude = 11.0"),
        ({"magnitude_std": float("inf")}, "views.magnitude_std = inf"),
        ({"fill": (0, 0, 256)}, "views.fill = (0, 0, 256)"),
        ({"erase": -0.1}, "views.erase = -0.1"),
        ({"erase_area": (0.5, 1.5)}, "views.erase_area = (0.5, 1.5)"),
        ({"erase_ratio": (0.0, 1.0)}, "views.erase_ratio = (0.0, 1.0)"),
    ],
)
def test_value_out_of_range_is_refused_by_name(settings: dict[str, object], named: str) -> None:
    """The message repeats what was given, and says what is allowed and what to do."""
    with pytest.raises(UserError) as refusal:
        ViewConfig(**settings)
    assert refusal.value.given == named
    assert refusal.value.allowed
    assert refusal.value.todo


@pytest.mark.parametrize("name", ["crop", "policy", "interpolation"])
def test_unknown_choice_is_refused(name: str) -> None:
    """Also where no type checker runs: set behind its back here, as it runs while testing."""
    config = ViewConfig()
    object.__setattr__(config, name, "rand")
    with pytest.raises(UserError, match=f"views.{name} = rand"):
        config.__post_init__()


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": "pad", "scale": (0.5, 1.0)},
        {"crop": "resize", "ratio": (1.0, 1.0)},
        {"padding": 8},
        {"policy": "none", "num_ops": 3},
        {"policy": "auto-augment", "magnitude": 7.0},
        {"policy": "3-augment", "magnitude_std": 0.0},
        {"policy": "none", "op_probability": 1.0},
        {"erase": 0.0, "erase_area": (0.1, 0.2)},
        {"erase": 0.0, "erase_ratio": (1.0, 1.0)},
    ],
)
def test_setting_that_cannot_act_is_refused(settings: dict[str, object]) -> None:
    """Nothing is silently ignored: each of these would change no view."""
    with pytest.raises(UserError, match="acts only with"):
        ViewConfig(**settings)


def test_border_wider_than_the_view_is_refused() -> None:
    """Such a crop could miss the image."""
    with pytest.raises(UserError, match=r"views\.padding = 33"):
        plan_of(size=32, crop="pad", padding=33)


def test_config_is_explained_field_by_field() -> None:
    """`deit recipes show` prints a sentence for each."""
    from deit.config import field_docs

    docs = field_docs(ViewConfig)
    assert list(docs) == [field.name for field in dataclasses.fields(ViewConfig)]
    assert all(docs.values())
