"""One plan, two renderers: what the host makes of it and what the device does."""

import dataclasses

import numpy as np
import pytest
import torch

from deit.data.operations import Operation
from deit.data.operations_device import apply_plan
from deit.data.plan import ViewConfig, ViewPlan, plan_views
from deit.data.policies import RAND_AUGMENT, increasing_arguments
from deit.data.render import crop_view, render_view

from .photographs import photograph_crops, photographs

GEOMETRIC = (
    Operation.SHEAR_X,
    Operation.SHEAR_Y,
    Operation.TRANSLATE_X,
    Operation.TRANSLATE_Y,
)
OPERATIONS = (*RAND_AUGMENT, Operation.GRAYSCALE, Operation.GAUSSIAN_BLUR)
WHOLE = ViewConfig(crop="resize", flip=0.0, erase=0.0, policy="none")


def all_magnitudes(
    operation: Operation, interpolation: str, size: int
) -> tuple[ViewConfig, ViewPlan]:
    """A plan of 42 views that are the whole image after one operation, from -10 to 10 of it."""
    config = dataclasses.replace(WHOLE, interpolation=interpolation)
    level, sign = np.tile(np.linspace(0, 10, 21), 2), np.repeat([1.0, -1.0], 21)
    ops = np.full((42, 1), operation, np.int8)
    if operation == Operation.GAUSSIAN_BLUR:
        arguments = (0.1 + 0.19 * level)[:, None]
    else:
        arguments = increasing_arguments(ops, level[:, None], sign[:, None])
    plan = plan_views(config, size, 0, 0, np.arange(42))
    return config, dataclasses.replace(plan, ops=ops, arguments=arguments.astype(np.float32))


def distances(image: np.ndarray, config: ViewConfig, plan: ViewPlan, size: int) -> np.ndarray:
    """Grey levels between the renderers' views of an image, ``[views, size, size, 3]``."""
    rows = range(len(plan))
    host = np.stack([render_view(image, plan, row, config, size) for row in rows])
    crops = np.stack([crop_view(image, plan, row, config, size) for row in rows])
    finished = apply_plan(
        torch.from_numpy(crops.transpose(0, 3, 1, 2).copy()),
        plan.flip,
        plan.ops,
        plan.arguments,
        config.fill,
        config.interpolation,
    )
    return np.abs(finished.permute(0, 2, 3, 1).numpy().astype(int) - host)


@pytest.mark.parametrize("size", [224, 32])
@pytest.mark.parametrize(
    ("operation", "interpolation"),
    [(operation, "bicubic") for operation in OPERATIONS]
    + [(operation, "bilinear") for operation in (Operation.ROTATE, *GEOMETRIC)],
)
def test_operation_is_the_same_on_host_and_device(operation, interpolation, size):
    """Colour in every byte, geometry within a grey level."""
    config, plan = all_magnitudes(operation, interpolation, size)
    for image in photograph_crops(size, 1 if size == 224 else 4):
        distance = distances(image, config, plan, size)
        if operation == Operation.ROTATE:
            assert distance.max() <= 1
            assert distance.mean() <= 0.002
        elif operation in GEOMETRIC:
            assert distance.max() <= 1
            assert distance.mean() <= (0.002 if interpolation == "bicubic" else 0.02)
        else:
            assert distance.max() == 0


@pytest.mark.parametrize("size", [224, 32])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"crop": "pad", "policy": "auto-augment"},
        {"crop": "simple", "policy": "3-augment", "color_jitter": 0.3},
        {"crop": "resize", "policy": "none", "interpolation": "bilinear"},
    ],
    ids=["rand-augment", "auto-augment", "3-augment", "none"],
)
def test_whole_views_are_the_same_on_host_and_device(settings, size):
    """Crop, flip and all operations of 40 views of each photograph.

    A grey level may become many where an operation with a threshold follows.
    """
    config = ViewConfig(**settings)
    plan = plan_views(config, size, 0, 0, np.arange(40))
    turned = (plan.ops == Operation.ROTATE).any(1)
    slid = np.isin(plan.ops, GEOMETRIC).any(1) & ~turned
    for image in photographs():
        mean = distances(image, config, plan, size).mean((1, 2, 3))
        assert mean[~turned & ~slid].max() == 0
        assert mean[slid].max(initial=0) <= 0.1
        assert mean[turned].max(initial=0) <= 0.1
