"""The operations of a plan on batches of images, as torch operations on any device.

The meaning of every operation is `operations`'; there each is applied to one image on the host,
here to all images of a batch that are to have it, each with an argument of its own. How near the
two come:

* The operations on colour, and the blur, equal Pillow's in every byte.
* Shears and translations differ from Pillow's by one grey level, on photographs in less than two
  values of 1000 (one of 100 when bilinear).
* Rotation has OpenCV's kernel and differs from it by one grey level, in less than two values of
  1000. From Pillow's it is half a grey level to two away on average, on photographs.

Sums are of integers, and all else is elementwise with one rounding in each step: an image is
rendered to the same bytes whatever stands beside it in the batch, on the CPU and on a GPU. No step
waits for the device. Where Pillow's arithmetic is not plain, the source is named.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int8, Int32, Int64, Shaped, UInt8
from torch import Tensor

from deit.data.geometry_device import Images, carry, rotate, slide_columns, slide_rows
from deit.data.operations import Color, Interpolation, Operation

DEVICE_RENDERER = 1
"""Counts up when a change here makes other pixels of the same plan: stored labels name it."""

_CHUNK_PIXELS = {"cpu": 2**16, "cuda": 2**21}
"""Pixels that go through an operation at a time. Temporary arrays take up to 100 bytes for each: on
a GPU 200 MB, on a CPU what stays in its caches."""


def apply_plan(
    images: Images,
    flip: Bool[np.ndarray, "batch"],
    ops: Int8[np.ndarray, "batch slots"],
    arguments: Float32[np.ndarray, "batch slots"],
    fill: Color = (124, 116, 104),
    interpolation: Interpolation = "bicubic",
) -> Images:
    """Finish views that are cut and resized: flip them, then apply the plan's operations in order.

    Images that get the same operation in the same slot go through it together.

    Args:
        images: on any device; left as they are.
        flip, ops, arguments: what is to be done, as `ViewPlan` holds it, on the host.
        fill, interpolation: as in `operations_host.apply_operation`.

    >>> images = torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
    >>> invert, none = np.array([[Operation.INVERT]], np.int8), np.zeros((1, 1), np.float32)
    >>> apply_plan(images, np.array([False]), invert, none)[0, 0].tolist()
    [[155, 155], [155, 155]]
    """
    finished = images.clone()
    for _, rows in _chunks(np.flatnonzero(flip), images):
        finished.index_copy_(0, rows, finished.index_select(0, rows).flip(-1))
    for slot in range(ops.shape[1]):
        for operation in sorted(set(ops[:, slot].tolist()) - {Operation.IDENTITY}):
            for places, rows in _chunks(np.flatnonzero(ops[:, slot] == operation), images):
                changed = apply_to_all(
                    finished.index_select(0, rows),
                    operation,
                    arguments[places, slot].astype(np.float64),
                    fill,
                    interpolation,
                )
                finished.index_copy_(0, rows, changed)
    return finished


def apply_to_all(
    images: Images,
    operation: int,
    arguments: Float64[np.ndarray, "batch"],
    fill: Color = (124, 116, 104),
    interpolation: Interpolation = "bicubic",
) -> Images:
    """The images after one operation.

    Args:
        images: on any device; left as they are.
        operation: an `Operation`.
        arguments: one for each image, in the operation's unit; unused by those without one.
        fill: colour of what comes in from outside an image.
        interpolation: kernel of the geometric operations.
    """
    match operation:
        case Operation.IDENTITY:
            return images
        case Operation.AUTO_CONTRAST:
            return _auto_contrast(images)
        case Operation.EQUALIZE:
            return _equalize(images)
        case Operation.INVERT:
            return 255 - images
        case Operation.POSTERIZE:
            return images & _each(
                256 - 2 ** (8 - arguments.astype(int).clip(0, 8)), images, np.uint8
            )
        case Operation.SOLARIZE:
            threshold = _each(arguments.astype(int), images, np.int16)
            return torch.where(images < threshold, images, 255 - images)
        case Operation.SOLARIZE_ADD:
            added = (images + _each(arguments.astype(int), images, np.int16)).clamp_(0, 255)
            return torch.where(images < 128, added.to(torch.uint8), images)
        case Operation.COLOR:
            return _blend(luma(images), images, arguments)
        case Operation.CONTRAST:
            return _blend(_mean_grey(images), images, arguments)
        case Operation.BRIGHTNESS:
            return _blend(images.new_zeros(1), images, arguments)
        case Operation.SHARPNESS:
            return _blend(_smooth(images), images, arguments)
        case Operation.GRAYSCALE:
            return luma(images).to(torch.uint8).expand(-1, 3, -1, -1)
        case Operation.GAUSSIAN_BLUR:
            return _gaussian_blur(images, arguments)
        case _:
            return _apply_geometric(images, operation, arguments, fill, interpolation)


def luma(images: Images) -> Int32[Tensor, "batch 1 height width"]:
    """Pillow's ``convert("L")``: weights in units of 2**-16, rounded to the nearest."""
    red, green, blue = images.to(torch.int32).unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16)[:, None]


def _chunks(
    places: Int64[np.ndarray, "places"], images: Images
) -> Iterator[tuple[Int64[np.ndarray, "some"], Int64[Tensor, "some"]]]:
    """Places in the batch a few at a time, on the host and as a tensor on the images' device."""
    pixels = images.shape[-2] * images.shape[-1]
    length = max(1, _CHUNK_PIXELS.get(images.device.type, 2**16) // pixels)
    for first in range(0, len(places), length):
        some = places[first : first + length]
        yield some, carry(some, images.device)


def _apply_geometric(
    images: Images,
    operation: int,
    arguments: Float64[np.ndarray, "batch"],
    fill: Color,
    interpolation: Interpolation,
) -> Images:
    height, width = images.shape[-2:]
    match operation:
        case Operation.ROTATE:
            return rotate(images, arguments, fill, interpolation)
        case Operation.SHEAR_X:
            slides = arguments[:, None] * (np.arange(height) + 0.5)
            return slide_rows(images, slides, fill, interpolation)
        case Operation.TRANSLATE_X:
            slides = np.repeat(arguments[:, None] * width, height, axis=1)
            return slide_rows(images, slides, fill, interpolation)
        case Operation.SHEAR_Y:
            slides = arguments[:, None] * (np.arange(width) + 0.5)
            return slide_columns(images, slides, fill, interpolation)
        case Operation.TRANSLATE_Y:
            slides = np.repeat(arguments[:, None] * height, width, axis=1)
            return slide_columns(images, slides, fill, interpolation)
    raise ValueError(f"{operation} is no image operation")


def _each(values: np.ndarray, images: Images, dtype: type) -> Tensor:
    """A number for each image, as something that its pixels can be combined with."""
    return carry(values.astype(dtype)[:, None, None, None], images.device)


def _blend(base: Tensor, images: Images, factors: Float64[np.ndarray, "batch"]) -> Images:
    """``base + factor (image - base)`` in single precision, cut down to whole grey levels.

    Pillow's ``Image.blend`` (Blend.c); base is any that broadcasts, of whole numbers 0 to 255.
    """
    start = base.to(torch.float32)
    blended = (images.to(torch.float32) - start).mul_(_each(factors, images, np.float32))
    return blended.add_(start).clamp_(0, 255).to(torch.uint8)


def _mean_grey(images: Images) -> Int64[Tensor, "batch 1 1 1"]:
    """The mean of the luma, rounded half up."""
    grey = luma(images)
    count = grey[0].numel()
    total = grey.sum((1, 2, 3), keepdim=True)
    return torch.div(2 * total + count, 2 * count, rounding_mode="floor")


def _smooth(images: Images) -> Float32[Tensor, "batch 3 height width"]:
    """Pillow's ``ImageFilter.SMOOTH``: neighbours once, the middle five times, divided by 13.

    Rounded to the nearest; no sum lies near a half. The outermost pixels stay as they are.
    """
    values = images.to(torch.float32)
    if min(values.shape[-2:]) < 3:
        return values
    rows = values[:, :, :-2] + values[:, :, 1:-1] + values[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    middle = values[:, :, 1:-1, 1:-1]
    middle.mul_(4).add_(total).mul_(1 / 13).add_(0.5).floor_()
    return values


def _auto_contrast(images: Images) -> Images:
    """``ImageOps.autocontrast``: each channel from 0 to 255, by a table in double precision."""
    low, high = (bound[..., None].to(torch.float64) for bound in _bounds(images))
    values = torch.arange(256, dtype=torch.float64, device=images.device)
    # A number divided by a tensor would be its reciprocal times the number: rounded twice.
    scale = torch.full_like(low, 255.0) / (high - low).clamp_(min=1)
    stretched = (values * scale + -low * scale).clamp_(0, 255)  # [batch, 3, 256]
    return _look_up(torch.where(high > low, stretched, values), images)


def _equalize(images: Images) -> Images:
    """``ImageOps.equalize``: the table of each channel is its cumulative histogram."""
    indices = images.flatten(2).to(torch.int64)
    counts = torch.zeros((*indices.shape[:2], 256), dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, indices, torch.ones_like(indices[:, :, :1]).expand_as(indices))
    last = counts.gather(2, _bounds(images)[1][..., None].to(torch.int64))
    step = torch.div(indices.shape[2] - last, 255, rounding_mode="floor")
    divisor = step.clamp(min=1)
    below = counts.cumsum(2) - counts + torch.div(divisor, 2, rounding_mode="floor")
    flat = torch.div(below, divisor, rounding_mode="floor").clamp_(max=255)
    return _look_up(torch.where(step > 0, flat, torch.arange(256, device=flat.device)), images)


def _bounds(images: Images) -> tuple[UInt8[Tensor, "batch 3"], UInt8[Tensor, "batch 3"]]:
    """The smallest and the largest value of each channel."""
    return images.amin((2, 3)), images.amax((2, 3))


def _look_up(tables: Shaped[Tensor, "batch 3 256"], images: Images) -> Images:
    """Every value replaced by the entry of its image's and channel's table."""
    indices = images.flatten(2).to(torch.int64)
    return tables.to(torch.uint8).gather(2, indices).view_as(images)


_BLUR_PASSES = 3


def _gaussian_blur(images: Images, sigmas: Float64[np.ndarray, "batch"]) -> Images:
    """Pillow's ``GaussianBlur`` (BoxBlur.c): three box blurs along rows, then along columns."""
    weights, reach = _box_weights(sigmas)
    carried = carry(weights[:, :, None, None, None], images.device).unbind(1)
    for _ in range(2):
        for _ in range(_BLUR_PASSES):
            images = _box_blur(images, list(carried), reach)
        images = images.transpose(2, 3)
    return images


def _box_weights(
    sigmas: Float64[np.ndarray, "batch"],
) -> tuple[Int64[np.ndarray, "batch distances"], int]:
    """Weights by distance from the middle of the box, in units of 2**-24, and the largest distance.

    A box has a whole radius, within which all weigh the same, and a border of one pixel that weighs
    what is left (Gwosdek et al., Theoretical Foundations of Gaussian Convolution by Extended Box
    Filtering, 2011). Single and double precision alternate as they do in C.
    """
    variance = (sigmas.astype(np.float32) ** 2 / np.float32(_BLUR_PASSES)).astype(np.float32)
    length = np.sqrt(12.0 * variance.astype(np.float64) + 1.0).astype(np.float32)
    whole = np.floor((length.astype(np.float64) - 1.0) / 2.0).astype(np.float32)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    part = part / (6 * (variance - (whole + 1) * (whole + 1)))
    inner = (np.float32(2**24) / ((whole + part) * 2 + 1)).astype(np.int64)[:, None]
    radius = np.floor(whole + part).astype(np.int64)[:, None]
    outer = (2**24 - (2 * radius + 1) * inner) // 2
    distances = np.arange(int(radius.max(initial=0)) + 2)
    weights = np.where(distances <= radius, inner, outer * (distances == radius + 1))
    return weights, len(distances) - 1


def _box_blur(images: Images, weights: list[Tensor], reach: int) -> Images:
    """One weighted box along the rows, whose ends are repeated; rounded to the nearest."""
    width = images.shape[-1]
    padded = torch.arange(-reach, width + reach, device=images.device).clamp_(0, width - 1)
    values = images.to(torch.int64).index_select(3, padded)
    middle = values[..., reach : reach + width]
    total = (middle * weights[0]).add_(2**23)
    for distance, weight in enumerate(weights[1:], start=1):
        left = values[..., reach - distance : reach - distance + width]
        right = values[..., reach + distance : reach + distance + width]
        total += (left + right) * weight
    return (total >> 24).to(torch.uint8)
