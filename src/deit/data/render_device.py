"""The part of the data path that runs on the device: uint8 views become a training batch.

In the reference's order: normalise, erase, then mix. Before that, where the host has only cut and
resized (`render = device`), flip and operations. All of it follows the plan of the positions,
and the noise of erasing is made by integer arithmetic, so that host and device agree on every bit.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64, UInt8
from torch import Tensor

from deit.data.mix import mix_images, mix_targets, smooth_targets
from deit.data.mix_plan import MixConfig, plan_mix
from deit.data.operations_device import apply_plan, luma
from deit.data.plan import ViewConfig, plan_erasing, plan_flips, plan_operations
from deit.data.preprocess import Preprocess
from deit.randomness import Stream, normal, normal_table, philox_rounds
from deit.tensors import TrainBatch


@dataclass(frozen=True, slots=True)
class HostBatch:
    """Views in the memory of the host, before normalisation, erasing and mixing.

    Attributes:
        images: RGB bytes, ``[batch, 3, height, width]``.
        labels: class indices, ``[batch]``.
        samples: index of each view's image in the source, ``[batch]``.
        positions: place of each view in the epoch's global order, ``[batch]``.
        epoch: the epoch that the positions belong to; one of the bank, where there is one.
        step: the step of the whole run, from 0.
        holds: views that are finished but for the above, or crops, to which flip and operations
            are still to be applied.
    """

    images: UInt8[Tensor, "batch 3 height width"]
    labels: Int64[Tensor, "batch"]
    samples: Int64[Tensor, "batch"]
    positions: Int64[Tensor, "batch"]
    epoch: int
    step: int
    holds: Literal["views", "crops"] = "views"


def finish_batch(
    host: HostBatch,
    *,
    views: ViewConfig,
    mix: MixConfig,
    preprocess: Preprocess,
    num_classes: int,
    seed: int,
    device: torch.device,
) -> TrainBatch:
    """Bring a batch to the device; render what is still to do, normalise, erase and mix it there.

    Mixing pairs places of the whole batch, so this comes before a split into micro-batches.

    Args:
        host: what the loader gave.
        views: says how much is erased, and how crops become views.
        mix: mixing and label smoothing.
        preprocess: mean, standard deviation and channels of the model's input.
        num_classes: width of the target rows.
        seed: decides operations, erasing and mixing.
        device: where the batch shall be.
    """
    positions = host.positions.numpy()
    image_size = host.images.shape[-1]
    pixels = host.images.to(device, non_blocking=True)
    if host.holds == "crops":
        pixels = finish_crops(pixels, views, seed, host.epoch, positions)
    images = normalise(pixels, preprocess.mean, preprocess.std, preprocess.channels)
    boxes = plan_erasing(views, image_size, seed, host.epoch, positions)
    erase(images, boxes, seed, host.epoch, positions)
    plan = plan_mix(mix, image_size, seed, host.epoch, positions)
    labels = host.labels.to(device, non_blocking=True)
    return TrainBatch(
        images=mix_images(images, plan),
        targets=mix_targets(smooth_targets(labels, num_classes, mix.smoothing), plan),
        positions=host.positions.to(device, non_blocking=True),
        samples=host.samples.to(device, non_blocking=True),
        epoch=host.epoch,
    )


def finish_crops(
    images: UInt8[Tensor, "batch 3 height width"],
    views: ViewConfig,
    seed: int,
    epoch: int,
    positions: Int64[np.ndarray, "batch"],
) -> UInt8[Tensor, "batch 3 height width"]:
    """Flip and operations of the views at some positions, on the device that the images are on.

    Args:
        images: cut and resized; left as they are.
        views, seed, epoch, positions: as in `plan_views`.
    """
    ops, arguments = plan_operations(views, seed, epoch, positions)
    flip = plan_flips(views, seed, epoch, positions)
    return apply_plan(images, flip, ops, arguments, views.fill, views.interpolation)


def normalise(
    images: UInt8[Tensor, "batch 3 height width"],
    mean: Sequence[float],
    std: Sequence[float],
    channels: int = 3,
) -> Float32[Tensor, "batch {channels} height width"]:
    """Bytes to ``(byte / 255 - mean) / std``, per channel, in float32.

    Args:
        images: RGB.
        mean, std: one value for each channel, on the scale of 0 to 1.
        channels: 3, or 1 for grey: the luma of ITU-R 601, rounded as Pillow's mode L is.
    """
    values = (luma(images) if channels == 1 else images).to(torch.float32)
    shift, scale = (
        255 * torch.tensor(list(numbers), device=images.device).view(channels, 1, 1)
        for numbers in (mean, std)
    )
    return values.sub_(shift).div_(scale)


def erase(
    images: Float32[Tensor, "batch channels height width"],
    boxes: Int32[np.ndarray, "batch 4"],
    seed: int,
    epoch: int,
    positions: Int64[np.ndarray, "batch"],
) -> Float32[Tensor, "batch channels height width"]:
    """Random erasing (Zhong et al., 2020) in place: fill each image's box with N(0, 1) per pixel.

    The box of the image at a position holds the first ``channels x height x width`` numbers of
    ``randomness.normal(seed, epoch, position, Stream.ERASE_NOISE)``, channel by channel and row by
    row. This is timm's mode "pixel", which the paper uses. Noise is drawn for erased images only.

    Args:
        images: normalised; overwritten.
        boxes: top, left, height, width in pixels; zero height for an image that stays whole.
        seed, epoch, positions: the places that the noise is a function of.
    """
    erased = np.flatnonzero(boxes[:, 2])
    channels = images.shape[1]
    counts = (channels * boxes[erased, 2] * boxes[erased, 3]).tolist()
    noise = draw_normal(
        seed, epoch, positions[erased], Stream.ERASE_NOISE, max(counts, default=0), images.device
    )
    for row, count, values in zip(erased.tolist(), counts, noise, strict=True):
        top, left, height, width = boxes[row].tolist()
        box = images[row, :, top : top + height, left : left + width]
        box.copy_(values[:count].view(channels, height, width))
    return images


def draw_normal(
    seed: int,
    epoch: int,
    positions: Int64[np.ndarray, "positions"],
    stream: Stream,
    count: int,
    device: torch.device,
) -> Float32[Tensor, "positions {count}"]:
    """The numbers of `randomness.normal`, bit for bit, on a device.

    A GPU draws them itself, so that they need not be carried there. For the CPU NumPy does: at this
    size of array torch would start all its threads a hundred times over, which costs more than the
    arithmetic as soon as loader workers use the same cores.
    """
    if device.type == "cpu":
        return torch.from_numpy(normal(seed, epoch, positions, stream, count))
    return _draw_normal_in_torch(seed, epoch, positions, stream, count, device)


def _draw_normal_in_torch(
    seed: int,
    epoch: int,
    positions: Int64[np.ndarray, "positions"],
    stream: Stream,
    count: int,
    device: torch.device,
) -> Float32[Tensor, "positions {count}"]:
    """`randomness.normal` in signed 64-bit integers: a block of 128 bits gives eight numbers."""
    low = 0xFFFFFFFF
    place = torch.from_numpy(positions).to(device)[:, None]
    block = torch.arange(-(-count // 8), device=device)[None, :]
    counter = (block, place & low, (place >> 32) & low, torch.full_like(place, epoch))
    shape = (len(place), block.shape[1])
    words = philox_rounds([word.expand(shape) for word in counter], (seed, int(stream)))
    bits = torch.stack(words, dim=-1)  # [positions, blocks, 4]
    halves = torch.stack([bits & 0xFFFF, bits >> 16], dim=-1)  # [positions, blocks, 4, 2]
    return _normal_table(device)[halves.flatten(1)[:, :count]]


@functools.cache
def _normal_table(device: torch.device) -> Float32[Tensor, "65536"]:
    return torch.from_numpy(normal_table()).to(device)


def to_pixels(
    images: Float32[Tensor, "batch channels height width"], preprocess: Preprocess
) -> UInt8[np.ndarray, "batch height width 3"]:
    """Normalised images back to RGB bytes, to be looked at: the inverse of `normalise`, clipped.

    Grey images get three equal channels.
    """
    shift, scale = (
        255 * torch.tensor(list(numbers), device=images.device).view(-1, 1, 1)
        for numbers in (preprocess.mean, preprocess.std)
    )
    pixels = (images * scale + shift).round().clamp(0, 255).to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
