"""Geometric operations on an RGB image: rotation, shear and translation.

All take in the colour ``fill`` where the centre of a pixel comes from outside the image, and repeat
its edge where only a neighbour that is interpolated with lies outside: Pillow's rules.
"""

import functools
import math
from typing import TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt8
from numpy.lib.stride_tricks import sliding_window_view

from deit.data.operations import Color, Interpolation

Rgb = UInt8[np.ndarray, "height width 3"]
Slides = TypeVar("Slides", float, Float64[np.ndarray, "height"])

_WARPS = {"bicubic": cv2.INTER_CUBIC, "bilinear": cv2.INTER_LINEAR}

_EDGE = 2
"""Pixels beyond the image that a cubic may read, for a place within it."""

_EXACT = 2.0**-11
"""Added before a value is cut to whole grey levels: sums in single precision, which should be 100,
may come out as 99.99999."""


def rotate(image: Rgb, degrees: float, fill: Color, interpolation: Interpolation) -> Rgb:
    """Turned counter-clockwise about the centre.

    OpenCV takes a third of Pillow's time. Its cubic (Keys, a = -0.75) is a little softer than
    Pillow's (a = -1), and its values are rounded where Pillow's are cut.
    """
    height, width, _ = image.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = (width - 1) / 2, (height - 1) / 2
    to_source = np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])
    to_source[:, 2] += _EDGE
    turned = cv2.warpAffine(
        cv2.copyMakeBorder(image, _EDGE, _EDGE, _EDGE, _EDGE, cv2.BORDER_REPLICATE),
        to_source,
        (width, height),
        flags=_WARPS[interpolation] | cv2.WARP_INVERSE_MAP,
    )
    rows = np.arange(height) - y
    left, right = _within(cos, -sin * rows, width / 2)
    top, bottom = _within(sin, cos * rows, height / 2)
    first, last = np.maximum(left, top) + x, np.minimum(right, bottom) + x
    return _filled(turned, _outside(np.ceil(first), np.floor(last) + 1, width), fill)


def translate_rows(image: Rgb, columns: float, fill: Color, interpolation: Interpolation) -> Rgb:
    """Every row read ``columns`` further right."""
    width = image.shape[1]
    first, stop = (max(0, min(int(end), width)) for end in _reach(columns, width))
    moved = _plain(image.shape, fill).copy()
    if first >= stop:
        return moved
    whole = math.floor(columns)
    low, high = first + whole - 1, stop + whole + 2  # one neighbour before, two behind
    needed = cv2.copyMakeBorder(
        image[:, max(0, low) : high],
        *(0, 0, max(0, -low), max(0, high - width)),
        borderType=cv2.BORDER_REPLICATE,
    )
    taps = _taps(np.array([columns - whole]), interpolation)
    between = cv2.filter2D(needed, -1, taps, anchor=(1, 0), delta=_EXACT - 0.5)  # it rounds
    moved[:, first:stop] = between[:, 1:-2]
    return moved


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
    return _filled(np.ascontiguousarray(moved), _outside(*_reach(slides, width), width), fill)


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
    values = np.empty(size + 9, np.float32)
    values[:size] = rows.reshape(-1)
    values[size:] = 0
    block = torch.from_numpy(values)
    neighbours = [block[3 * tap : 3 * tap + size].view(rows.shape) for tap in range(4)]
    first, *others = torch.from_numpy(taps)[:, :, None].unbind(1)
    total = neighbours[0] * first
    for neighbour, weights in zip(neighbours[1:], others, strict=True):
        total.addcmul_(neighbour, weights)
    values = total.add_(_EXACT).clamp_(0, 255).numpy()
    return values.astype(np.uint8)


def _within(
    slope: float, offsets: Float64[np.ndarray, "rows"], half: float
) -> tuple[Float64[np.ndarray, "rows"], Float64[np.ndarray, "rows"]]:
    """From and to where ``abs(slope * u + offset) <= half``, for each offset."""
    if slope == 0:
        reach = np.where(abs(offsets) <= half, np.inf, -np.inf)
        return -reach, reach
    ends = np.array([-half - offsets, half - offsets]) / slope
    return ends.min(axis=0), ends.max(axis=0)


def _reach(slides: Slides, width: int) -> tuple[Slides, Slides]:
    """The first column of a row whose centre is read from inside the row, and the first behind it
    whose centre is not.
    """
    first: Slides = np.ceil(-0.5 - slides)
    return first, first + width


def _outside(
    first: Float64[np.ndarray, "height"], stop: Float64[np.ndarray, "height"], width: int
) -> Bool[np.ndarray, "height {width}"]:
    """Which pixels stand before the first column of their row, or from ``stop`` on."""
    columns = np.arange(width, dtype=np.int16)
    starts, stops = (np.clip(ends, 0, width).astype(np.int16)[:, None] for ends in (first, stop))
    outside: Bool[np.ndarray, "height {width}"] = (columns < starts) | (columns >= stops)
    return outside


def _filled(image: Rgb, outside: Bool[np.ndarray, "height width"], fill: Color) -> Rgb:
    """The image, in place, with a colour where it shows what is outside."""
    cv2.copyTo(_plain(image.shape, fill), outside.view(np.uint8), image)
    return image


@functools.lru_cache(maxsize=8)
def _plain(shape: tuple[int, ...], fill: Color) -> Rgb:
    plain = np.empty(shape, np.uint8)
    plain[:] = fill
    return plain
