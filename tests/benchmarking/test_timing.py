"""Sides are timed in turns, and their medians are compared."""

import contextlib
import time

import torch

from deit.benchmarking.timing import Timing, speed_ratio, time_interleaved, use_threads

CPU = torch.device("cpu")


def test_sides_take_turns_and_the_warm_up_is_not_counted():
    """One step of each, then the next of each; the first slow round leaves no trace."""
    order, told = [], []

    def step(name):
        order.append(name)
        time.sleep(0.05 if len(order) <= 2 else 0)

    timings = time_interleaved(
        {"a": lambda: step("a"), "b": lambda: step("b")},
        rounds=3,
        device=CPU,
        progress=lambda done, total: told.append((done, total)),
    )
    assert order == ["a", "b"] * 4
    assert told == [(number, 8) for number in range(1, 9)]
    assert [len(timings[name].seconds) for name in "ab"] == [3, 3]
    assert max(timings["a"].seconds + timings["b"].seconds) < 0.05


def test_a_ratio_is_one_of_medians_and_above_1_where_ours_is_faster():
    """One slow round changes nothing."""
    ours, peer = Timing((1.0, 1.0, 99.0)), Timing((3.0, 2.0, 2.5))
    assert speed_ratio(ours, peer) == 2.5


def test_a_step_takes_what_it_takes():
    """A sleeping step against a clock of its own."""
    timings = time_interleaved({"sleep": lambda: time.sleep(0.02)}, rounds=2, device=CPU)
    assert 0.02 <= timings["sleep"].median < 0.2


def test_threads_are_put_back():
    """Also when something fails between."""
    before = torch.get_num_threads()
    inside = []
    with contextlib.suppress(KeyError), use_threads(before + 1):
        inside.append(torch.get_num_threads())
        raise KeyError
    assert (inside, torch.get_num_threads()) == ([before + 1], before)
