"""Policies against timm's and torchvision's: the same operations, as often, as strongly."""

import random
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from timm.data import auto_augment as timm_augment
from torchvision import transforms

from deit.data.operations import Operation
from deit.data.plan import ViewConfig, plan_views
from deit.data.policies import (
    AUTO_AUGMENT,
    RAND_AUGMENT,
    Draw,
    auto_augment,
    auto_augment_arguments,
    color_jitter,
    increasing_arguments,
    rand_augment,
    three_augment,
)
from deit.data.render import render_view

NAMES = {
    "AutoContrast": Operation.AUTO_CONTRAST,
    "Equalize": Operation.EQUALIZE,
    "Invert": Operation.INVERT,
    "Rotate": Operation.ROTATE,
    "PosterizeIncreasing": Operation.POSTERIZE,
    "PosterizeOriginal": Operation.POSTERIZE,
    "SolarizeIncreasing": Operation.SOLARIZE,
    "Solarize": Operation.SOLARIZE,
    "SolarizeAdd": Operation.SOLARIZE_ADD,
    "ColorIncreasing": Operation.COLOR,
    "Color": Operation.COLOR,
    "ContrastIncreasing": Operation.CONTRAST,
    "Contrast": Operation.CONTRAST,
    "BrightnessIncreasing": Operation.BRIGHTNESS,
    "SharpnessIncreasing": Operation.SHARPNESS,
    "Sharpness": Operation.SHARPNESS,
    "ShearX": Operation.SHEAR_X,
    "ShearY": Operation.SHEAR_Y,
    "TranslateXRel": Operation.TRANSLATE_X,
    "TranslateYRel": Operation.TRANSLATE_Y,
}
VIEWS = 20_000
HPARAMS = {"img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC}
Recorded = dict[Operation, list[float]]


def seed_timm() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (timm draws from the global generators)


def timm_rand_augment() -> timm_augment.RandAugment:
    return timm_augment.rand_augment_transform("rand-m9-mstd0.5-inc1", HPARAMS.copy())


def record(transform: Callable[[str], str], ops: list[timm_augment.AugmentOp]) -> Recorded:
    """What timm would do to many images: operations and arguments, without touching a pixel."""
    recorded: Recorded = defaultdict(list)
    for op in ops:
        op.aug_fn = lambda image, argument=0.0, *, name=op.name, **_: (
            recorded[NAMES[name]].append(float(argument)) or image
        )
    seed_timm()
    for _ in range(VIEWS):
        transform("image")
    return recorded


def assert_same_statistics(ours: Draw, theirs: Recorded) -> None:
    """Frequencies, and means and distributions of arguments, of each operation."""
    for operation, arguments in theirs.items():
        here, there = ours.arguments[ours.ops == operation], np.array(arguments)
        counts = np.array([len(here), len(there)])
        assert abs(counts[0] - counts[1]) < 3 * np.sqrt(counts.sum()), operation.name
        error = np.sqrt(here.var() / counts[0] + there.var() / counts[1])
        assert abs(here.mean() - there.mean()) <= 3 * error + 1e-6, operation.name
        assert stats.ks_2samp(here, there.astype(np.float32)).pvalue > 0.001, operation.name


@pytest.mark.parametrize("name", timm_augment._RAND_INCREASING_TRANSFORMS)
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_argument_at_each_level_is_timms(
    name: str, sign: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For 1001 levels from 0 to 10, with the coin for the sign held."""
    monkeypatch.setattr(timm_augment, "_randomly_negate", lambda level: sign * level)
    level = np.linspace(0, 10, 1001)
    to_argument = timm_augment.LEVEL_TO_ARG[name] or (lambda level, hparams: (0.0,))
    expected = [to_argument(value, {})[0] for value in level.tolist()]
    ops = np.full(1001, int(NAMES[name]), dtype=np.int8)
    ours = increasing_arguments(ops, level, np.full(1001, sign))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-13)


def test_rand_augment_chooses_from_timms_operations() -> None:
    """The 15 of `inc1`, in its order."""
    assert tuple(NAMES[op.name] for op in timm_rand_augment().ops) == RAND_AUGMENT


def test_rand_augment_has_timms_statistics() -> None:
    """The whole recipe of the paper, over 20,000 views of each."""
    transform = timm_rand_augment()
    theirs = record(transform, transform.ops)
    assert_same_statistics(rand_augment(0, 0, np.arange(VIEWS)), theirs)


def test_rand_augment_has_timms_effect_on_pixels() -> None:
    """Mean and spread of the pixels of 3000 views of one image; timm's failing case mended."""
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((16, 16), Image.Resampling.BICUBIC)
    transform = timm_rand_augment()
    for op in transform.ops:
        if op.name == "PosterizeIncreasing":
            op.aug_fn = lambda image, bits, **_: (
                timm_augment.posterize(image, bits) if bits else Image.new("RGB", image.size)
            )
    seed_timm()
    theirs = np.stack([np.asarray(transform(image)) for _ in range(3000)]).astype(float)
    config = ViewConfig(crop="resize", flip=0.0)
    plan = plan_views(config, 16, 0, 0, np.arange(3000))
    pixels = np.asarray(image)
    ours = np.stack([render_view(pixels, plan, row, config, 16) for row in range(3000)])
    for statistic in (np.mean, np.std):
        here, there = (statistic(views, axis=(1, 2, 3)) for views in (ours.astype(float), theirs))
        error = np.sqrt(here.var() / 3000 + there.var() / 3000)
        assert abs(here.mean() - there.mean()) < 3 * error


def test_auto_augment_table_is_timms() -> None:
    """Operation, probability and argument of all 25 pairs; timm's levels through timm's scales."""
    theirs = timm_augment.auto_augment_policy("original", HPARAMS)
    assert len(theirs) == len(AUTO_AUGMENT)
    for ours, pair in zip(AUTO_AUGMENT, theirs, strict=True):
        for (operation, probability, level), op in zip(ours, pair, strict=True):
            expected = op.level_fn(op.magnitude, op.hparams)[0] if op.level_fn else 0.0
            argument = auto_augment_arguments(
                np.array([operation], np.int8), np.array([float(level)]), np.array([1.0])
            )
            assert (operation, probability) == (NAMES[op.name], op.prob)
            assert argument[0] == pytest.approx(abs(expected), abs=1e-12)


def test_auto_augment_has_timms_statistics() -> None:
    """The whole policy, over 20,000 views of each."""
    policy = timm_augment.auto_augment_policy("original", HPARAMS)
    transform = timm_augment.AutoAugment(policy)
    theirs = record(transform, [op for pair in policy for op in pair])
    assert_same_statistics(auto_augment(0, 0, np.arange(VIEWS)), theirs)


def test_three_augment_is_timms() -> None:
    """timm's `3a`: solarise at 128, grey, and a blur of up to 2 pixels, one of the three."""
    (solarize,), (grey,), (blur,) = timm_augment.auto_augment_policy("3a", HPARAMS)
    draw = three_augment(0, 0, np.arange(VIEWS))
    threshold = solarize.level_fn(solarize.magnitude, {})[0]
    assert set(draw.arguments[draw.ops == Operation.SOLARIZE]) == {threshold}
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    assert grey(image).tobytes() == image.convert("L").convert("RGB").tobytes()
    assert blur.level_fn(blur.magnitude, {}) == (1.0,)  # times 2 pixels at most


def test_color_jitter_has_torchvisions_statistics() -> None:
    """Factors uniform on 0.7 to 1.3, all six orders equally frequent."""
    jitter = transforms.ColorJitter(0.3, 0.3, 0.3)
    torch.manual_seed(0)
    order, brightness, _, _, _ = zip(
        *(
            jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, None)
            for _ in range(VIEWS)
        ),
        strict=True,
    )
    draw = color_jitter(0, 0, np.arange(VIEWS), 0.3)
    here = draw.arguments[draw.ops == Operation.BRIGHTNESS]
    assert stats.ks_2samp(here, np.array(brightness)).pvalue > 0.01
    kinds = (Operation.BRIGHTNESS, Operation.CONTRAST, Operation.COLOR)
    theirs = [tuple(kinds[place] for place in row.tolist() if place < 3) for row in order]
    ours = [tuple(row) for row in draw.ops.tolist()]
    counts = np.array([[rows.count(each) for each in set(theirs)] for rows in (ours, theirs)])
    assert counts.shape == (2, 6)
    assert stats.chi2_contingency(counts).pvalue > 0.01
