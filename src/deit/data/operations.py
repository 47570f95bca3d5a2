"""The vocabulary of image operations: what each number in a plan means, and how it is applied.

A plan names operations by number and gives each one argument in physical units (degrees, factors,
bits), so that the host (this file, on PIL images) and the device (`render_device`) can render the
same view. Which operations are drawn, how often and how strongly, is `policies`' matter.
"""

import enum
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

Interpolation = Literal["bicubic", "bilinear"]
Color = tuple[int, int, int]


class Operation(enum.IntEnum):
    """One operation on an RGB image; beside each, its argument.

    The values are part of every plan and of every label store: never reuse or renumber.
    """

    IDENTITY = 0  # none
    AUTO_CONTRAST = 1  # none; each channel stretched to 0..255
    EQUALIZE = 2  # none; each channel's histogram made flat
    INVERT = 3  # none
    ROTATE = 4  # degrees, counter-clockwise, about the centre
    POSTERIZE = 5  # high bits kept, 0 to 8; 0 gives black
    SOLARIZE = 6  # threshold; values from it upwards are inverted
    SOLARIZE_ADD = 7  # added to values below 128
    COLOR = 8  # factor; 0 is grey, 1 no change
    CONTRAST = 9  # factor; 0 is the mean grey, 1 no change
    BRIGHTNESS = 10  # factor; 0 is black, 1 no change
    SHARPNESS = 11  # factor; 0 is smoothed, 1 no change
    SHEAR_X = 12  # columns by which the source moves right, per row
    SHEAR_Y = 13  # rows by which the source moves down, per column
    TRANSLATE_X = 14  # where the source lies to the right, as a fraction of the width
    TRANSLATE_Y = 15  # where the source lies below, as a fraction of the height
    GRAYSCALE = 16  # none
    GAUSSIAN_BLUR = 17  # standard deviation, pixels


def apply_operation(
    image: Image.Image,
    operation: int,
    argument: float,
    fill: Color = (124, 116, 104),
    interpolation: Interpolation = "bicubic",
) -> Image.Image:
    """The image after one operation; same size, mode RGB.

    Equal to timm's functions of the same names, which call Pillow, with two exceptions. Keeping 0
    bits gives black, where Pillow 13 and with it timm raises. Shears and translations differ by one
    grey level in less than one value of 1000 (of 100 when bilinear), see `_slide_rows`.

    Args:
        image: mode RGB.
        operation: an `Operation`.
        argument: in the operation's unit; unused by operations without one.
        fill: colour of what comes in from outside the image.
        interpolation: kernel of the geometric operations.

    >>> grey = Image.new("RGB", (2, 2), (100, 100, 100))
    >>> apply_operation(grey, Operation.INVERT, 0.0).getpixel((0, 0))
    (155, 155, 155)
    """
    match operation:
        case Operation.IDENTITY:
            return image
        case Operation.AUTO_CONTRAST:
            return ImageOps.autocontrast(image)
        case Operation.EQUALIZE:
            return ImageOps.equalize(image)
        case Operation.INVERT:
            return ImageOps.invert(image)
        case Operation.POSTERIZE:
            return _posterize(image, int(argument))
        case Operation.SOLARIZE:
            return ImageOps.solarize(image, int(argument))
        case Operation.SOLARIZE_ADD:
            return _solarize_add(image, int(argument))
        case Operation.COLOR:
            return ImageEnhance.Color(image).enhance(argument)
        case Operation.CONTRAST:
            return ImageEnhance.Contrast(image).enhance(argument)
        case Operation.BRIGHTNESS:
            return ImageEnhance.Brightness(image).enhance(argument)
        case Operation.SHARPNESS:
            return ImageEnhance.Sharpness(image).enhance(argument)
        case Operation.GRAYSCALE:
            return image.convert("L").convert("RGB")
        case Operation.GAUSSIAN_BLUR:
            return image.filter(ImageFilter.GaussianBlur(argument))
        case _:
            return _apply_geometric(image, operation, argument, fill, interpolation)


def _posterize(image: Image.Image, bits: int) -> Image.Image:
    if bits == 0:
        return Image.new("RGB", image.size)
    return image if bits >= 8 else ImageOps.posterize(image, bits)


def _solarize_add(image: Image.Image, added: int) -> Image.Image:
    table = [min(255, value + added) if value < 128 else value for value in range(256)]
    return image.point(table * 3)


def _apply_geometric(
    image: Image.Image, operation: int, argument: float, fill: Color, interpolation: Interpolation
) -> Image.Image:
    match operation:
        case Operation.ROTATE:
            resample = Image.Resampling[interpolation.upper()]
            return image.rotate(argument, resample=resample, fillcolor=fill)
        case Operation.SHEAR_X:
            slides = argument * (np.arange(image.height) + 0.5)
            return _slide_rows(image, slides, fill, interpolation)
        case Operation.TRANSLATE_X:
            slides = np.full(image.height, argument * image.width)
            return _slide_rows(image, slides, fill, interpolation)
        case Operation.SHEAR_Y | Operation.TRANSLATE_Y:
            along_x = Operation.SHEAR_X if operation == Operation.SHEAR_Y else Operation.TRANSLATE_X
            turned = image.transpose(Image.Transpose.TRANSPOSE)
            moved = _apply_geometric(turned, along_x, argument, fill, interpolation)
            return moved.transpose(Image.Transpose.TRANSPOSE)
    raise ValueError(f"{operation} is no image operation")


_BAND = 2**13
"""Pixels interpolated at a time: more, and temporary arrays leave the cache (half the speed)."""


def _slide_rows(
    image: Image.Image,
    slides: Float64[np.ndarray, "height"],
    fill: Color,
    interpolation: Interpolation,
) -> Image.Image:
    """Each row read ``slides[row]`` columns further right: what a shear or a translation does.

    ``Image.transform`` with AFFINE gives the same picture in three times the time at 224 pixels,
    because it interpolates in two dimensions and in double precision where one dimension and
    single precision do.
    """
    width, height = image.size
    whole = np.floor(slides)
    part = (slides - whole).astype(np.float32)[:, None]
    columns = np.arange(-1, width + 2) + whole.astype(np.int64)[:, None]  # [height, width + 3]
    np.clip(columns, 0, width - 1, out=columns)
    columns += width * np.arange(height)[:, None]
    pixels = np.frombuffer(image.tobytes("raw", "RGBX"), np.uint32)
    between = _cubic if interpolation == "bicubic" else _linear
    moved = np.empty((height, 4 * width), np.uint8)
    band = max(1, _BAND // width)
    for rows in (slice(first, first + band) for first in range(0, height, band)):
        values = pixels.take(columns[rows]).view(np.uint8).astype(np.float32)
        moved[rows] = between(values, part[rows])  # from [rows, 4 * (width + 3)]
    moved.view(np.uint32)[_outside(slides, width)] = np.array([*fill, 0], np.uint8).view(np.uint32)
    return Image.frombytes("RGB", image.size, moved.data, "raw", "RGBX")


def _cubic(
    values: Float32[np.ndarray, "rows padded"], part: Float32[np.ndarray, "rows 1"]
) -> UInt8[np.ndarray, "rows row"]:
    """Pillow's cubic through four neighbours (Keys, a = -1), at ``part`` between the middle two.

    With neighbours a, b, c, e and part d: ``b + d (c - a + d (2(a-b) + c-e - d (a-b + c-e)))``,
    here with r = a-b and s = r + c-e as ``b + d (c - a + d (r + (1 - d) s))``.
    """
    a, b, c, e = (values[:, 4 * tap : values.shape[1] - 4 * (3 - tap)] for tap in range(4))
    rise = a - b
    result: Float32[np.ndarray, "rows row"] = c - e
    result += rise
    result *= 1 - part
    result += rise
    result *= part
    result += c
    result -= a
    result *= part
    result += b
    np.clip(result, 0, 255, out=result)
    return result.astype(np.uint8)


def _linear(
    values: Float32[np.ndarray, "rows padded"], part: Float32[np.ndarray, "rows 1"]
) -> UInt8[np.ndarray, "rows row"]:
    """The straight line between the two middle ones of four neighbours."""
    b, c = values[:, 4:-8], values[:, 8:-4]
    result: Float32[np.ndarray, "rows row"] = b + (c - b) * part
    return result.astype(np.uint8)


def _outside(
    slides: Float64[np.ndarray, "height"], width: int
) -> Bool[np.ndarray, "height {width}"]:
    """Which pixels have their centre read from outside the row."""
    centres: Float64[np.ndarray, "height width"] = np.arange(width) + 0.5 + slides[:, None]
    return np.logical_or(centres < 0, centres >= width)
