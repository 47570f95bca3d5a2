"""JPEG files to measure with: made here, of the size that ImageNet's have on average, or found."""

import os
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from deit.data.huggingface_sets import is_saved_set
from deit.data.names import printable, stable_hash
from deit.data.prepared import is_prepared
from deit.errors import UserError
from deit.randomness import Stream, uniform

WIDTH, HEIGHT = 500, 375
QUALITY = 95
"""Of the JPEGs: gives 0.4 bytes a pixel, where ImageNet's have 0.6."""

CLASSES = ("china", "flower")

_NAMED = ("torchvision:", "hf:")
_PLAIN = "a folder with JPEG files in it or below it"


def write_photographs(folder: Path, count: int) -> None:
    """A folder of class folders with photographs of 500 x 375 pixels.

    They are cuts, at many places and sizes, from the two photographs that come with scikit-learn.

    Args:
        folder: where to; it gets ``train/`` and ``val/``, the same images in both.
        count: how many images.
    """
    places = uniform(0, 0, np.arange(count, dtype=np.int64), Stream.CROP, 3)
    for index, (size, x, y) in enumerate(places.tolist()):
        name = CLASSES[index % 2]
        photograph = Image.fromarray(load_sample_image(f"{name}.jpg"))
        width = round(350 + size * (photograph.height * 4 / 3 - 350))
        height = width * HEIGHT // WIDTH
        left, top = int(x * (photograph.width - width)), int(y * (photograph.height - height))
        cut = photograph.resize(
            (WIDTH, HEIGHT),
            Image.Resampling.BICUBIC,
            box=(left, top, left + width, top + height),
        )
        for split in ("train", "val"):
            path = folder / split / name / f"{index:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cut.save(path, quality=QUALITY)


def _check_plain(data: str) -> None:
    """Raise for what is no folder, or one whose images lie in other files."""
    folder = Path(data).expanduser()
    if not folder.exists() and data != "digits" and not data.startswith(_NAMED):
        raise UserError(f"no folder {printable(data)}", _PLAIN, "correct the name, or leave it out")
    if not folder.is_dir() or is_prepared(data) or is_saved_set(data):
        raise UserError(
            f"{printable(data)} is no plain folder of JPEG files: files are what is timed",
            _PLAIN,
            "name the folder that the JPEG files lie in, or leave it out",
        )


def link_images(data: str, folder: Path, count: int) -> None:
    """A folder of class folders with links to some of the JPEGs in another one.

    They are chosen by a stable hash of their names, and dealt into two classes.

    Args:
        data: the folder that they are searched in, at any depth.
        folder: where to; it gets ``train/`` and ``val/``, the same images in both.
        count: how many images.

    Raises:
        UserError: where there are fewer, or no such folder.
    """
    _check_plain(data)
    top = Path(data).expanduser().resolve()
    found = sorted(path for path in top.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if len(found) < count:
        raise UserError(
            f"{data}: {len(found)} JPEG files",
            f"{count} or more, in a folder and those below it",
            "give another folder, or fewer --images" if found else "give another folder",
        )
    order = np.argsort(stable_hash((str(path.relative_to(top)) for path in found), "benchmark"))
    for index, place in enumerate(order[:count].tolist()):
        for split in ("train", "val"):
            link = folder / split / f"half-{index % 2}" / f"{index:05d}.jpg"
            link.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(found[place], link)
