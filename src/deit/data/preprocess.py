"""The evaluation transform: what is done to an image before a model is asked about it.

It belongs to the model, not to the data, and is stored with every model artefact, so that
evaluation, the command line and exports cannot disagree. Everything is fixed here: the size, how
much of the image is kept, the interpolation, and the normalisation (carried out on the device).
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from deit import config as configuration
from deit.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's training images, red, green, blue, on a scale of 0 to 1."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""

_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}

_MOST_RESIZED = 2**24
"""Pixels of the largest image that is resized whole, 64 MiB: a 60,000 x 1 line would need 15 GB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessConfig:
    """The part of the evaluation transform that a recipe chooses.

    Raises:
        UserError: for a value out of range, named as ``preprocess.<field>``.
    """

    crop_pct: float = 0.875
    """Share of the resized image's shorter side that the central crop keeps, above 0 to 1. 0.875 is
    256 to 224 pixels, the reference's; timm evaluates its DeiT weights at 0.9."""

    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """How pixels are resampled when resizing. Bicubic is the reference's."""

    mean: tuple[float, ...] = IMAGENET_MEAN
    """Subtracted from each channel, on a scale of 0 to 1."""

    std: tuple[float, ...] = IMAGENET_STD
    """Each channel is divided by this after the mean is subtracted."""

    def __post_init__(self) -> None:
        _check_common(self.crop_pct, self.mean, self.std)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocess:
    """The whole evaluation transform of one model.

    >>> preprocess = Preprocess(image_size=224)
    >>> preprocess.resized_size
    256
    >>> preprocess.apply(np.zeros((300, 500, 3), np.uint8)).shape
    (3, 224, 224)

    Raises:
        UserError: for a value out of range, named as ``preprocess.<field>``.
    """

    image_size: int
    """Height and width that the model takes, in pixels."""

    channels: int = 3
    """3 for colour; 1 for luma, which is computed on the device when normalising."""

    crop_pct: float = 0.875
    """As in `PreprocessConfig`."""

    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """As in `PreprocessConfig`."""

    mean: tuple[float, ...] = IMAGENET_MEAN
    """As in `PreprocessConfig`; one value per channel."""

    std: tuple[float, ...] = IMAGENET_STD
    """As in `PreprocessConfig`; one value per channel."""

    def __post_init__(self) -> None:
        _check_common(self.crop_pct, self.mean, self.std)
        if self.image_size < 1:
            raise UserError(
                f"preprocess.image_size = {self.image_size}", "1 pixel or more", "correct the size"
            )
        if self.channels not in (1, 3):
            raise UserError(f"preprocess.channels = {self.channels}", "1 or 3", "use one of these")
        if len(self.mean) != self.channels:
            raise UserError(
                f"preprocess.mean and preprocess.std have {len(self.mean)} values",
                f"{self.channels}, one for each channel",
                "give a mean and a standard deviation for each channel of the model",
            )

    @classmethod
    def build(cls, config: PreprocessConfig, image_size: int, channels: int = 3) -> "Preprocess":
        """A recipe's choice, completed by what the model takes."""
        choice = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        return cls(image_size=image_size, channels=channels, **choice)

    @property
    def resized_size(self) -> int:
        """The shorter side before cropping: image_size / crop_pct, rounded down (384 gives 438)."""
        return math.floor(self.image_size / self.crop_pct)

    def apply(self, image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "3 size size"]:
        """Resize the shorter side to `resized_size` and cut out the centre.

        Equal, byte for byte, to timm's and torchvision's transform for PIL images, which is the
        reference's. Images so elongated that they would be resized to more than 2**24 pixels (at
        256 pixels, beyond 256:1) may differ by some grey levels: only what the crop shows is
        computed, and Pillow may then resize rows and columns in the other order.
        """
        height, width, _ = image.shape
        resized = _resized(height, width, self.resized_size)
        top, left = (round((length - self.image_size) / 2.0) for length in resized)
        crop = (left, top, left + self.image_size, top + self.image_size)
        method = _RESAMPLING[self.interpolation]
        picture = Image.fromarray(image)
        if math.prod(resized) > _MOST_RESIZED:
            across, down = width / resized[1], height / resized[0]
            box = (crop[0] * across, crop[1] * down, crop[2] * across, crop[3] * down)
            picture = picture.resize((self.image_size, self.image_size), method, box=box)
        elif resized != (height, width):
            picture = picture.resize(resized[::-1], method).crop(crop)
        elif resized != (self.image_size, self.image_size):
            picture = picture.crop(crop)
        return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))

    def to_json(self) -> dict[str, Any]:
        """As a dictionary that `json` can write; `from_json` reads it back."""
        return configuration.to_plain(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Preprocess":
        """What `to_json` gave.

        Raises:
            UserError: for an unknown or missing key, or a value that does not fit.
        """
        return configuration.from_plain(cls, plain, where="preprocess")


def _resized(height: int, width: int, shorter: int) -> tuple[int, int]:
    """Height and width once the shorter side has the given length; the longer is rounded down."""
    if width <= height:
        return int(shorter * height / width), shorter
    return shorter, int(shorter * width / height)


def _check_common(crop_pct: float, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    if not 0 < crop_pct <= 1:
        raise UserError(
            f"preprocess.crop_pct = {crop_pct}", "above 0 to 1", "1 keeps the whole shorter side"
        )
    if not all(math.isfinite(value) for value in mean):
        raise UserError(f"preprocess.mean = {mean}", "finite numbers", "correct the mean")
    if not all(math.isfinite(value) and value > 0 for value in std):
        raise UserError(
            f"preprocess.std = {std}", "finite numbers above 0", "correct the standard deviation"
        )
    if len(mean) != len(std) or len(mean) not in (1, 3):
        raise UserError(
            f"preprocess.mean has {len(mean)} values, preprocess.std {len(std)}",
            "3 values each, or 1 each for a model of one channel",
            "give as many of one as of the other",
        )
