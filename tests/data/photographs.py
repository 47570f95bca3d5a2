"""Real photographs to render: scikit-learn's two sample images, cut into squares."""

import functools

import numpy as np
from sklearn.datasets import load_sample_images


@functools.cache
def photographs() -> tuple[np.ndarray, ...]:
    """A Chinese temple and a flower, each uint8 ``[427, 640, 3]``."""
    return tuple(np.ascontiguousarray(image) for image in load_sample_images().images)


@functools.cache
def photograph_crops(size: int, count: int) -> np.ndarray:
    """Squares of both photographs in turn, from anywhere in them: ``[count, size, size, 3]``."""
    generator = np.random.default_rng(size)
    crops = []
    for number in range(count):
        picture = photographs()[number % 2]
        top, left = (generator.integers(0, length - size + 1) for length in picture.shape[:2])
        crops.append(picture[top : top + size, left : left + size])
    return np.stack(crops)
