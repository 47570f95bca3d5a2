"""Geometric operations on an RGB image: rotation, shear and translation.

All take in the colour ``fill`` where the centre of a pixel comes from outside the image, and repeat
its edge where only a neighbour that is interpolated with lies outside: Pillow's rules.
"""

import functools
import math

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from numpy.lib.stride_tricks import sliding_window_view

from deit.data.operations import Color, Interpolation

Rgb = UInt8[np.ndarray, "height width 3"]

_WARPS = {"bicubic": cv2.INTER_CUBIC, "bilinear": cv2.INTER_LINEAR}

_EXACT = 2.0**-11
"""Added before a value is cut to whole grey levels: sums in single precision, which should be 100,
may come out as 99.99999."""


def rotate(image: Rgb, degrees: float, fill: Color, interpolation: Interpolation) -> Rgb:
    """Turned counter-clockwise about the centre.

    OpenCV takes a third of Pillow's time. It places pixels to 1/32, and its cubic (Keys, a = -0.75)
    is a little softer than Pillow's (a = -1).
    """
    height, width, _ = image.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = (width - 1) / 2, (height - 1) / 2
    to_source = np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])
    turned = cv2.warpAffine(
        image,
        to_source,
        (width, height),
        flags=_WARPS[interpolation] | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    columns = np.arange(width, dtype=np.float32) - x
    rows = (np.arange(height, dtype=np.float32) - y)[:, None]
    right, down = cos * columns - sin * rows, sin * columns + cos * rows
    return _filled(turned, (abs(right) > width / 2) | (abs(down) > height / 2), fill)


def translate_rows(image: Rgb, columns: float, fill: Color, interpolation: Interpolation) -> Rgb:
    """Every row read ``columns`` further right."""
    height, width, _ = image.shape
    whole = math.floor(columns)
    padded, start = _with_edges(image, whole, whole)
    taps = _taps(np.array([columns - whole]), interpolation)
    moved = cv2.filter2D(padded, -1, taps, anchor=(1, 0), delta=_EXACT - 0.5)  # it rounds
    moved = np.ascontiguousarray(moved[:, start + whole :][:, :width])
    return _filled(moved, _outside(np.full(height, columns), width), fill)


def shear_rows(
    image: Rgb, slides: Float64[np.ndarray, "height"], fill: Color, interpolation: Interpolation
) -> Rgb:
    """Each row read ``slides[row]`` columns further right.

    One dimension suffices, where warping would interpolate in two.
    """
    height, width, _ = image.shape
    whole = np.floor(slides).astype(np.int64)
    padded, start = _with_edges(image, int(whole.min()), int(whole.max()))
    pixels = np.arange(height) * padded.shape[1] + start + whole - 1  # of each row's first tap
    length = 3 * (width + 3)
    read = sliding_window_view(padded.reshape(-1), length)[3 * pixels]
    moved = _interpolate(read, _taps(slides - whole, interpolation))
    moved = moved.reshape(height, width + 3, 3)[:, :width]
    return _filled(np.ascontiguousarray(moved), _outside(slides, width), fill)


def _with_edges(
    image: Rgb, lowest: int, highest: int
) -> tuple[UInt8[np.ndarray, "height padded 3"], int]:
    """The image with its edges repeated, wide enough to be read from ``lowest`` to ``highest``
    columns further right with one neighbour before and two behind; and where it begins in there.
    """
    left, right = max(0, 1 - lowest), max(0, highest + 2)
    return cv2.copyMakeBorder(image, 0, 0, left, right, cv2.BORDER_REPLICATE), left


def _taps(
    part: Float64[np.ndarray, "rows"], interpolation: Interpolation
) -> Float32[np.ndarray, "rows 4"]:
    """The weights of four neighbours for a place ``part`` between the middle two.

    Cubic: Keys (1981) with a = -1, as Pillow's; linear: of the middle two alone.
    """
    d = part
    if interpolation == "bicubic":
        a, e = -d + 2 * d**2 - d**3, d**3 - d**2
        b, c = 1 - 2 * d**2 + d**3, d + d**2 - d**3
    else:
        a, b, c, e = np.zeros_like(d), 1 - d, d, np.zeros_like(d)
    return np.stack([a, b, c, e], axis=1).astype(np.float32)


def _interpolate(
    rows: UInt8[np.ndarray, "rows length"], taps: Float32[np.ndarray, "rows 4"]
) -> UInt8[np.ndarray, "rows length"]:
    """Each row weighted with its own taps; the last three pixels of a row have no meaning.

    The neighbours of all pixels are one block of memory, read from four places: a row then runs on
    into the next, which is why its end means nothing, and arithmetic is twice as fast.
    """
    size = rows.size
    values = np.zeros(size + 9, np.float32)
    values[:size] = rows.reshape(-1)
    neighbours = [values[3 * tap : 3 * tap + size].reshape(rows.shape) for tap in range(4)]
    weights = [taps[:, tap, None] for tap in range(4)]
    total: Float32[np.ndarray, "rows length"] = neighbours[0] * weights[0]
    product = np.empty_like(total)
    for neighbour, weight in zip(neighbours[1:], weights[1:], strict=True):
        total += np.multiply(neighbour, weight, out=product)
    total += np.float32(_EXACT)
    np.clip(total, 0, 255, out=total)
    return total.astype(np.uint8)


def _outside(slides: Float64[np.ndarray, "height"], width: int) -> Bool[np.ndarray, "height _"]:
    """Which pixels have their centre read from outside the row."""
    columns = np.arange(width, dtype=np.int32)
    first = np.ceil(-0.5 - slides).astype(np.int32)[:, None]  # the first column read from inside
    return np.logical_or(columns < first, columns >= first + width)


def _filled(image: Rgb, outside: Bool[np.ndarray, "height width"], fill: Color) -> Rgb:
    """The image, in place, with a colour where it shows what is outside."""
    cv2.copyTo(_plain(image.shape, fill), outside.view(np.uint8), image)
    return image


@functools.lru_cache(maxsize=8)
def _plain(shape: tuple[int, ...], fill: Color) -> Rgb:
    plain = np.empty(shape, np.uint8)
    plain[:] = fill
    return plain
