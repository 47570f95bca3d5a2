"""A source of noise for tests of what reads images."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from deit.data.classes import ClassList


class Noise:
    """Images of many sizes, each a function of its index; `trouble` may strike on reading."""

    def __init__(self, size: int, trouble: Callable[[int], None] = lambda index: None) -> None:
        self.classes = ClassList(tuple("abcde"))
        self.labels = np.arange(size, dtype=np.int64) % 5
        self.names = [f"{index}.jpg" for index in range(size)]
        self.trouble = trouble

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        self.trouble(index)
        shape = (16 + index % 7, 16 + index % 5, 3)
        return np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)
