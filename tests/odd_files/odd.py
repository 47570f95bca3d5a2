"""What an odd file is, and the pictures that odd files show."""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image

RNG = np.random.default_rng(23)
HEIGHT, WIDTH = 21, 30
COLOUR = (
    np.linspace(0, 200, HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3)
    + RNG.integers(0, 56, (HEIGHT, WIDTH, 3))
).astype(np.uint8)
GREY = COLOUR[:, :, 1]
ALPHA = RNG.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
WIDE = RNG.integers(0, 2**16, (HEIGHT, WIDTH, 3), dtype=np.uint16)
PICTURE = Image.fromarray(COLOUR)


@dataclass(frozen=True, slots=True)
class OddFile:
    """A file, and what has to become of it.

    Attributes:
        kind: which of the kinds it is.
        detail: which one of its kind.
        data: its bytes.
        pixels: what it shows; None where it must be refused.
        reason: where it is refused, what the reason must contain, as a regular expression.
        off_by: how many levels the pixels may be off.
        ending: what its name ends with.
        or_refused: whether it may be refused instead: it is damaged where nothing has to notice.
    """

    kind: str
    detail: str
    data: bytes
    pixels: np.ndarray | None = None
    reason: str = "."
    off_by: int = 0
    ending: str = ".jpg"
    or_refused: bool = False


def rgb(grey: np.ndarray) -> np.ndarray:
    """Grey in three equal channels."""
    return np.repeat(grey[:, :, None], 3, axis=2).astype(np.uint8)


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composited in floating point."""
    share = alpha[:, :, None] / 255
    return np.rint(share * colour + (1 - share) * 255).astype(np.uint8)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The turned picture, by NumPy's rotations (EXIF 2.32, tag 274)."""
    flipped = pixels[:, ::-1]
    return {
        1: pixels,
        2: flipped,
        3: np.rot90(pixels, 2),
        4: np.rot90(flipped, 2),
        5: np.rot90(flipped, 1),
        6: np.rot90(pixels, -1),
        7: np.rot90(flipped, -1),
        8: np.rot90(pixels, 1),
    }[orientation]


def pillows(data: bytes) -> np.ndarray:
    """What Pillow shows of a file."""
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def as_pillow(kind: str, detail: str, data: bytes) -> OddFile:
    """A file that must look as Pillow shows it."""
    return OddFile(kind, detail, data, pillows(data))
