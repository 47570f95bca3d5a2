"""The evaluation transform equals timm's, byte for byte, before normalisation."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms_factory import create_transform

from deit.config import from_plain, to_plain
from deit.data import preprocess as module
from deit.data.preprocess import Preprocess, PreprocessConfig
from deit.errors import UserError


def timms(image: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """timm's evaluation transform up to the point where pixels become floats."""
    transform = create_transform(
        preprocess.image_size,
        is_training=False,
        crop_pct=preprocess.crop_pct,
        interpolation=preprocess.interpolation,
        use_prefetcher=True,
    )
    return transform(Image.fromarray(image)).numpy()


def noise(height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(height * 10_007 + width)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


SHAPES = [(375, 500), (500, 333), (256, 256), (224, 224), (256, 700), (40, 30), (32, 32), (5, 3)]
SHAPES += [(1, 1), (1, 9), (100, 1), (257, 256), (225, 1001), (1333, 2000), (2, 150), (13, 900)]


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize(("size", "crop_pct"), [(224, 0.875), (224, 0.9), (384, 0.877), (32, 1.0)])
def test_pixels_equal_timms(height: int, width: int, size: int, crop_pct: float) -> None:
    """Larger, smaller, elongated, already of the right size, and down to one pixel."""
    image, preprocess = noise(height, width), Preprocess(image_size=size, crop_pct=crop_pct)
    np.testing.assert_array_equal(preprocess.apply(image), timms(image, preprocess))


@given(
    st.builds(noise, st.integers(1, 120), st.integers(1, 120)),
    st.integers(1, 60),
    st.floats(0.3, 1),
    st.sampled_from(["bicubic", "bilinear"]),
)
def test_pixels_equal_timms_for_any_sizes(
    image: np.ndarray, size: int, crop_pct: float, interpolation: str
) -> None:
    """Rounding of the resized size and of the crop's place included."""
    preprocess = Preprocess(image_size=size, crop_pct=crop_pct, interpolation=interpolation)
    np.testing.assert_array_equal(preprocess.apply(image), timms(image, preprocess))


@pytest.mark.parametrize("shape", [(7, 500), (500, 7), (64, 90), (3, 1000)])
def test_the_way_for_extreme_shapes_agrees(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced upon ordinary shapes: overshoot is cut off in another order, which noise shows most.

    A crop that is one pixel off differs by 0.7 to 20 grey levels on average for these shapes.
    """
    image, preprocess = noise(*shape), Preprocess(image_size=224)
    expected = timms(image, preprocess).astype(int)
    monkeypatch.setattr(module, "_MOST_RESIZED", 0)
    difference = np.abs(preprocess.apply(image) - expected)
    assert difference.max() <= 25
    assert difference.mean() < 0.5


def test_a_line_of_sixty_thousand_pixels_fits_in_memory() -> None:
    """Resized whole, at 256 pixels, it would have four thousand million."""
    line = np.tile(np.arange(60_000, dtype=np.uint16).astype(np.uint8)[:, None, None], (1, 1, 3))
    assert Preprocess(image_size=224).apply(line).shape == (3, 224, 224)


@pytest.mark.parametrize(("size", "resized"), [(224, 256), (384, 438), (32, 36)])
def test_the_resized_size_is_the_references(size: int, resized: int) -> None:
    """The paper's code resizes to 256 for 224 and to 438 for 384."""
    assert Preprocess(image_size=size).resized_size == resized


def test_a_transform_survives_json() -> None:
    """Every field, exactly: it is part of a model's files."""
    preprocess = Preprocess.build(
        PreprocessConfig(crop_pct=0.9, interpolation="bilinear", mean=(0.5,), std=(0.1 + 0.2,)),
        image_size=28,
        channels=1,
    )
    assert Preprocess.from_json(json.loads(json.dumps(preprocess.to_json()))) == preprocess
    config = PreprocessConfig(mean=(0.1, 0.2, 0.3))
    assert from_plain(PreprocessConfig, to_plain(config)) == config


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"image_size": 224, "crop_pct": 0}, "preprocess.crop_pct = 0"),
        ({"image_size": 224, "crop_pct": float("nan")}, "preprocess.crop_pct = nan"),
        ({"image_size": 224, "crop_pct": 1.01}, "preprocess.crop_pct = 1.01"),
        ({"image_size": 0}, "preprocess.image_size = 0"),
        ({"image_size": 224, "std": [0.1, 0, 0.1]}, r"preprocess.std = \(0.1, 0.0, 0.1\)"),
        ({"image_size": 224, "mean": [0.1, float("inf"), 0.1]}, "preprocess.mean"),
        ({"image_size": 224, "mean": [0.1]}, "preprocess.mean has 1 values, preprocess.std 3"),
        ({"image_size": 224, "channels": 1}, "have 3 values"),
        ({"image_size": 224, "channels": 4}, "preprocess.channels = 4"),
        ({"image_size": 224, "interpolation": "bicubi"}, "preprocess.interpolation"),
        ({"image_size": 224, "crop": 1}, "unknown key preprocess.crop"),
        ({}, "no value for image_size"),
    ],
)
def test_what_cannot_be_is_refused(plain: dict[str, object], message: str) -> None:
    """Named as it stands in the file."""
    with pytest.raises(UserError, match=message):
        Preprocess.from_json(plain)
