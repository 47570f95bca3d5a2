"""A view is data: crop, flip, operations and erasing box of every view, as arrays.

The plan of a view is a pure function of (seed, epoch, position), drawn in bulk for any set of
positions. It holds physical quantities only, so that `render` on the host and `render_device` on
the device can make the same picture from it. The pixels themselves, erasing noise included, and the
mixing of images (`mix_plan`) are made elsewhere.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int8, Int32, Int64

from deit.data import policies
from deit.data.operations import Color, Interpolation
from deit.errors import UserError
from deit.randomness import Stream, uniform

Crop = Literal["random-resized", "pad", "simple", "resize"]
Policy = Literal["none", "rand-augment", "auto-augment", "3-augment"]

NUM_TRIES = 10
"""How often a crop or an erasing box is drawn before its fallback, as in torchvision and timm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewConfig:
    """How a training view is made from an image. The defaults are DeiT's (Table 9).

    Raises:
        UserError: for a value out of its range, and for one that could not act: a changed setting
            of a crop, a policy or an erasing that is off.
    """

    crop: Crop = "random-resized"
    """random-resized: a box of random area and shape; pad: the shorter side's square, moved by up
    to `padding` over a black border (small images); simple: the same over a mirrored border
    (DeiT III); resize: the whole image, squeezed."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest area of a random-resized crop, as a share of the image (DeiT, timm)."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width / height of a random-resized crop (DeiT, timm)."""
    padding: int = 4
    """Border of the crops pad and simple, pixels of the finished view (DeiT III; CIFAR custom)."""
    interpolation: Interpolation = "bicubic"
    """Kernel of resizing and of geometric operations (DeiT)."""
    flip: float = 0.5
    """Probability of a left-right flip (DeiT)."""
    policy: Policy = "rand-augment"
    """Which operations a view gets: none, RandAugment, AutoAugment (Table 8) or 3-Augment."""
    num_ops: int = 2
    """Operations drawn per view; RandAugment only (DeiT)."""
    magnitude: float = 9.0
    """Mean level of the operations, 0 to 10; RandAugment only (DeiT)."""
    magnitude_std: float = 0.5
    """Standard deviation of the level; RandAugment only (DeiT)."""
    op_probability: float = 0.5
    """Probability that a drawn operation is applied; RandAugment only (timm)."""
    fill: Color = (124, 116, 104)
    """Colour of what geometric operations bring in from outside, 0 to 255 (ImageNet's mean)."""
    color_jitter: float = 0.0
    """Largest change of brightness, contrast and colour after the policy, as a share; 0 is off.
    (0.3 in DeiT III; DeiT passes 0.3 but timm ignores it beside RandAugment.)"""
    erase: float = 0.25
    """Probability that a box is replaced by noise (DeiT)."""
    erase_area: tuple[float, float] = (0.02, 1 / 3)
    """Smallest and largest area of the erased box, as a share of the view (timm)."""
    erase_ratio: tuple[float, float] = (0.3, 1 / 0.3)
    """Smallest and largest height / width of the erased box (timm)."""

    def __post_init__(self) -> None:
        for name, allowed in (("crop", Crop), ("policy", Policy), ("interpolation", Interpolation)):
            value = getattr(self, name)
            _require(value in get_args(allowed), name, value, ", ".join(get_args(allowed)))
        for name in ("flip", "op_probability", "color_jitter", "erase"):
            value = getattr(self, name)
            _require(0 <= value <= 1, name, value, "0 to 1")
        _require(self.padding >= 0, "padding", self.padding, "0 or more pixels")
        _require(self.num_ops >= 1, "num_ops", self.num_ops, "1 or more; none is views.policy=none")
        _require(0 <= self.magnitude <= 10, "magnitude", self.magnitude, "0 to 10")
        std = self.magnitude_std
        _require(0 <= std < math.inf, "magnitude_std", std, "0 or more")
        _require(all(0 <= c <= 255 for c in self.fill), "fill", self.fill, "three of 0 to 255")
        for name in ("scale", "ratio", "erase_area", "erase_ratio"):
            low, high = getattr(self, name)
            largest = 100 if name.endswith("ratio") else 1
            allowed_range = f"two numbers above 0 and up to {largest}, the larger one last"
            _require(0 < low <= high <= largest, name, (low, high), allowed_range)
        self._refuse_idle_settings()

    def _refuse_idle_settings(self) -> None:
        random_resized = self.crop == "random-resized"
        rand_augment = self.policy == "rand-augment"
        acts = {
            "scale": (random_resized, "views.crop = random-resized"),
            "ratio": (random_resized, "views.crop = random-resized"),
            "padding": (self.crop in ("pad", "simple"), "views.crop = pad or simple"),
            "num_ops": (rand_augment, "views.policy = rand-augment"),
            "magnitude": (rand_augment, "views.policy = rand-augment"),
            "magnitude_std": (rand_augment, "views.policy = rand-augment"),
            "op_probability": (rand_augment, "views.policy = rand-augment"),
            "erase_area": (self.erase > 0, "views.erase above 0"),
            "erase_ratio": (self.erase > 0, "views.erase above 0"),
        }
        for field in dataclasses.fields(self):
            active, condition = acts.get(field.name, (True, ""))
            value = getattr(self, field.name)
            if not active and value != field.default:
                raise UserError(
                    f"views.{field.name} = {value}",
                    f"{field.default}, because it acts only with {condition}",
                    f"leave views.{field.name} out, or set {condition}",
                )


def _require(valid: bool, name: str, value: Any, allowed: str) -> None:
    if not valid:
        raise UserError(f"views.{name} = {value}", allowed, f"correct views.{name}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewPlan:
    """What is to be done to make some views; row by row, nothing depends on another row.

    Attributes:
        crop: the kind of crop; `crop_box` says what each makes of the next five.
        ratio: smallest and largest width / height, for the fallback of a random-resized crop.
        margin: border of the crops pad and simple, as a share of the view's side.
        areas: area of the crop as a share of the image, for each try, ``[views, tries]``.
        aspects: width / height of the crop, for each try, ``[views, tries]``.
        places: where the crop stands in the room it has, (x, y) in (0, 1), ``[views, 2]``.
        flip: whether the view is mirrored left-right, ``[views]``.
        ops: numbers of `operations.Operation`, applied from left to right; 0 is none.
        arguments: the argument of each operation, in its own unit, ``[views, slots]``.
        erase: the box to fill with noise: top, left, height, width, pixels of the finished view;
            all 0 where nothing is erased, ``[views, 4]``.
    """

    crop: Crop
    ratio: tuple[float, float]
    margin: float
    areas: Float32[np.ndarray, "views tries"]
    aspects: Float32[np.ndarray, "views tries"]
    places: Float64[np.ndarray, "views 2"]
    flip: Bool[np.ndarray, "views"]
    ops: Int8[np.ndarray, "views slots"]
    arguments: Float32[np.ndarray, "views slots"]
    erase: Int32[np.ndarray, "views 4"]

    def __len__(self) -> int:
        return len(self.flip)


def plan_views(
    config: ViewConfig,
    image_size: int,
    seed: int,
    epoch: int,
    positions: Int64[np.ndarray, "views"],
) -> ViewPlan:
    """The plan of the views at some positions of an epoch.

    Args:
        config: the settings of all views of the run.
        image_size: side of the finished, square view, pixels.
        seed, epoch: the place in the run.
        positions: places in the epoch's global order, in any order and number.

    Raises:
        UserError: when the border of the crop is wider than the view.

    >>> plan = plan_views(ViewConfig(), 224, seed=0, epoch=3, positions=np.arange(1000))
    >>> alone = plan_views(ViewConfig(), 224, seed=0, epoch=3, positions=np.array([7]))
    >>> bool((plan.ops[7] == alone.ops[0]).all())
    True
    """
    if config.crop in ("pad", "simple"):
        _require(config.padding <= image_size, "padding", config.padding, f"up to {image_size}")
    areas, aspects, places = _plan_crops(config, seed, epoch, positions)
    ops, arguments = plan_operations(config, seed, epoch, positions)
    return ViewPlan(
        crop=config.crop,
        ratio=config.ratio,
        margin=config.padding / image_size,
        areas=areas,
        aspects=aspects,
        places=places,
        flip=plan_flips(config, seed, epoch, positions),
        ops=ops,
        arguments=arguments,
        erase=plan_erasing(config, image_size, seed, epoch, positions),
    )


def crop_box(plan: ViewPlan, row: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of a view's crop, in pixels of the decoded image.

    * ``random-resized``: the first try that fits, as torchvision's and timm's RandomResizedCrop;
      when none does, the largest centred box within the allowed ratios.
    * ``pad`` and ``simple``: a square with the image's shorter side, which may stick out by the
      margin; for an image of the view's size that is torchvision's ``RandomCrop(size, padding)``.
    * ``resize``: the whole image.

    Args:
        plan: the plan.
        row: which of its views.
        width, height: size of the decoded image.
    """
    margin = 0
    match plan.crop:
        case "resize":
            return 0, 0, width, height
        case "random-resized":
            size = _first_fit(plan.areas[row], plan.aspects[row], width, height)
            if size is None:
                return _centred_box(plan.ratio, width, height)
            box_width, box_height = size
        case _:
            box_width = box_height = min(width, height)
            margin = round(plan.margin * box_width)
    x, y = plan.places[row].tolist()
    left = int(x * (width + 2 * margin - box_width + 1)) - margin
    top = int(y * (height + 2 * margin - box_height + 1)) - margin
    return left, top, box_width, box_height


def plan_flips(
    config: ViewConfig, seed: int, epoch: int, positions: Int64[np.ndarray, "views"]
) -> Bool[np.ndarray, "views"]:
    """Which views are mirrored left-right: `ViewPlan.flip` alone."""
    return uniform(seed, epoch, positions, Stream.FLIP, 1)[:, 0] < config.flip


def plan_erasing(
    config: ViewConfig,
    image_size: int,
    seed: int,
    epoch: int,
    positions: Int64[np.ndarray, "views"],
) -> Int32[np.ndarray, "views 4"]:
    """The boxes of random erasing (Zhong et al., arXiv 1708.04896), as in timm.

    Each view is erased with probability ``config.erase``. Area and shape of the box are drawn until
    it is smaller than the view in both directions, at most `NUM_TRIES` times. The arguments are
    those of `plan_views`, of whose plan this is the last column.

    Returns:
        Top, left, height and width in pixels; all 0 where nothing is erased.
    """
    boxes = np.zeros((len(positions), 4), dtype=np.int32)
    chosen = uniform(seed, epoch, positions, Stream.ERASE, 1)[:, 0] < config.erase
    draws = uniform(seed, epoch, positions[chosen], Stream.ERASE, 3 + 2 * NUM_TRIES)[:, 1:]
    places, areas, ratios = np.split(draws, (2, 2 + NUM_TRIES), axis=1)
    area = _between(config.erase_area, areas).astype(np.float64) * image_size**2
    ratio = _log_between(config.erase_ratio, ratios).astype(np.float64)
    sizes = np.sqrt(np.stack([area * ratio, area / ratio], axis=-1)).round()  # [views, tries, 2]
    fits = sizes.max(axis=-1) < image_size  # [views, tries]
    sizes = sizes[np.arange(len(sizes)), fits.argmax(axis=1)]  # [views, 2]
    erased = np.any(fits, axis=1) & (sizes.min(axis=1) > 0)
    corners = np.floor(places * (image_size - sizes + 1))
    boxes[chosen] = np.concatenate([corners, sizes], axis=1) * erased[:, None]
    return boxes


def plan_operations(
    config: ViewConfig, seed: int, epoch: int, positions: Int64[np.ndarray, "views"]
) -> policies.Draw:
    """`ViewPlan.ops` and `.arguments` alone: the policy's slots, then the colour jitter's."""
    none = np.zeros((len(positions), 0), dtype=np.int8)
    draws = [policies.Draw(none, none.astype(np.float32))]
    match config.policy:
        case "rand-augment":
            drawn = policies.rand_augment(
                seed,
                epoch,
                positions,
                num_ops=config.num_ops,
                magnitude=config.magnitude,
                magnitude_std=config.magnitude_std,
                probability=config.op_probability,
            )
            draws.append(drawn)
        case "auto-augment":
            draws.append(policies.auto_augment(seed, epoch, positions))
        case "3-augment":
            draws.append(policies.three_augment(seed, epoch, positions))
    if config.color_jitter > 0:
        draws.append(policies.color_jitter(seed, epoch, positions, config.color_jitter))
    ops, arguments = zip(*draws, strict=True)
    return policies.Draw(np.concatenate(ops, axis=1), np.concatenate(arguments, axis=1))


def keep_masks(
    seed: int, epoch: int, positions: Int64[np.ndarray, "views"], drop_rates: Sequence[float]
) -> Float32[np.ndarray, "views depth 2"]:
    """Which residual branches stochastic depth keeps: 1 keep, 0 drop.

    Args:
        seed, epoch, positions: the place in the run.
        drop_rates: probability of dropping, one per block; DeiT's run from 0 to 0.1.

    Returns:
        One independent mask for each view, block and branch (attention, MLP), not yet divided by
        the probability of keeping.
    """
    depth = len(drop_rates)
    draws = uniform(seed, epoch, positions, Stream.STOCHASTIC_DEPTH, 2 * depth)
    rates = np.asarray(drop_rates, dtype=np.float64)[:, None]
    return (draws.reshape(len(positions), depth, 2) >= rates).astype(np.float32)


def _plan_crops(
    config: ViewConfig, seed: int, epoch: int, positions: Int64[np.ndarray, "views"]
) -> tuple[
    Float32[np.ndarray, "views tries"],
    Float32[np.ndarray, "views tries"],
    Float64[np.ndarray, "views 2"],
]:
    """Areas, aspects and places; one place serves all tries, as it does not decide which fits."""
    tries = NUM_TRIES if config.crop == "random-resized" else 0
    draws = uniform(seed, epoch, positions, Stream.CROP, 2 + 2 * tries)
    areas = _between(config.scale, draws[:, 2 : 2 + tries])
    aspects = _log_between(config.ratio, draws[:, 2 + tries :])
    return areas, aspects, draws[:, :2]


def _between(
    bounds: tuple[float, float], draws: Float64[np.ndarray, "views tries"]
) -> Float32[np.ndarray, "views tries"]:
    low, high = bounds
    return (low + (high - low) * draws).astype(np.float32)


def _log_between(
    bounds: tuple[float, float], draws: Float64[np.ndarray, "views tries"]
) -> Float32[np.ndarray, "views tries"]:
    """Numbers whose logarithm is uniform. float32 hides the last bit, in which libraries differ."""
    low, high = math.log(bounds[0]), math.log(bounds[1])
    return np.exp(low + (high - low) * draws).astype(np.float32)


def _first_fit(
    areas: Float32[np.ndarray, "tries"],
    aspects: Float32[np.ndarray, "tries"],
    width: int,
    height: int,
) -> tuple[int, int] | None:
    """Width and height of the first try that lies within the image, if any does."""
    for share, aspect in zip(areas.tolist(), aspects.tolist(), strict=True):
        area = share * (width * height)
        box_width = round(math.sqrt(area * aspect))
        box_height = round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            return box_width, box_height
    return None


def _centred_box(ratio: tuple[float, float], width: int, height: int) -> tuple[int, int, int, int]:
    """The largest centred box whose width / height is allowed."""
    narrowest, widest = ratio
    box_width, box_height = width, height
    if width < narrowest * height:
        box_height = max(1, round(width / narrowest))
    elif width > widest * height:
        box_width = max(1, round(height * widest))
    return (width - box_width) // 2, (height - box_height) // 2, box_width, box_height
