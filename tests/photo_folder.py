"""A folder of small smooth pictures as JPEG files, for tests of what reads folders."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_photos(
    root: Path, counts: dict[str, int], size: tuple[int, int] = (60, 40), seed: int = 0
) -> Path:
    """``{"train/cat": 3}`` are three files in that folder; width and height vary a little."""
    generator = np.random.default_rng(seed)
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            sides = (size[0] + number % 3, size[1] + number % 5)
            picture = Image.fromarray(coarse).resize(sides, Image.Resampling.BICUBIC)
            picture.save(root / folder / f"{number}.jpg", quality=92)
    return root
