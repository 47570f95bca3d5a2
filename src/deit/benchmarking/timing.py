"""Times of several programs that do the same work, taken in turns in one process.

What else the machine does, and how warm it is, changes over minutes. So all sides take one step,
then all take the next one, and what is compared is the median of each side.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the rounds of one side took.

    >>> timing = Timing((3.0, 1.0, 2.0, 10.0, 4.0))
    >>> timing.median, timing.quartiles
    (3.0, (2.0, 4.0))

    Attributes:
        seconds: of each round, in their order.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one, seconds."""
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """What a quarter and three quarters of the rounds stayed below, seconds."""
        low, high = np.percentile(self.seconds, (25, 75))
        return float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        """The figures."""
        return {
            "median_seconds": self.median,
            "quartile_seconds": list(self.quartiles),
            "seconds": list(self.seconds),
        }


def time_interleaved(
    sides: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Timing]:
    """Let every side take one step, then every side the next, and so on.

    Args:
        sides: what is timed, by name; each call is one step.
        rounds: timed steps of each side.
        warmup: steps of each side before these, which are not timed.
        device: where they compute; a step ends when the device has finished it.
        progress: is told after every step how many of how many were taken.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    total = len(sides) * (warmup + rounds)
    for number in range(warmup + rounds):
        for place, (name, step) in enumerate(sides.items(), number * len(sides) + 1):
            began = time.perf_counter()
            step()
            wait_for(device)
            if number >= warmup:
                taken[name].append(time.perf_counter() - began)
            if progress is not None:
                progress(place, total)
    return {name: Timing(tuple(seconds)) for name, seconds in taken.items()}


def speed_ratio(ours: Timing, peer: Timing) -> float:
    """How many times as fast ours is: above 1 where it takes less time.

    >>> speed_ratio(Timing((1.0,)), Timing((4.0,)))
    4.0
    """
    return peer.median / ours.median


def wait_for(device: torch.device) -> None:
    """Return when the device has computed everything that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Compute with so many threads of the CPU, and afterwards as before; None changes nothing."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
