"""How the arrays of a source travel to a worker that is started afresh: labels as runs, a choice of
images as bits.

The labels of a million images in a thousand folders are a thousand runs, and a choice of them in
their own order is a bit for each: 16 KB and 160 KB instead of 8 MB.
"""

import numpy as np
from jaxtyping import Int64

Packed = tuple[str, int, np.ndarray, np.ndarray]
"""How it is packed, and what is needed to unpack it."""


def pack_labels(labels: Int64[np.ndarray, "images"]) -> Packed:
    """Labels as runs of equal ones, where these are fewer; `unpack` gives them back."""
    edges = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    if 4 * len(edges) > len(labels) or not len(labels):
        return "as they are", len(labels), labels, labels[:0]
    firsts = np.append(0, edges)
    return "runs", len(labels), labels[firsts], np.diff(np.append(firsts, len(labels)))


def pack_choice(indices: Int64[np.ndarray, "picked"]) -> Packed:
    """Indices as bits, where they ascend and are many; `unpack` gives them back."""
    size = int(indices[-1]) + 1 if len(indices) else 0
    if size > 64 * len(indices) or not len(indices) or indices[0] < 0:
        return "as they are", len(indices), indices, indices[:0]
    if (indices[1:] <= indices[:-1]).any():
        return "as they are", len(indices), indices, indices[:0]
    is_chosen = np.zeros(size, dtype=bool)
    is_chosen[indices] = True
    return "bits", size, np.packbits(is_chosen), indices[:0]


def unpack(packed: Packed) -> Int64[np.ndarray, "items"]:
    """What was packed.

    >>> unpack(pack_labels(np.array([3, 3, 3, 3, 3, 3, 1, 1, 1]))).tolist()
    [3, 3, 3, 3, 3, 3, 1, 1, 1]
    >>> unpack(pack_choice(np.array([0, 2, 3]))).tolist()
    [0, 2, 3]
    """
    way, size, first, second = packed
    if way == "runs":
        return np.repeat(first, second)
    if way == "bits":
        return np.flatnonzero(np.unpackbits(first, count=size)).astype(np.int64)
    return first
