"""How fast training views are made: ours against timm and torchvision, on the same JPEG files.

Every side reads the files, decodes them, and makes batches of DeiT's views of 224 pixels: once one
view of each image, once three (repeated augmentation). All take an epoch in turn, on one core and
then on all. What is on the machine's disk is read once before, so that reading is from its memory.
"""

import contextlib
import itertools
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from deit.benchmarking.data_peers import MEAN, PEERS, SIZE, STD, Batches
from deit.benchmarking.data_stages import time_stages
from deit.benchmarking.photographs import link_images, write_photographs
from deit.benchmarking.timing import Timing, speed_ratio, time_interleaved, use_threads
from deit.data.loader import TrainLoader
from deit.data.order import OrderConfig
from deit.data.plan import ViewConfig
from deit.data.sources import open_data
from deit.distributed import available_cores
from deit.errors import RunError, UserError
from deit.run import machine
from deit.run.progress import Monitor

CASES = {"single": 1, "repeat3": 3}
"""Views of each image in a batch, by case."""

Cores = Literal["one", "all", "both"]

COMPARED = 384
"""Views of each side that are compared before anything is timed."""

EPOCHS = 4
"""Epochs of a round on all cores, so that starting the workers weighs little."""

OURS = "deit"
HOST_PART = "deit, host part"
"""Ours where a device does the flips and operations: what is left to the host."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataTimes:
    """What was measured.

    Attributes:
        timings: of a round, by case and side; a case is ``single`` or ``repeat3``, or one of them
            with ``_all_cores``. A round is an epoch, on all cores `EPOCHS`.
        stages: microseconds per image or view of each stage of ours, on one core.
        views: in an epoch.
        cores: how many "all" are.
        file_bytes: of an image, on average.
        outputs: mean and standard deviation of each side's pixels, 0 to 255, before erasing.
        environment: versions, machine, command.
    """

    timings: dict[str, dict[str, Timing]]
    stages: dict[str, float]
    views: int
    cores: int
    file_bytes: float
    outputs: dict[str, tuple[float, float]]
    environment: dict[str, Any]

    def views_of(self, case: str) -> int:
        """How many views a round of a case has."""
        return self.views * epochs_of(case)

    @property
    def ratios(self) -> dict[str, dict[str, float]]:
        """How many times as fast ours is, by peer and case."""
        peers = [side for side in next(iter(self.timings.values())) if side in PEERS]
        return {
            peer: {
                case: speed_ratio(sides[OURS], sides[peer]) for case, sides in self.timings.items()
            }
            for peer in peers
        }

    def to_json(self) -> dict[str, Any]:
        """The figures."""
        return {
            "ratios": self.ratios,
            "images_per_second": {
                case: {side: self.views_of(case) / timing.median for side, timing in sides.items()}
                for case, sides in self.timings.items()
            },
            "sides": {
                case: {side: timing.to_json() for side, timing in sides.items()}
                for case, sides in self.timings.items()
            },
            "stage_microseconds": self.stages,
            "views": self.views,
            "cores": self.cores,
            "file_bytes": self.file_bytes,
            "outputs": {side: list(figures) for side, figures in self.outputs.items()},
            "environment": self.environment,
        }


def time_data(
    peers: Sequence[str],
    *,
    data: str | None = None,
    images: int = 192,
    batch_size: int = 64,
    rounds: int = 7,
    cores: Cores = "both",
    monitor: Monitor | None = None,
) -> DataTimes:
    """Compare the sides' views, and time them.

    Args:
        peers: names in `PEERS`, each once.
        data: a folder to take JPEGs from; photographs of 500 x 375 are made when left out.
        images: how many, which is also the number of views in an epoch; a multiple of a batch.
        batch_size: views in a batch.
        rounds: timed epochs of each side and case, after one that is not timed.
        cores: one, all, or both.
        monitor: where progress is shown.

    Raises:
        UserError: for a number of images that is no multiple of the batch, and for unusable data.
        RunError: when timm's views and ours do not look alike.
    """
    monitor = monitor or Monitor(None)
    if images % batch_size:
        raise UserError(
            f"--images {images} with --batch-size {batch_size}",
            "a multiple of the batch size",
            f"set --images {max(1, images // batch_size) * batch_size}",
        )
    with tempfile.TemporaryDirectory() as name, use_threads(1):
        folder = Path(name)
        monitor.say(f"preparing {images} JPEG files")
        write_photographs(folder, images) if data is None else link_images(data, folder, images)
        sides = {OURS: our_batches(folder, batch_size, "host")}
        sides[HOST_PART] = our_batches(folder, batch_size, "device")
        sides |= {peer: PEERS[peer](folder, batch_size) for peer in peers}
        environment = _describe(peers, data, images, batch_size, rounds, cores)
        monitor.say("comparing the sides' views")
        outputs = compare_views(sides, COMPARED)
        timings: dict[str, dict[str, Timing]] = {}
        everything = available_cores()
        for case, workers in _settings(cores, everything):
            with _on_one_core() if workers == 0 else contextlib.nullcontext():
                timings[case] = _time_case(sides, case, workers, rounds, monitor)
        with _on_one_core():
            stages = time_stages(folder, rounds)
        sizes = [path.stat().st_size for path in (folder / "train").rglob("*.*") if path.is_file()]
    return DataTimes(
        timings=timings,
        stages=stages,
        views=images,
        cores=everything,
        file_bytes=float(np.mean(sizes)),
        outputs=outputs,
        environment=environment | {"load_after": machine.load_average()},
    )


def our_batches(folder: Path, batch_size: int, render: Literal["host", "device"]) -> Batches:
    """Our side: every epoch that is asked for shows other views."""
    source = open_data(str(folder)).train
    done = itertools.count()

    def batches(repeats: int, workers: int, epochs: int) -> Iterator[torch.Tensor]:
        loader = TrainLoader(
            source,
            ViewConfig(),
            OrderConfig(repeats=repeats),
            SIZE,
            seed=0,
            batch_size=batch_size,
            workers=workers,
            render=render,
        )
        first = EPOCHS * next(done) * loader.steps_per_epoch
        return (
            host.images for host in loader.batches(first, first + epochs * loader.steps_per_epoch)
        )

    return batches


def compare_views(sides: Mapping[str, Batches], views: int) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the pixels of some views of each side, 0 to 255.

    Raises:
        RunError: when a side's views are not `SIZE` pixels in three colours; or when the average
            view of timm is brighter or darker than ours by more than five standard errors.
    """
    figures, brightness = {}, {}
    for side, batches in sides.items():
        epochs = itertools.chain.from_iterable(batches(1, 0, 1) for _ in itertools.count())
        parts: list[torch.Tensor] = []
        while sum(map(len, parts)) < views:
            parts.append(_to_pixels(next(epochs)))
        pixels = torch.cat(parts)
        if pixels.shape[1:] != (3, SIZE, SIZE):
            raise RunError(f"{side} makes views of shape {tuple(pixels.shape[1:])}")
        figures[side] = (float(pixels.mean()), float(pixels.std()))
        brightness[side] = pixels.mean(dim=(1, 2, 3))
    if "timm" in sides:
        ours, theirs = brightness[OURS], brightness["timm"]
        error = (ours.var() / len(ours) + theirs.var() / len(theirs)).sqrt()
        if abs(ours.mean() - theirs.mean()) > 5 * error:
            raise RunError(
                f"timm's views have a mean of {theirs.mean():.1f}, ours {ours.mean():.1f}"
            )
    return figures


def _to_pixels(images: torch.Tensor) -> torch.Tensor:
    """Bytes, or what torchvision has normalised, on the scale of 0 to 255."""
    if images.dtype == torch.uint8:
        return images.to(torch.float32)
    shift, scale = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN, STD))
    return (images * scale + shift) * 255


def epochs_of(case: str) -> int:
    """How many epochs a round of a case has."""
    return EPOCHS if case.endswith(_ALL_CORES) else 1


def views_of_an_image(case: str) -> int:
    """1 or 3.

    >>> views_of_an_image("repeat3_all_cores")
    3
    """
    return CASES[case.removesuffix(_ALL_CORES)]


_ALL_CORES = "_all_cores"


def _settings(cores: Cores, everything: int) -> Iterator[tuple[str, int]]:
    """Each case and its workers."""
    if cores in ("one", "both"):
        yield from ((case, 0) for case in CASES)
    if cores in ("all", "both"):
        yield from ((case + _ALL_CORES, everything) for case in CASES)


def _time_case(
    sides: Mapping[str, Batches], case: str, workers: int, rounds: int, monitor: Monitor
) -> dict[str, Timing]:
    """Some epochs of each side, by turns."""
    total = len(sides) * (rounds + 1)
    where = "one core" if workers == 0 else f"{workers} cores"
    epochs = epochs_of(case)

    def epochs_by(batches: Batches) -> Callable[[], object]:
        return lambda: sum(
            len(batch) for batch in batches(views_of_an_image(case), workers, epochs)
        )

    def show(done: int, total: int) -> None:
        monitor.step(done, f"{done // len(sides)} of {rounds + 1} rounds")

    with monitor.steps(0, total, f"{case}, {where}"):
        return time_interleaved(
            {side: epochs_by(batches) for side, batches in sides.items()},
            rounds=rounds,
            device=torch.device("cpu"),
            progress=show,
        )


@contextlib.contextmanager
def _on_one_core() -> Iterator[None]:
    """Let this process compute on one core only, where the system can be told so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _describe(
    peers: Sequence[str],
    data: str | None,
    images: int,
    batch_size: int,
    rounds: int,
    cores: str,
) -> dict[str, Any]:
    """The machine, and the command that repeats the measurement."""
    words = ["deit", "benchmark", "data", *([] if data is None else [data])]
    words += ["--peers", ",".join(peers), "--images", str(images), "--batch-size", str(batch_size)]
    words += ["--rounds", str(rounds), "--cores", cores]
    told = machine.describe_environment(torch.device("cpu"))
    return told | {"command": shlex.join(words), "load_before": machine.load_average()}
