"""From a decoded image and a row of the plan to the pixels of a view, on the host.

`crop_view` makes the part that always happens here, `augment_crops` the rest for many views, and
`render_view` one whole view.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch.nn import functional

from deit.data.operations import Interpolation
from deit.data.operations_host import apply_operation
from deit.data.plan import Crop, ViewConfig, ViewPlan, crop_box

RENDERER = 2
"""Counts up when a change here makes other pixels of the same plan: stored labels name it."""

cv2.setNumThreads(0)  # images are rendered side by side, in processes: threads would get in the way

# glibc gives memory back to the system after every image, and gets it page by page for the next
# one, until it has seen a larger block freed than it was asked for since. Here is one: the
# arithmetic of shears and blends takes half the time after it. Elsewhere it does nothing.
np.empty(2**25 - 2**16, np.uint8)


def render_view(
    image: UInt8[np.ndarray, "height width 3"],
    plan: ViewPlan,
    row: int,
    config: ViewConfig,
    image_size: int,
) -> UInt8[np.ndarray, "size size 3"]:
    """The finished view, but for normalisation, erasing and mixing, which the device does.

    Crop and resize, flip, then the operations in the plan's order.

    Args:
        image: a decoded image of any size from 1 x 1.
        plan, row: which view; made by `plan_views` with the same settings and size.
        config: the settings of the plan; interpolation and fill are read here.
        image_size: side of the view, pixels.
    """
    crop = crop_view(image, plan, row, config, image_size)
    return augment_crops([crop], plan, config, [row])[0]


def crop_view(
    image: UInt8[np.ndarray, "height width 3"],
    plan: ViewPlan,
    row: int,
    config: ViewConfig,
    image_size: int,
) -> UInt8[np.ndarray, "size size 3"]:
    """The view before its flip and operations: cropped and resized, antialiased.

    The arguments are those of `render_view`.
    """
    height, width, _ = image.shape
    cut = _cut(image, crop_box(plan, row, width, height), plan.crop)
    return _resize(cut, image_size, config.interpolation)


def augment_crops(
    crops: Sequence[UInt8[np.ndarray, "size size 3"]],
    plan: ViewPlan,
    config: ViewConfig,
    rows: Sequence[int],
) -> list[UInt8[np.ndarray, "size size 3"]]:
    """Flip and operations of some views of a plan.

    Operation by operation, because one that was just at work is a tenth faster: what it needs lies
    in the processor's cache.

    Args:
        crops: from `crop_view`, one for each row.
        plan, config: as in `render_view`.
        rows: which views of the plan they are.
    """
    chosen = list(rows)
    flips = plan.flip[chosen].tolist()
    views = [cv2.flip(c, 1) if flip else c for c, flip in zip(crops, flips, strict=True)]
    for ops, arguments in zip(plan.ops[chosen].T, plan.arguments[chosen].T, strict=True):
        for place in np.argsort(ops, kind="stable").tolist():
            op, argument = int(ops[place]), float(arguments[place])
            views[place] = apply_operation(
                views[place], op, argument, config.fill, config.interpolation
            )
    return views


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
) -> UInt8[np.ndarray, "size size 3"]:
    """The cut at the view's size, antialiased.

    torch's kernel is Pillow's algorithm with coarser weights, equal to within two grey levels, and
    takes a fifth of the time.
    """
    if cut.shape[:2] == (image_size, image_size):
        return cut
    pixels = torch.from_numpy(cut)
    planes = pixels.view(1, *cut.shape).permute(0, 3, 1, 2)  # the stride of [None] costs a third
    size = (image_size, image_size)
    resized = functional.interpolate(planes, size, mode=interpolation, antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())  # it is: nothing is copied
