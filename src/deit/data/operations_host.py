"""Image operations on the host: one image, one operation, by OpenCV and tables of 256 values."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Num, UInt8
from PIL import Image, ImageFilter

from deit.data.geometry import Rgb, rotate, shear_rows, translate_rows
from deit.data.operations import Color, Interpolation, Operation

Channel = UInt8[np.ndarray, "height width"]
Tables = UInt8[np.ndarray, "channels 256"]


def apply_operation(
    image: Rgb,
    operation: int,
    argument: float,
    fill: Color = (124, 116, 104),
    interpolation: Interpolation = "bicubic",
) -> Rgb:
    """The image after one operation; same size.

    Operations on colours equal timm's functions of the same names, which call Pillow, in every
    value (keeping 0 bits gives black, where Pillow 13 and with it timm raises). They are tables of
    256 values wherever Pillow's arithmetic allows. Shears and translations differ from Pillow's by
    one grey level in less than two values of 1000 (20 when bilinear); `geometry.rotate` by more.

    Args:
        image: RGB, contiguous.
        operation: an `Operation`.
        argument: in the operation's unit; unused by operations without one.
        fill: colour of what comes in from outside the image.
        interpolation: kernel of the geometric operations.

    >>> grey = np.full((2, 2, 3), 100, np.uint8)
    >>> apply_operation(grey, Operation.INVERT, 0.0)[0, 0]
    array([155, 155, 155], dtype=uint8)
    """
    match operation:
        case Operation.IDENTITY:
            return image
        case Operation.AUTO_CONTRAST:
            return _map_channels(image, _stretching_tables)
        case Operation.EQUALIZE:
            return _map_channels(image, _equalizing_tables)
        case Operation.INVERT:
            return cv2.bitwise_not(image)
        case Operation.POSTERIZE:
            return image & np.uint8(0xFF00 >> int(argument) & 0xFF)
        case Operation.SOLARIZE:
            return cv2.LUT(image, np.where(int(argument) > _LEVELS, _LEVELS, 255 - _LEVELS))
        case Operation.SOLARIZE_ADD:
            risen = _cut_to_levels(np.arange(256) + int(argument))
            return cv2.LUT(image, np.where(_LEVELS < 128, risen, _LEVELS))
        case Operation.COLOR:
            return _blend(_three(luma(image)), image, argument)
        case Operation.CONTRAST:
            grey = luma(image)
            mean = int(cv2.sumElems(grey)[0] / grey.size + 0.5)
            return cv2.LUT(image, _blend(np.full(256, mean, np.uint8), _LEVELS, argument))
        case Operation.BRIGHTNESS:
            return cv2.LUT(image, _blend(np.zeros(256, np.uint8), _LEVELS, argument))
        case Operation.SHARPNESS:
            return _blend(_smooth(image), image, argument)
        case Operation.GRAYSCALE:
            return _three(luma(image))
        case Operation.GAUSSIAN_BLUR:
            return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(argument)))
        case _:
            return _apply_geometric(image, operation, argument, fill, interpolation)


def luma(image: Rgb) -> Channel:
    """Grey as Pillow's mode L: the luma of ITU-R 601 in units of 2**-16, rounded to the nearest.

    Single precision holds every such sum: it needs 8 bits before the point and 16 behind it.
    """
    red, green, blue = cv2.split(image)
    units = cv2.addWeighted(red, 19595 / 2**16, green, 38470 / 2**16, 0.5, dtype=cv2.CV_32F)
    cv2.addWeighted(blue, 7471 / 2**16, units, 1, 0, dst=units, dtype=cv2.CV_32F)
    return units.reshape(image.shape[:2]).astype(np.uint8)


_LEVELS = np.arange(256, dtype=np.uint8)

_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def _three(channel: Channel) -> Rgb:
    return cv2.cvtColor(channel, cv2.COLOR_GRAY2RGB)


def _blend(
    start: UInt8[np.ndarray, "*shape"], end: UInt8[np.ndarray, "*shape"], share: float
) -> UInt8[np.ndarray, "*shape"]:
    """``start + share * (end - start)``, for any share, as Pillow computes it: cut, not rounded."""
    first, last = (torch.from_numpy(levels.astype(np.float32)) for levels in (start, end))
    blend = last.sub_(first).mul_(float(np.float32(share))).add_(first)  # one rounding each
    levels: UInt8[np.ndarray, "*shape"] = blend.clamp_(0, 255).numpy().astype(np.uint8)
    return levels


def _smooth(image: Rgb) -> Rgb:
    """Pillow's filter SMOOTH, which leaves the outermost pixels as they are."""
    smooth = cv2.filter2D(image, -1, _SMOOTH)
    smooth[[0, -1]] = image[[0, -1]]
    smooth[:, [0, -1]] = image[:, [0, -1]]
    return smooth


def _map_channels(image: Rgb, make_tables: Callable[[Sequence[Channel]], Tables]) -> Rgb:
    """Each channel through a table that is made for it."""
    channels = cv2.split(image)
    tables = make_tables(channels)
    return cv2.merge([cv2.LUT(*pair) for pair in zip(channels, tables, strict=True)])


def _stretching_tables(channels: Sequence[Channel]) -> Tables:
    """The darkest value that occurs becomes 0, the brightest 255."""
    ends = [cv2.minMaxLoc(channel)[:2] for channel in channels]
    low, high = np.array(ends).T[:, :, None]  # [channels, 1] each
    scale = 255.0 / np.maximum(high - low, 1)
    return _cut_to_levels(np.where(low == high, _LEVELS, _LEVELS * scale - low * scale))


def _equalizing_tables(channels: Sequence[Channel]) -> Tables:
    """The histogram made flat as Pillow does: steps of equally many pixels, the last value's not
    counted."""
    histograms = [cv2.calcHist([channel], [0], None, [256], [0, 256]) for channel in channels]
    counts = np.stack(histograms).reshape(-1, 256).astype(np.int64)
    below = np.cumsum(counts, axis=1) - counts
    step = np.where(counts > 0, below, 0).max(axis=1, keepdims=True) // 255
    return _cut_to_levels(np.where(step == 0, _LEVELS, (below + step // 2) // np.maximum(step, 1)))


def _cut_to_levels(values: Num[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Whole grey levels: cut, not rounded."""
    levels: UInt8[np.ndarray, "*shape"] = np.clip(values, 0, 255).astype(np.uint8)
    return levels


def _apply_geometric(
    image: Rgb, operation: int, argument: float, fill: Color, interpolation: Interpolation
) -> Rgb:
    height, width, _ = image.shape
    match operation:
        case Operation.ROTATE:
            return rotate(image, argument, fill, interpolation)
        case Operation.SHEAR_X:
            slides = argument * (np.arange(height) + 0.5)
            return shear_rows(image, slides, fill, interpolation)
        case Operation.TRANSLATE_X:
            return translate_rows(image, argument * width, fill, interpolation)
        case Operation.SHEAR_Y | Operation.TRANSLATE_Y:
            along_x = Operation.SHEAR_X if operation == Operation.SHEAR_Y else Operation.TRANSLATE_X
            turned = cv2.transpose(image)
            return cv2.transpose(_apply_geometric(turned, along_x, argument, fill, interpolation))
    raise ValueError(f"{operation} is no image operation")
