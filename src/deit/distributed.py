"""Which process this is among how many, and exact sums over all of them.

Everything here is trivial in a single process: nothing has to be started first. Under torchrun the
program that calls ``torch.distributed.init_process_group`` makes it real.
"""

import os
from collections.abc import Mapping
from typing import overload

import torch
from jaxtyping import Int64
from torch import Tensor
from torch import distributed as dist


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if _is_distributed() else 0


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if _is_distributed() else 1


def is_main() -> bool:
    """Whether this is the one process that writes files and speaks to the user."""
    return rank() == 0


@overload
def sum_integers(counts: Mapping[str, int]) -> dict[str, int]: ...


@overload
def sum_integers(counts: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]: ...


def sum_integers(
    counts: Mapping[str, int] | Int64[Tensor, "*shape"],
) -> dict[str, int] | Int64[Tensor, "*shape"]:
    """The sum over all processes, element by element, or name by name.

    Integers below 2**63 are summed exactly, whatever the order, which floating point would not do.
    Every process calls it, with a tensor of the same shape or with the same names; the result is
    on the device that the tensor is on.

    >>> sum_integers({"correct": 7, "count": 10})
    {'correct': 7, 'count': 10}
    """
    if not isinstance(counts, Tensor):
        names = sorted(counts)
        sums = sum_integers(torch.tensor([counts[name] for name in names], dtype=torch.int64))
        by_name = dict(zip(names, sums.tolist(), strict=True))
        return {name: by_name[name] for name in counts}
    if not _is_distributed():
        return counts
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    summed = counts.to(device, copy=True)
    dist.all_reduce(summed)
    return summed.to(counts.device)


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def available_cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
