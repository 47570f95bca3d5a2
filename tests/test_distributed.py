"""Sums over processes, with one and with two."""

import multiprocessing
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from deit.distributed import is_main, rank, sum_integers, world_size

LARGE = 2**62 + 1
"""Not a float64: sums by way of floating point lose the one."""


def test_a_single_process_is_all_there_is() -> None:
    """Nothing has to be started, and sums are what went in."""
    assert (rank(), world_size(), is_main()) == (0, 1, True)
    assert sum_integers({"correct": LARGE, "count": 2}) == {"correct": LARGE, "count": 2}
    counts = torch.tensor([[1, LARGE]])
    assert torch.equal(sum_integers(counts), counts)


@pytest.mark.skipif(sys.platform != "linux", reason="starts its processes by fork")
def test_two_processes_sum_exactly(tmp_path: Path) -> None:
    """By gloo: counts by name in whatever order, and tensors, which stay as they were."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [
        context.Process(target=take_part, args=(number, tmp_path / "meeting", answers))
        for number in range(2)
    ]
    for process in processes:
        process.start()
    received = sorted((answers.get(timeout=60) for _ in processes), key=lambda one: one["rank"])
    for process in processes:
        process.join()
    assert [one["rank"] for one in received] == [0, 1]
    assert [one["main"] for one in received] == [True, False]
    for one in received:
        assert one["world_size"] == 2
        assert one["named"] == {"correct": LARGE + 1, "count": 30}
        assert one["summed"] == [[5, LARGE]]
        assert one["own"] == ([[4, LARGE]] if one["main"] else [[1, 0]])


def take_part(number: int, meeting: Path, answers: Any) -> None:
    """One of the two processes."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=number, world_size=2
    )
    named = {"correct": LARGE, "count": 10} if number == 0 else {"count": 20, "correct": 1}
    counts = torch.tensor([[4, LARGE]]) if number == 0 else torch.tensor([[1, 0]])
    answers.put(
        {
            "rank": rank(),
            "world_size": world_size(),
            "main": is_main(),
            "named": sum_integers(named),
            "summed": sum_integers(counts).tolist(),
            "own": counts.tolist(),
        }
    )
    torch.distributed.destroy_process_group()
