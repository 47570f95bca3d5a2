"""Random numbers as a function of their place: (seed, stream, epoch, position, draw).

Nothing in this library draws from a global generator. A number that is needed for a view, a mixing
weight or a dropped layer is computed from where it is needed, by the counter-based generator
Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), and its bits
are turned into uniforms by exact arithmetic. So step k of a run is the same whether or not the run
stopped at step k-1, however many processes and workers share the work, and whichever release of
NumPy or torch is installed.
"""

import enum
import functools
import statistics
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt, UInt32

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF
_CACHED = 2**15
"""Numbers at a time that a core's cache holds with all that is computed on the way: twice as fast
as a million at once."""

Words = TypeVar("Words", bound=Any)
"""An array of integers, of whatever library."""


class Stream(enum.IntEnum):
    """What a random number is for. The values are part of every run: never reuse or renumber."""

    ORDER = 1
    CROP = 2
    FLIP = 3
    OPERATIONS = 4
    ERASE = 5
    ERASE_NOISE = 6
    MIX = 7
    STOCHASTIC_DEPTH = 8
    COLOR_JITTER = 9
    INITIAL_WEIGHTS = 10
    SPLIT = 11
    DROPOUT = 12
    MAGNITUDE = 13


def philox(
    counter: tuple[UInt[np.ndarray, "..."], ...], key: tuple[int, int]
) -> UInt32[np.ndarray, "*shape 4"]:
    """Philox4x32-10: 128 random bits for every 128-bit counter under a 64-bit key.

    Args:
        counter: four arrays of 32-bit words that broadcast together to ``shape``.
        key: two 32-bit words.
    """
    words = [np.asarray(word, dtype=np.uint64) for word in np.broadcast_arrays(*counter)]
    return np.stack(philox_rounds(words, key), axis=-1).astype(np.uint32)


def philox_rounds(words: Sequence[Words], key: tuple[int, int]) -> list[Words]:
    """The ten rounds of Philox4x32 on four arrays that each hold 32-bit words in 64-bit integers.

    Written for whatever multiplies modulo 2**64: NumPy's uint64 and, so that a device makes the
    same bits as the host, torch's int64, whose right shift drags the sign along until it is masked.
    """
    first, second, third, fourth = words
    key_0, key_1 = key
    for _ in range(10):
        product_0 = first * _MULTIPLIERS[0]
        product_1 = third * _MULTIPLIERS[1]
        first, second, third, fourth = (
            ((product_1 >> 32) & _LOW) ^ second ^ key_0,
            product_1 & _LOW,
            ((product_0 >> 32) & _LOW) ^ fourth ^ key_1,
            product_0 & _LOW,
        )
        key_0 = (key_0 + _WEYL[0]) & _LOW
        key_1 = (key_1 + _WEYL[1]) & _LOW
    return [first, second, third, fourth]


def random_bits(
    seed: int, epoch: int, positions: Int64[np.ndarray, "positions"], stream: Stream, count: int
) -> UInt32[np.ndarray, "positions count"]:
    """``count`` independent 32-bit words for each position.

    Args:
        seed: the run's seed, 0 to 2**32 - 1.
        epoch: 0 to 2**32 - 1.
        positions: places in the epoch's global order, 0 to 2**63 - 1.
        stream: what the numbers are for.
        count: how many words per position.
    """
    blocks = -(-count // 4)
    places = np.asarray(positions, dtype=np.uint64)[:, None]
    bits = philox(
        (
            np.arange(blocks, dtype=np.uint64)[None, :],
            places & _LOW,
            places >> 32,
            np.full((1, 1), epoch, dtype=np.uint64),
        ),
        (seed, int(stream)),
    )  # [positions, blocks, 4]
    return bits.reshape(len(places), 4 * blocks)[:, :count]


def uniform(
    seed: int, epoch: int, positions: Int64[np.ndarray, "positions"], stream: Stream, count: int
) -> Float64[np.ndarray, "positions count"]:
    """``count`` numbers for each position, uniform on the open interval (0, 1).

    A word b becomes (b + 1/2) / 2**32, which float64 holds exactly.

    >>> place = np.array([7])
    >>> first = uniform(0, 3, place, Stream.FLIP, 1)
    >>> bool((uniform(0, 3, np.arange(10), Stream.FLIP, 1)[7] == first[0]).all())
    True
    """
    return (random_bits(seed, epoch, positions, stream, count) + 0.5) * 2.0**-32


def permutation(seed: int, epoch: int, size: int, round: int = 0) -> Int64[np.ndarray, "size"]:
    """A random order of ``range(size)``, uniform over all of them up to ties of 64-bit keys.

    Args:
        seed, epoch: the place in the run.
        size: how many items.
        round: further orders of the same epoch, for epochs longer than the data set.
    """
    keys = np.empty(size, dtype=np.uint64)
    for start in range(0, size, _CACHED):
        places = np.arange(start, min(start + _CACHED, size), dtype=np.int64) + (round << 40)
        words = random_bits(seed, epoch, places, Stream.ORDER, 2).astype(np.uint64)
        keys[start : start + len(places)] = (words[:, 0] << 32) | words[:, 1]
    return np.argsort(keys, kind="stable").astype(np.int64)


@functools.cache
def normal_table() -> Float32[np.ndarray, "65536"]:
    """The standard normal's quantiles at (k + 1/2) / 65536: 16 random bits pick one.

    A table makes normal noise the same on every machine and device, where library functions
    differ in the last bit. It ends at +-4.33 standard deviations.
    """
    quantile = statistics.NormalDist().inv_cdf
    upper = np.array([quantile((k + 0.5) / 65536) for k in range(32768, 65536)], dtype=np.float32)
    return np.concatenate([-upper[::-1], upper])


def normal(
    seed: int, epoch: int, positions: Int64[np.ndarray, "positions"], stream: Stream, count: int
) -> Float32[np.ndarray, "positions count"]:
    """``count`` standard normal numbers for each position, from `normal_table`."""
    words = random_bits(seed, epoch, positions, stream, -(-count // 2))
    halves = np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=-1)
    return normal_table()[halves.reshape(len(words), 2 * words.shape[1])[:, :count]]
