"""Making an image smaller, once and for all: the pixels and bytes of a prepared store."""

import io
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from deit.data.dataset import Source, read_bytes
from deit.errors import UserError

Encoding = Literal["jpeg", "png", "webp"]

SUFFIXES: dict[str, str] = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}

_LONGEST_SIDE = {"jpeg": 65_500, "png": 2**31 - 1, "webp": 16_383}

_QUALITY = 95


@dataclass(frozen=True, kw_only=True, slots=True)
class ShrinkConfig:
    """How images are made smaller.

    Raises:
        UserError: for a value out of range, or one that could not act.
    """

    size: int = 256
    """Length of the shorter side in pixels. Images whose shorter side is no longer stay as they
    are."""
    encoding: Encoding = "jpeg"
    """What resized images are stored as. PNG keeps every pixel, at about three times the bytes."""
    quality: int | None = None
    """Of JPEG and WebP, 1 to 100; 95 for None. JPEG keeps colours at full resolution."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"--size {self.size}", "1 pixel or more", "256 suits 224-pixel models")
        if self.quality is not None and self.encoding == "png":
            raise UserError(
                f"--quality {self.quality} with --format png",
                "a quality for jpeg and webp only: PNG keeps every pixel",
                "leave one of the two out",
            )
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UserError(f"--quality {self.quality}", "1 to 100", "95 is the default")
        if self.quality is None and self.encoding != "png":
            object.__setattr__(self, "quality", _QUALITY)


class Shrunk(NamedTuple):
    """What a prepared store keeps of an image.

    Attributes:
        data: a file.
        ending: of a file of that kind.
        num_bytes: of the original's file; None where it has none.
        smaller: whether the image has fewer pixels than the original.
    """

    data: bytes
    ending: str
    num_bytes: int | None
    smaller: bool


def shrink_image(source: Source, index: int, config: ShrinkConfig) -> Shrunk:
    """The bytes that a prepared store keeps of an image.

    What needs no resizing is kept exactly: its file byte for byte, or, where the source has no
    files, as PNG. Every image is decoded, so that a bad one is found.

    Raises:
        BadImage: when the image cannot be decoded.
    """
    data = read_bytes(source, index)
    pixels = source.read(index)
    num_bytes = None if data is None else len(data)
    resized = resize_shorter(pixels, config.size)
    if resized is not None:
        return Shrunk(*encode_pixels(resized, config), num_bytes, smaller=True)
    if data is not None:
        return Shrunk(data, _ending(source.names[index]), num_bytes, smaller=False)
    png = ShrinkConfig(size=config.size, encoding="png")
    return Shrunk(*encode_pixels(pixels, png), num_bytes, smaller=False)


def resize_shorter(
    pixels: UInt8[np.ndarray, "height width 3"], size: int
) -> UInt8[np.ndarray, "rows columns 3"] | None:
    """An image with a shorter side of `size`, antialiased bicubic; None for one that is as small.

    The longer side is rounded down, as the evaluation transform does: for a model of 224 pixels
    with a crop of 0.875, evaluation then finds images of 256 pixels at the very size it wants.
    """
    height, width, _ = pixels.shape
    shorter = min(height, width)
    if shorter <= size:
        return None
    sides = (width * size // shorter, height * size // shorter)
    return np.asarray(Image.fromarray(pixels).resize(sides, Image.Resampling.BICUBIC))


def encode_pixels(
    pixels: UInt8[np.ndarray, "height width 3"], config: ShrinkConfig
) -> tuple[bytes, str]:
    """The file of an image, and its ending: PNG where the format takes no image of its length."""
    too_long = max(pixels.shape[:2]) > _LONGEST_SIDE[config.encoding]
    encoding = "png" if too_long else config.encoding
    file = io.BytesIO()
    picture = Image.fromarray(pixels)
    if encoding == "png":
        picture.save(file, "PNG")
    elif encoding == "webp":
        picture.save(file, "WEBP", quality=config.quality)
    else:
        picture.save(file, "JPEG", quality=config.quality, subsampling=0)
    return file.getvalue(), SUFFIXES[encoding]


def _ending(name: str) -> str:
    """That of a file's name, where it has a usual one."""
    ending = name.rpartition(".")[2].lower()
    return f".{ending}" if ending.isalnum() and len(ending) <= 4 else ".img"
