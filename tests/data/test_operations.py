"""The vocabulary of operations: what Pillow and arithmetic say each one does."""

import numpy as np
import pytest
from PIL import Image

from deit.data.operations import Operation
from deit.data.operations_host import apply_operation

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
NO_CHANGE = [
    (Operation.IDENTITY, 0.0),
    (Operation.ROTATE, 0.0),
    (Operation.POSTERIZE, 8.0),
    (Operation.SOLARIZE, 256.0),
    (Operation.SOLARIZE_ADD, 0.0),
    (Operation.COLOR, 1.0),
    (Operation.CONTRAST, 1.0),
    (Operation.BRIGHTNESS, 1.0),
    (Operation.SHARPNESS, 1.0),
    (Operation.SHEAR_X, 0.0),
    (Operation.SHEAR_Y, 0.0),
    (Operation.TRANSLATE_X, 0.0),
    (Operation.TRANSLATE_Y, 0.0),
    (Operation.GAUSSIAN_BLUR, 0.0),
]


def pixels_after(operation: Operation, argument: float, **settings: object) -> np.ndarray:
    return apply_operation(PIXELS, operation, argument, **settings)


def test_numbers_of_operations_are_never_changed() -> None:
    """Plans and label stores hold these numbers: a new release must read them the same."""
    assert {name.name: int(name) for name in Operation} == {
        "IDENTITY": 0,
        "AUTO_CONTRAST": 1,
        "EQUALIZE": 2,
        "INVERT": 3,
        "ROTATE": 4,
        "POSTERIZE": 5,
        "SOLARIZE": 6,
        "SOLARIZE_ADD": 7,
        "COLOR": 8,
        "CONTRAST": 9,
        "BRIGHTNESS": 10,
        "SHARPNESS": 11,
        "SHEAR_X": 12,
        "SHEAR_Y": 13,
        "TRANSLATE_X": 14,
        "TRANSLATE_Y": 15,
        "GRAYSCALE": 16,
        "GAUSSIAN_BLUR": 17,
    }


@pytest.mark.parametrize(("operation", "argument"), NO_CHANGE)
def test_neutral_argument_changes_nothing(operation: Operation, argument: float) -> None:
    """The argument that the vocabulary calls "no change" gives back every byte."""
    np.testing.assert_array_equal(pixels_after(operation, argument), PIXELS)


def test_posterize_to_zero_bits_is_black() -> None:
    """Pillow 13 raises there, and with it timm: keeping no bit of a value leaves 0."""
    assert not pixels_after(Operation.POSTERIZE, 0.0).any()


@pytest.mark.parametrize("bits", range(9))
def test_posterize_keeps_the_high_bits(bits: int) -> None:
    """Integer division by the value of the lowest kept bit, and back."""
    step = 2 ** (8 - bits)
    expected = PIXELS // step * step if bits else np.zeros_like(PIXELS)
    np.testing.assert_array_equal(pixels_after(Operation.POSTERIZE, float(bits)), expected)


def test_solarize_inverts_from_the_threshold_upwards() -> None:
    """A value equal to the threshold is inverted, one below is not."""
    expected = np.where(PIXELS >= 100, 255 - PIXELS, PIXELS)
    np.testing.assert_array_equal(pixels_after(Operation.SOLARIZE, 100.0), expected)


def test_solarize_add_leaves_bright_values_alone() -> None:
    """Only values below 128 rise, and stop at 255."""
    expected = np.where(PIXELS < 128, np.minimum(PIXELS.astype(int) + 110, 255), PIXELS)
    np.testing.assert_array_equal(pixels_after(Operation.SOLARIZE_ADD, 110.0), expected)


def test_grayscale_is_pillows_luma_in_three_channels() -> None:
    """The same as colour with factor 0, by another way through Pillow."""
    grey = np.asarray(Image.fromarray(PIXELS).convert("L"))
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(pixels_after(Operation.GRAYSCALE, 0.0), expected)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (Operation.TRANSLATE_X, np.concatenate([PIXELS[:, 6:], np.full((20, 6, 3), 9)], axis=1)),
        (Operation.TRANSLATE_Y, np.concatenate([PIXELS[4:], np.full((4, 30, 3), 9)], axis=0)),
    ],
)
def test_translation_by_whole_pixels_moves_and_fills(
    operation: Operation, expected: np.ndarray
) -> None:
    """A fifth of 30 columns is 6, of 20 rows 4: the source lies there, the rest is filled."""
    moved = pixels_after(operation, 0.2, fill=(9, 9, 9))
    np.testing.assert_array_equal(moved, expected)


@pytest.mark.parametrize("operation", [Operation.SHEAR_X, Operation.SHEAR_Y])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_flat_image_stays_flat_where_it_is_not_filled(
    operation: Operation, interpolation: str
) -> None:
    """Interpolation between equal values gives that value: no rounding to the next lower one."""
    flat = np.tile(np.array([100, 101, 102], np.uint8), (40, 50, 1))
    sheared = apply_operation(flat, operation, 0.27, (0, 0, 0), interpolation)
    inside = sheared[sheared.any(axis=2)]
    assert (inside == (100, 101, 102)).all()
    assert 0 < len(inside) < 2000


def test_unknown_number_is_refused() -> None:
    """A plan from a newer release must not be rendered as something else."""
    with pytest.raises(ValueError, match="99"):
        apply_operation(PIXELS, 99, 0.0)


@pytest.mark.parametrize("operation", Operation)
def test_image_is_left_as_it_was(operation: Operation) -> None:
    """The same pixels may be read again: nothing is changed in place."""
    image = PIXELS.copy()
    image.setflags(write=False)
    for argument in (0.0, 0.4, 3.0):
        apply_operation(image, operation, argument)
    np.testing.assert_array_equal(image, PIXELS)
