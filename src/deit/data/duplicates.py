"""Images that are equal or look alike: hashes of their content, and an exact search among them.

Two hashes of 64 bits describe how a picture looks. They survive another size, another quality of
JPEG, and changes of brightness:

* the *layout* (pHash): which of the 64 lowest frequencies of the grey picture, reduced to 32 x 32
  and transformed by a cosine transform, are above their median;
* the *slopes* (dHash): which pixels of the grey picture, reduced to 9 x 8, are brighter than their
  left neighbours.

Two pictures are near duplicates when their layouts differ in up to `near` bits and their slopes in
up to twice as many. Either hash alone takes many unrelated pictures for alike, both together
seldom do: docs/checking_data.md has the figures.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, UInt8, UInt64

NEAR = 6
"""Bits in which the layouts of near duplicates may differ, unless the user says otherwise."""

MAX_NEAR = 16
"""From here on most pairs would be unrelated, and the search slow."""

_WORK = 2**21  # pairs looked at in one go: memory of some tens of MB
_WIDEST_BAND = 22  # bits: a table of 4 million starts
_COMPARISON = 4  # how much longer it takes than to look a key up


def content_hash(data: bytes | memoryview, also: str = "") -> int:
    """64 bits of BLAKE2b. Of a million different images two agree with a chance of 3 in 10^8."""
    digest = hashlib.blake2b(data, digest_size=8, key=also.encode("ascii")).digest()
    return int.from_bytes(digest, "big")


def layout_hash(grey: UInt8[np.ndarray, "32 32"]) -> int:
    """pHash of a picture reduced to 32 x 32."""
    frequencies = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
    return _packed(frequencies > _median(frequencies[1:]))


def slope_hash(grey: UInt8[np.ndarray, "8 9"]) -> int:
    """dHash of a picture reduced to 9 columns and 8 rows."""
    return _packed((grey[:, 1:] > grey[:, :-1]).ravel())


def near_groups(
    layouts: UInt64[np.ndarray, "images"], slopes: UInt64[np.ndarray, "images"], near: int
) -> list[Int64[np.ndarray, "_"]]:
    """Groups of images that look alike: ascending places, groups by their first place.

    Near duplicates are in one group, and so are the near duplicates of near duplicates: twenty
    pictures of a scene are one thing to look at, not 190.

    Args:
        layouts: the `layout_hash` of every image.
        slopes: the `slope_hash` of every image.
        near: bits in which layouts may differ; slopes may in twice as many.

    >>> hashes = np.array([0b0000, 0b1111, 0b0001], dtype=np.uint64)
    >>> near_groups(hashes, hashes, near=1)
    [array([0, 2])]
    """
    looks, look_of = np.unique(np.stack([layouts, slopes], 1), axis=0, return_inverse=True)
    links = np.empty((0, 2), dtype=np.int64)
    for pairs in close_hashes(looks[:, 0], near):
        differ = np.bitwise_count(looks[pairs[:, 0], 1] ^ looks[pairs[:, 1], 1])
        links = np.concatenate([links, pairs[differ <= 2 * near]])
        if len(links) > _WORK:  # as many links as images say the same
            groups = _connected(links, len(looks))
            links = np.stack([np.arange(len(looks)), groups], 1)[groups != np.arange(len(looks))]
    return equal_groups(_connected(links, len(looks))[look_of.ravel()].astype(np.uint64))


def close_hashes(
    hashes: UInt64[np.ndarray, "images"], distance: int
) -> Iterator[Int64[np.ndarray, "pairs 2"]]:
    """All pairs of hashes that differ in up to ``distance`` bits, in parts, each pair once.

    The search of Norouzi, Punjani and Fleet (Fast exact search in Hamming space with multi-index
    hashing, 2014): the 64 bits are cut into m bands. Hashes that differ in up to d bits have a band
    in which they differ in up to d // m bits, so only those that have such a band in common are
    compared. It is exact for all hashes; for a million that are spread evenly it takes seconds.

    Args:
        hashes: any, in any order.
        distance: 0 to 64.
    """
    bands = _choose_bands(len(hashes), distance)
    for band in range(len(bands)):
        for pairs in _share_band(hashes, bands[band], distance // len(bands)):
            differ = hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]
            found = np.bitwise_count(differ) <= distance
            for shift, width in bands[:band]:  # an earlier band has reported those it found
                inside = (differ >> np.uint64(shift)) & _ones(width)
                found &= np.bitwise_count(inside) > distance // len(bands)
            if found.any():
                yield np.sort(pairs[found], axis=1)


def equal_groups(hashes: UInt64[np.ndarray, "images"]) -> list[Int64[np.ndarray, "_"]]:
    """The places of equal hashes, for all that stand there twice or more, by their first place."""
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.diff(hashes[order], prepend=~hashes[order[:1]]))
    sizes = np.diff(starts, append=len(order))
    several = [
        order[start : start + size] for start, size in zip(starts, sizes, strict=True) if size > 1
    ]
    return sorted(several, key=lambda group: int(group[0]))


def _packed(bits: Bool[np.ndarray, "64"]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _median(values: Float32[np.ndarray, "values"]) -> float:
    """Of an odd number of values; NumPy's own takes as long as all else here."""
    return float(np.partition(values, len(values) // 2)[len(values) // 2])


def _connected(links: Int64[np.ndarray, "links 2"], count: int) -> Int64[np.ndarray, "{count}"]:
    """For each of ``count`` places the lowest one that links lead to."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(links), dtype=np.int8)
    graph = coo_array((ones, (links[:, 0], links[:, 1])), shape=(count, count))
    _, groups = connected_components(graph, directed=False)
    _, lowest = np.unique(groups, return_index=True)
    return np.asarray(lowest[groups], dtype=np.int64)


def _choose_bands(count: int, distance: int) -> list[tuple[int, int]]:
    """Shift and width of every band, for the number of bands that gives the least work."""

    def work(bands: int) -> float:
        width = 64 // bands
        keys = sum(math.comb(width, bits) for bits in range(distance // bands + 1))
        return bands * keys * count * (1 + _COMPARISON * count / float(2 ** (width + 1)))

    fewest = -(-64 // _WIDEST_BAND)
    bands = min(range(fewest, max(fewest, distance + 1) + 1), key=work)
    edges = [64 * band // bands for band in range(bands + 1)]
    return [(low, high - low) for low, high in pairwise(edges)]


def _share_band(
    hashes: UInt64[np.ndarray, "images"], band: tuple[int, int], radius: int
) -> Iterator[Int64[np.ndarray, "pairs 2"]]:
    """All pairs whose bits in one band differ in up to ``radius`` places, each once, in parts."""
    shift, width = band
    keys = ((hashes >> np.uint64(shift)) & _ones(width)).astype(np.int32)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.zeros(2**width + 1, dtype=np.int32)  # of each key's hashes in the order
    np.cumsum(np.bincount(keys, minlength=2**width), out=starts[1:])
    here = np.arange(len(keys), dtype=np.int32)
    yield from _expanded(order, here, here + 1, starts[keys + 1])
    for mask in _masks(width, radius):
        first = np.flatnonzero(keys < keys ^ mask)  # the other way round it is the same pair
        other = keys[first] ^ mask
        yield from _expanded(order, first, starts[other], starts[other + 1])


def _expanded(
    order: Int64[np.ndarray, "images"],
    first: Int[np.ndarray, "firsts"],
    begin: Int[np.ndarray, "firsts"],
    end: Int[np.ndarray, "firsts"],
) -> Iterator[Int64[np.ndarray, "pairs 2"]]:
    """Each of ``first`` beside all from ``begin`` up to ``end``, in parts of bounded size."""
    some = end > begin
    first, begin, lengths = first[some], begin[some], (end - begin)[some]
    if len(first) == 0:
        return
    total = np.cumsum(lengths)
    for low in range(0, int(total[-1]), _WORK):
        places = np.arange(low, min(low + _WORK, int(total[-1])))
        rows = np.searchsorted(total, places, side="right")
        partners = begin[rows] + places - (total[rows] - lengths[rows])
        yield np.stack([order[first[rows]], order[partners]], axis=1)


def _masks(width: int, radius: int) -> Sequence[int]:
    """All numbers of ``width`` bits with 1 to ``radius`` bits set.

    >>> _masks(3, 2)
    [1, 2, 4, 3, 5, 6]
    """
    masks, last = [], [0]
    for _ in range(radius):
        last = sorted({mask | 1 << bit for mask in last for bit in range(width)} - {*last})
        last = [mask for mask in last if mask not in masks]
        masks += last
    return masks


def _ones(width: int) -> np.uint64:
    return np.uint64(2**width - 1)
