"""From a decoded image and a row of the plan to the pixels of a view, on the host."""

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional

from deit.data.operations import Interpolation, apply_operation
from deit.data.plan import Crop, ViewConfig, ViewPlan, crop_box

RENDERER = 1
"""Counts up when a change here makes other pixels of the same plan: stored labels name it."""


def render_view(
    image: UInt8[np.ndarray, "height width 3"],
    plan: ViewPlan,
    row: int,
    config: ViewConfig,
    image_size: int,
) -> UInt8[np.ndarray, "size size 3"]:
    """The finished view, but for normalisation, erasing and mixing, which the device does.

    Crop and resize, flip, then the operations in the plan's order. The arguments are `crop_view`'s.

    Returns:
        The view. Its memory is planar: ``transpose(2, 0, 1)`` is contiguous and costs nothing,
        while stacking it as it stands does.
    """
    pixels = crop_view(image, plan, row, config, image_size)
    if plan.flip[row]:
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1)[:, :, ::-1]).transpose(1, 2, 0)
    if plan.ops[row].any():
        picture = _picture(pixels.transpose(2, 0, 1))
        for op, argument in zip(plan.ops[row].tolist(), plan.arguments[row].tolist(), strict=True):
            picture = apply_operation(picture, op, argument, config.fill, config.interpolation)
        pixels = _planes(picture).transpose(1, 2, 0)
    return pixels


def crop_view(
    image: UInt8[np.ndarray, "height width 3"],
    plan: ViewPlan,
    row: int,
    config: ViewConfig,
    image_size: int,
) -> UInt8[np.ndarray, "size size 3"]:
    """The view without flip and operations: cut and resized.

    Args:
        image: a decoded image of any size from 1 x 1.
        plan, row: which view; made by `plan_views` with the same settings and size.
        config: the settings of the plan; its interpolation is read here.
        image_size: side of the view, pixels.

    Returns:
        Pixels in planar memory, as those of `render_view`.
    """
    height, width, _ = image.shape
    cut = _cut(image, crop_box(plan, row, width, height), plan.crop)
    return _resize(cut, image_size, config.interpolation).numpy().transpose(1, 2, 0)


def _cut(
    image: UInt8[np.ndarray, "height width 3"], box: tuple[int, int, int, int], crop: Crop
) -> UInt8[np.ndarray, "box_height box_width 3"]:
    """A copy of the box; what lies outside the image is mirrored (simple) or black (pad)."""
    left, top, box_width, box_height = box
    height, width, _ = image.shape
    if 0 <= left <= width - box_width and 0 <= top <= height - box_height:
        return image[top : top + box_height, left : left + box_width].copy()
    if crop == "simple":
        rows = _mirrored(np.arange(top, top + box_height), height)
        columns = _mirrored(np.arange(left, left + box_width), width)
        return image.take(rows, axis=0).take(columns, axis=1)
    padded = np.zeros((box_height, box_width, 3), dtype=np.uint8)
    inside = image[max(top, 0) : top + box_height, max(left, 0) : left + box_width]
    down, right = max(-top, 0), max(-left, 0)
    padded[down : down + inside.shape[0], right : right + inside.shape[1]] = inside
    return padded


def _mirrored(places: Int[np.ndarray, "n"], length: int) -> Int[np.ndarray, "n"]:
    """Places outside 0..length-1 reflected at the first and last, which are not repeated."""
    period = max(1, 2 * (length - 1))
    there, back = places % period, -places % period
    return np.where(there < back, there, back)


def _resize(
    cut: UInt8[np.ndarray, "height width 3"], image_size: int, interpolation: Interpolation
) -> UInt8[Tensor, "3 size size"]:
    """The cut at the view's size, antialiased.

    torch's kernel is Pillow's algorithm with coarser weights, equal to within two grey levels, and
    takes a fifth of the time.
    """
    planes = torch.from_numpy(cut).permute(2, 0, 1)
    if cut.shape[:2] == (image_size, image_size):
        return planes.contiguous()
    size = (image_size, image_size)
    return functional.interpolate(planes[None], size, mode=interpolation, antialias=True)[0]


def _picture(planes: UInt8[np.ndarray, "3 height width"]) -> Image.Image:
    """Three planes as a PIL image, by way of its raw mode with a line of each colour in turn."""
    _, height, width = planes.shape
    lines = planes.transpose(1, 0, 2)  # [height, 3, width]
    return Image.frombytes("RGB", (width, height), lines.tobytes(), "raw", "RGB;L")


def _planes(picture: Image.Image) -> UInt8[np.ndarray, "3 height width"]:
    """A PIL image as three planes."""
    lines = np.frombuffer(picture.tobytes("raw", "RGB;L"), np.uint8)
    return lines.reshape(picture.height, 3, picture.width).transpose(1, 0, 2).copy()
