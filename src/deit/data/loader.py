"""From a source to batches: iterators that can start at any step and use any number of workers.

The work is cut into pieces of up to `PIECE` images. Workers render pieces in whatever order they
get to them; the parent puts them together in the order of the plan. What a piece holds depends on
its positions alone, so a batch is the same bytes however many workers made it.
"""

import contextlib
import functools
import signal
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deit.data.images import BadImage
from deit.data.order import (
    OrderConfig,
    epoch_of_views,
    epoch_samples,
    share,
    steps_per_epoch,
)
from deit.data.plan import ViewConfig, plan_views
from deit.data.preprocess import Preprocess
from deit.data.render import crop_view, render_view
from deit.data.render_device import HostBatch, normalise
from deit.data.sources import Source
from deit.errors import UserError
from deit.tensors import EvalBatch

PIECE = 96
"""Images that one worker renders at a time. Small enough that the first batch of a run comes from
all workers and that shared memory holds little; a multiple of 2 and 3, so that the repeated views
of an image mostly fall into one piece and it is decoded once."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerDied(RuntimeError):  # noqa: N818  (says what happened)
    """A loader worker ended without an answer, most often for want of memory."""


class TrainLoader:
    """Batches of rendered training views, as a function of the step.

    Args:
        source: where the images are.
        views: how a view is made of an image.
        order: how an epoch goes through the images.
        image_size: height and width of the views in pixels.
        seed: decides order and views.
        batch_size: views in a batch, of all processes together.
        workers: processes that render; with 0 the caller's own does.
        rank, world_size: which process of how many this is; each gets its share of every batch.
        unit: places of a batch that stay in one process, `mix.group`.
        pin_memory: whether batches lie in memory that a GPU can fetch from while it computes.
        render: whether views are finished here, or cut and resized only.

    Attributes:
        steps_per_epoch: global step s belongs to epoch ``s // steps_per_epoch``.
        seconds_waiting: the time so far that callers of `batches` have waited for the next batch;
            with no workers that is the whole time of rendering.

    Raises:
        UserError: when the batch cannot be shared evenly among the processes.
    """

    def __init__(
        self,
        source: Source,
        views: ViewConfig,
        order: OrderConfig,
        image_size: int,
        seed: int,
        batch_size: int,
        workers: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        unit: int = 1,
        pin_memory: bool = False,
        render: Literal["host", "device"] = "host",
    ) -> None:
        if world_size > 1 and batch_size % (unit * world_size):
            raise UserError(
                f"batch_size = {batch_size} on {world_size} processes",
                f"a multiple of {unit * world_size} (processes x mix.group)",
                "change --batch-size or mix.group",
            )
        self.steps_per_epoch = steps_per_epoch(len(source), batch_size)
        self.seconds_waiting = 0.0
        self._labels = torch.from_numpy(np.asarray(source.labels, dtype=np.int64))
        self._render = _RenderViews(source, views, image_size, seed, render)
        self._batch_size = batch_size
        self._share = share(batch_size, rank, world_size, unit)
        self._workers = workers
        self._pin_memory = pin_memory
        self._order = order
        self._epoch_samples = functools.lru_cache(maxsize=2)(
            lambda epoch: epoch_samples(
                order, seed, epoch, len(source), self.steps_per_epoch * batch_size
            )
        )

    def batches(self, start_step: int, stop_step: int) -> Iterator[HostBatch]:
        """The batches of steps `start_step` to `stop_step - 1`, made ahead of their use.

        One call serves a whole run: workers live as long as the iterator and go on into the next
        epoch without a pause. At most two batches, or two pieces per worker, are ahead.

        Raises:
            BadImage: when an image of the batch cannot be decoded, with its name.
            WorkerDied: when a worker was killed.
        """
        ahead = 2 * len(_cut(self._share))
        pieces = (piece for step in range(start_step, stop_step) for piece in self._pieces(step))
        with contextlib.closing(_run_in_order(self._render, pieces, self._workers, ahead)) as parts:
            for step in range(start_step, stop_step):
                began = time.perf_counter()
                batch = self._collect(step, parts)
                self.seconds_waiting += time.perf_counter() - began
                yield batch

    def views_at(
        self, epoch: int, positions: Int64[np.ndarray, "views"]
    ) -> UInt8[Tensor, "views 3 size size"]:
        """Single views, or crops, made in this process: those at some positions of an epoch.

        Raises:
            BadImage: when an image cannot be decoded, with its name.
        """
        return self._render(_Piece(epoch, positions, self.samples_at(epoch, positions)))

    def samples_at(
        self, epoch: int, positions: Int64[np.ndarray, "views"]
    ) -> Int64[np.ndarray, "views"]:
        """The image that each position of an epoch shows, as its index in the source."""
        return np.asarray(self._epoch_samples(epoch)[positions])

    def _pieces(self, step: int) -> "list[_Piece]":
        """The work that makes this process's share of a batch."""
        whole_epochs, place = divmod(step, self.steps_per_epoch)
        epoch = epoch_of_views(self._order, whole_epochs)
        first = place * self._batch_size
        samples = self._epoch_samples(epoch)
        return [
            _Piece(epoch, np.arange(first + part.start, first + part.stop), samples[first:][part])
            for part in _cut(self._share)
        ]

    def _collect(self, step: int, parts: Iterator[UInt8[Tensor, "_ 3 _ _"]]) -> HostBatch:
        """Wait for the parts of a batch and lay them side by side."""
        pieces = self._pieces(step)
        samples = torch.from_numpy(np.concatenate([piece.samples for piece in pieces]))
        positions = torch.from_numpy(np.concatenate([piece.positions for piece in pieces]))
        size = self._render.image_size
        images = torch.empty(
            (len(samples), 3, size, size), dtype=torch.uint8, pin_memory=self._pin_memory
        )
        for room in torch.split(images, [len(piece.samples) for piece in pieces]):
            room.copy_(next(parts))
        return HostBatch(
            images=images,
            labels=self._labels[samples],
            samples=samples,
            positions=positions,
            epoch=pieces[0].epoch,
            step=step,
            holds="views" if self._render.render == "host" else "crops",
        )


def eval_batches(
    source: Source,
    preprocess: Preprocess,
    batch_size: int,
    workers: int,
    indices: Int64[np.ndarray, "samples"] | None = None,
    *,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[EvalBatch]:
    """Every image once, in order, after the evaluation transform; the last batch may be smaller.

    Args:
        source: where the images are.
        preprocess: the evaluation transform and normalisation.
        batch_size: images in a batch.
        workers: processes that decode; with 0 the caller's own does.
        indices: the images to go through; all of them when left out.
        device: where the batches shall be.
        rank, world_size: which process of how many this is; each gets a contiguous part.

    Raises:
        BadImage: when an image cannot be decoded, with its name.
        WorkerDied: when a worker was killed.
    """
    chosen = np.arange(len(source)) if indices is None else indices
    chosen = chosen[share(len(chosen), rank, world_size)]
    labels = np.asarray(source.labels, dtype=np.int64)
    batches = [chosen[first : first + batch_size] for first in range(0, len(chosen), batch_size)]
    pieces = (batch[part] for batch in batches for part in _cut(slice(0, len(batch))))
    ahead = 2 * len(_cut(slice(0, batch_size)))
    task = _Preprocess(source, preprocess)
    with contextlib.closing(_run_in_order(task, pieces, workers, ahead)) as parts:
        for batch in batches:
            images = torch.cat([next(parts) for _ in _cut(slice(0, len(batch)))])
            yield EvalBatch(
                images=normalise(
                    images.to(device), preprocess.mean, preprocess.std, preprocess.channels
                ),
                labels=torch.from_numpy(labels[batch]).to(device),
                samples=torch.from_numpy(batch).to(device),
            )


class _Piece(NamedTuple):
    """Work for one worker: neighbouring places of an epoch, and the images that stand there."""

    epoch: int
    positions: Int64[np.ndarray, "views"]
    samples: Int64[np.ndarray, "views"]


@dataclass(frozen=True, slots=True)
class _RenderViews:
    """Decode each image of a piece once and render its views, or only cut and resize them."""

    source: Source
    views: ViewConfig
    image_size: int
    seed: int
    render: Literal["host", "device"]

    def __call__(self, piece: _Piece) -> UInt8[Tensor, "views 3 size size"]:
        epoch, positions, samples = piece
        plan = plan_views(self.views, self.image_size, self.seed, epoch, positions)
        make = render_view if self.render == "host" else crop_view
        images = np.empty((len(samples), 3, self.image_size, self.image_size), dtype=np.uint8)
        for row, sample in enumerate(samples.tolist()):
            if row == 0 or sample != samples[row - 1]:
                image = self.source.read(sample)
            view = make(image, plan, row, self.views, self.image_size)
            cv2.split(view, list(images[row]))
        return torch.from_numpy(images)


@dataclass(frozen=True, slots=True)
class _Preprocess:
    """Decode some images and apply the evaluation transform."""

    source: Source
    preprocess: Preprocess

    def __call__(self, samples: Int64[np.ndarray, "images"]) -> UInt8[Tensor, "images 3 size size"]:
        images = [self.preprocess.apply(self.source.read(sample)) for sample in samples.tolist()]
        return torch.from_numpy(np.stack(images))


def _cut(places: slice) -> list[slice]:
    """A range of places in pieces of up to `PIECE`."""
    return [
        slice(first, min(first + PIECE, places.stop))
        for first in range(places.start, places.stop, PIECE)
    ]


def _run_in_order(
    task: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int
) -> Generator[Result, None, None]:
    """``map(task, items)`` in worker processes, in order, some items ahead of their use.

    Args:
        task: picklable; gives tensors, which come back through shared memory.
        items: drawn in this process, as far ahead as the workers are.
        workers: how many processes; with 0 this is `map`.
        ahead: how many items to be ahead; at least two per worker are.
    """
    if workers == 0:
        yield from map(task, items)
        return
    loader = DataLoader(
        _Tasks(task),
        sampler=items,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        prefetch_factor=max(2, -(-ahead // workers)),
        multiprocessing_context=_start_method(),
        worker_init_fn=_outlive_interrupts,
        generator=torch.Generator(),  # else each iterator draws from the global one
    )
    with _named_errors(), warnings.catch_warnings():
        # Python 3.12 warns of fork() beside threads; see `_start_method`.
        warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
        results = iter(loader)
    try:
        with _named_errors():
            for result in results:
                if isinstance(result, BadImage):
                    raise result
                yield result
    finally:
        del results  # ends the workers now, not when the last traceback is forgotten


class _Tasks(Dataset[Result | BadImage], Generic[Item, Result]):
    """A task as the data set whose "indices" are its items; unusable images come back as values.

    torch would otherwise put another exception with a formatted traceback in their place.
    """

    def __init__(self, task: Callable[[Item], Result]) -> None:
        self._task = task

    def __getitem__(self, item: Item) -> Result | BadImage:
        try:
            return self._task(item)
        except BadImage as error:
            return error


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    """Say `WorkerDied` where torch says RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise WorkerDied(
            f"a loader worker died: {error} Memory is the usual cause: try fewer --workers, or "
            "more shared memory (docker run --shm-size=8g)"
        ) from error


def _start_method() -> str | None:
    """How workers come into being: by fork on Linux, elsewhere in the platform's own way.

    Measured on two cores with two workers, from the call to the first result: fork 0.03 s,
    forkserver 1.6 s, spawn 2 s, for both of these import torch in every worker. An evaluation after
    each epoch pays this each time, and scripts without a ``__main__`` guard run with fork only.
    What fork breaks in a process that has threads is the use of those threads by the child, in
    OpenMP regions and in CUDA. Workers use neither: torch's loader sets them to a single thread, on
    which torch's CPU kernels enter no parallel region.
    """
    return "fork" if sys.platform == "linux" else None


def _outlive_interrupts(worker: int) -> None:
    """Leave Ctrl-C, which reaches every process of a terminal, to the parent: it ends its workers.

    Otherwise they would be gone before the parent has finished its step and saved it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # fork has handed down the parent's handler


def _as_it_is(result: Result) -> Result:
    return result
