"""The geometric operations on batches of RGB images, as torch operations on any device.

Shears and translations read each row (or column) from a little further along; rotation reads each
pixel from anywhere. What the arguments mean, what comes in from outside and which kernels are used
is as on the host; `operations_device` says how near the two come.

Where a pixel is read from is computed on the host, in double precision and per row and column, and
carried over as whole numbers and fractions. On the device follow elementwise operations, of which
each rounds once, in one order. So a GPU and a CPU give the same bytes.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32, UInt8
from torch import Tensor

from deit.data.operations import Color, Interpolation

Images = UInt8[Tensor, "batch 3 height width"]
Packed = Int32[Tensor, "batch height width"]

_PART_BITS = 16
_ONE = 2**_PART_BITS
"""Rotation reads from places in units of 2**-16 pixels, so that whole and part fit into 32 bits."""

_CUBIC_OF_ROTATION = -0.75
"""Keys' a: OpenCV's kernel, which rotates on the host. Pillow's, in the other operations, is -1."""


def carry(array: np.ndarray, device: torch.device) -> Tensor:
    """A small array of the host on the device. Nobody waits: neither for the copy, nor the copy for
    what the device is still doing."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def slide_rows(
    images: Images,
    slides: Float64[np.ndarray, "batch height"],
    fill: Color,
    interpolation: Interpolation,
) -> Images:
    """Each row read ``slides[image, row]`` columns further right: a shear or a translation.

    One-dimensional interpolation by Keys' cubic with a = -1 or by a straight line, cut down to
    whole grey levels, as Pillow does.
    """
    device, width = images.device, images.shape[-1]
    whole = np.floor(slides)
    shift = carry(whole.astype(np.int64)[:, :, None], device)  # [batch, height, 1]
    part = carry((slides - whole).astype(np.float32)[:, :, None], device)
    columns = (torch.arange(-1, width + 2, device=device) + shift).clamp_(0, width - 1)
    values = _pack(images).gather(2, columns).view(torch.uint8).to(torch.float32)
    between = _cubic if interpolation == "bicubic" else _linear
    moved = _unpack(between(values, part).to(torch.uint8).view(torch.int32))
    return _fill(moved, _outside_rows(slides, width, device), fill)


def slide_columns(
    images: Images,
    slides: Float64[np.ndarray, "batch width"],
    fill: Color,
    interpolation: Interpolation,
) -> Images:
    """Each column read ``slides[image, column]`` rows further down; see `slide_rows`."""
    turned = slide_rows(images.transpose(2, 3), slides, fill, interpolation)
    return turned.transpose(2, 3)


def rotate(
    images: Images,
    degrees: Float64[np.ndarray, "batch"],
    fill: Color,
    interpolation: Interpolation,
) -> Images:
    """Turned counter-clockwise about the centre.

    Bilinear, or Keys' cubic with a = -0.75, rounded to the nearest grey level. Neighbours beyond
    the edge repeat it; a pixel whose centre comes from outside gets the colour ``fill``.
    """
    height, width = images.shape[-2:]
    x, y = _sources(degrees, height, width, images.device)
    outside = _outside(x, width) | _outside(y, height)
    taps = _cubic_taps if interpolation == "bicubic" else _linear_taps
    columns, across = taps(x, width)
    rows, down = taps(y, height)
    pixels = _pack(images).flatten(1)
    total = torch.zeros((*x.shape, 4), device=images.device)  # [batch, height, width, RGBX]
    for row, weight in zip(rows, down, strict=True):
        line = torch.zeros_like(total)
        for column, factor in zip(columns, across, strict=True):
            taken = pixels.gather(1, (row * width + column).flatten(1)).view_as(row)
            values = taken.view(torch.uint8).view_as(total).to(torch.float32)
            line += values.mul_(factor[..., None])
        total += line.mul_(weight[..., None])
    turned = total.round_().clamp_(0, 255).to(torch.uint8).flatten(2).view(torch.int32)
    return _fill(_unpack(turned), outside[:, None], fill)


def _sources(
    degrees: Float64[np.ndarray, "batch"], height: int, width: int, device: torch.device
) -> tuple[Int32[Tensor, "batch {height} {width}"], Int32[Tensor, "batch {height} {width}"]]:
    """Column and row of the source of each pixel, counted from centre to centre, in 2**-16."""
    cos, sin = np.cos(np.radians(degrees))[:, None], np.sin(np.radians(degrees))[:, None]
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    x, y = np.arange(width) - middle_x, np.arange(height) - middle_y
    of_columns = np.stack([cos * x, sin * x])[:, :, None, :]  # [2, batch, 1, width]
    of_rows = np.stack([middle_x - sin * y, middle_y + cos * y])[:, :, :, None]
    along, down = (
        carry(np.rint(part * _ONE).astype(np.int32), device) for part in (of_columns, of_rows)
    )
    sources = along + down  # [2, batch, height, width]
    return sources[0], sources[1]


def _outside(
    places: Int32[Tensor, "batch height width"], length: int
) -> Bool[Tensor, "batch height width"]:
    """Which places are not between the outer edges of the first and the last pixel."""
    half = _ONE // 2
    return torch.logical_or(places < -half, places >= length * _ONE - half)


Taps = tuple[list[Tensor], list[Tensor]]
"""Indices and weights of the pixels to interpolate between, each ``[batch, height, width]``."""


def _cubic_taps(places: Int32[Tensor, "batch height width"], length: int) -> Taps:
    """Four neighbours, and Keys' kernel at their distances 1 + d, d, 1 - d and 2 - d."""
    a, d = _CUBIC_OF_ROTATION, _part(places)
    e = 1 - d
    first = (((d + 1) * a - 5 * a) * (d + 1) + 8 * a) * (d + 1) - 4 * a
    second = (d * (a + 2) - (a + 3)) * d * d + 1
    third = (e * (a + 2) - (a + 3)) * e * e + 1
    weights = [first, second, third, 1 - first - second - third]
    return _neighbours(places, length, range(-1, 3)), weights


def _linear_taps(places: Int32[Tensor, "batch height width"], length: int) -> Taps:
    d = _part(places)
    return _neighbours(places, length, range(2)), [1 - d, d]


def _part(places: Int32[Tensor, "batch height width"]) -> Float32[Tensor, "batch height width"]:
    part: Tensor = (places & (_ONE - 1)).to(torch.float32)
    return part.mul_(1 / _ONE)


def _neighbours(
    places: Int32[Tensor, "batch height width"], length: int, offsets: range
) -> list[Tensor]:
    whole = (places >> _PART_BITS).to(torch.int64)
    return [(whole + offset).clamp_(0, length - 1) for offset in offsets]


def _cubic(
    values: Float32[Tensor, "batch rows padded"], part: Float32[Tensor, "batch rows 1"]
) -> Float32[Tensor, "batch rows row"]:
    """Keys' cubic, a = -1, through four neighbours, at ``part`` between the middle two.

    With neighbours a, b, c, e and part d: ``b + d (c - a + d (2(a-b) + c-e - d (a-b + c-e)))``,
    here with r = a-b and s = r + c-e as ``b + d (c - a + d (r + (1 - d) s))``. Not every operation
    of torch will do: those that multiply and add in one round once where these round twice.
    """
    a, b, c, e = (values[:, :, 4 * tap : values.shape[2] - 4 * (3 - tap)] for tap in range(4))
    rise = a - b
    result = (c - e).add_(rise).mul_(1 - part).add_(rise)
    return result.mul_(part).add_(c).sub_(a).mul_(part).add_(b).clamp_(0, 255)


def _linear(
    values: Float32[Tensor, "batch rows padded"], part: Float32[Tensor, "batch rows 1"]
) -> Float32[Tensor, "batch rows row"]:
    """The straight line between the two middle ones of four neighbours."""
    b, c = values[:, :, 4:-8], values[:, :, 8:-4]
    return (c - b).mul_(part).add_(b)


def _outside_rows(
    slides: Float64[np.ndarray, "batch height"], width: int, device: torch.device
) -> Bool[Tensor, "batch 1 height {width}"]:
    """Which pixels have their centre read from outside the row: those at one of its ends."""
    first = np.ceil(-slides - 0.5)  # the first column whose centre lies right of the left edge
    last = np.ceil(width - slides - 0.5)  # the first one right of the right edge
    ends = np.stack([first, last])[:, :, None, :, None].clip(0, width).astype(np.int64)
    start, stop = carry(ends, device)  # [batch, 1, height, 1] each
    columns = torch.arange(width, device=device)
    return torch.logical_or(columns < start, columns >= stop)


def _pack(images: Images) -> Packed:
    """The four bytes of a pixel (red, green, blue, none) as one number: fetched in one go."""
    batch, _, height, width = images.shape
    packed = torch.zeros((batch, height, width, 4), dtype=torch.uint8, device=images.device)
    packed[..., :3] = images.permute(0, 2, 3, 1)
    return packed.flatten(2).view(torch.int32)


def _unpack(packed: Packed) -> Images:
    batch, height, width = packed.shape
    pixels = packed.view(torch.uint8).view(batch, height, width, 4)
    return pixels[..., :3].permute(0, 3, 1, 2)


def _fill(images: Images, outside: Bool[Tensor, "batch 1 height width"], color: Color) -> Images:
    """The images with a colour where they show what lies outside."""
    painted = carry(np.array(color, dtype=np.uint8)[:, None, None], images.device)
    return torch.where(outside, painted, images)
