"""From a source to batches: iterators that can start at any step and use any number of workers.

The work is cut into pieces of up to `PIECE` images. Workers render pieces in whatever order they
get to them; the parent puts them together in the order of the plan. What a piece holds depends on
its positions alone, so a batch is the same bytes however many workers made it.
"""

import contextlib
import functools
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from deit.data.order import (
    OrderConfig,
    epoch_of_views,
    epoch_samples,
    share,
    steps_per_epoch,
)
from deit.data.plan import ViewConfig, plan_views
from deit.data.preprocess import Preprocess
from deit.data.render import augment_crops, crop_view
from deit.data.render_device import HostBatch, normalise
from deit.data.sources import Source
from deit.data.worker_process import Note
from deit.data.workers import (
    WorkerDied,
    check_shared_memory,
    num_slots,
    run_in_order,
)
from deit.errors import UserError
from deit.tensors import EvalBatch

__all__ = ["PIECE", "TrainLoader", "WorkerDied", "eval_batches"]

PIECE = 96
"""Images that one worker renders at a time. Small enough that the first batch of a run comes from
all workers and that shared memory holds little."""

Rows = Generator[UInt8[np.ndarray, "rows 3 size size"], None, None]


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
        UserError: when the batch cannot be shared evenly among the processes, or workers need more
            shared memory than there is.
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
        self._most_rows, self._ahead = _ring(self._share.stop - self._share.start, order.repeats)
        slots = num_slots(workers, self._ahead)
        check_shared_memory(workers, slots * self._most_rows * 3 * image_size**2)
        self._epoch_samples = functools.lru_cache(maxsize=2)(
            lambda epoch: epoch_samples(
                order, seed, epoch, len(source), self.steps_per_epoch * batch_size
            )
        )

    @property
    def holds(self) -> Literal["views", "crops"]:
        """What this loader gives, see `HostBatch`."""
        return "views" if self._render.render == "host" else "crops"

    def batches(self, start_step: int, stop_step: int) -> Iterator[HostBatch]:
        """The batches of steps `start_step` to `stop_step - 1`, made ahead of their use.

        One call serves a whole run: workers live as long as the iterator and go on into the next
        epoch without a pause. At most two batches, or two pieces per worker, are ahead.

        Raises:
            BadImage: when an image of the batch cannot be decoded, with its name.
            WorkerDied: when a worker was killed.
        """
        pieces = (piece for step in range(start_step, stop_step) for piece in self._pieces(step))
        with contextlib.closing(
            run_in_order(
                self._render,
                pieces,
                self._workers,
                items_ahead=self._ahead,
                most_rows=self._most_rows,
            )
        ) as parts:
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
        piece = _Piece(epoch, positions, self.samples_at(epoch, positions))
        images = np.empty((len(piece), *self._render.row_shape), dtype=np.uint8)
        self._render.fill(piece, images, lambda _index: None)
        return torch.from_numpy(images)

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
        places = slice(first + self._share.start, first + self._share.stop)
        return [
            _Piece(epoch, np.arange(part.start, part.stop), samples[part])
            for part in _cut(places, self._order.repeats)
        ]

    def _collect(self, step: int, parts: Rows) -> HostBatch:
        """Wait for the parts of a batch and lay them side by side."""
        pieces = self._pieces(step)
        samples = torch.from_numpy(np.concatenate([piece.samples for piece in pieces]))
        positions = torch.from_numpy(np.concatenate([piece.positions for piece in pieces]))
        shape = (len(samples), *self._render.row_shape)
        return HostBatch(
            images=_side_by_side(
                parts,
                shape,
                [len(piece) for piece in pieces],
                pin_memory=self._pin_memory,
                keep=self._workers == 0,
            ),
            labels=self._labels[samples],
            samples=samples,
            positions=positions,
            epoch=pieces[0].epoch,
            step=step,
            holds=self.holds,
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
    most_rows, ahead = _ring(min(batch_size, len(chosen)))
    task = _Preprocess(source, preprocess)
    check_shared_memory(
        workers, num_slots(workers, ahead) * most_rows * 3 * preprocess.image_size**2
    )
    pin = torch.device(device).type == "cuda"
    with contextlib.closing(
        run_in_order(task, pieces, workers, items_ahead=ahead, most_rows=most_rows)
    ) as parts:
        for batch in batches:
            lengths = [part.stop - part.start for part in _cut(slice(0, len(batch)))]
            shape = (len(batch), *task.row_shape)
            images = _side_by_side(parts, shape, lengths, pin_memory=pin, keep=workers == 0)
            yield EvalBatch(
                images=normalise(
                    images.to(device), preprocess.mean, preprocess.std, preprocess.channels
                ),
                labels=torch.from_numpy(labels[batch]).to(device),
                samples=torch.from_numpy(batch).to(device),
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Work for one worker: neighbouring places of an epoch, and the images that stand there."""

    epoch: int
    positions: Int64[np.ndarray, "views"]
    samples: Int64[np.ndarray, "views"]

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True, slots=True)
class _RenderViews:
    """Decode each image of a piece once and render its views, or only cut and resize them."""

    source: Source
    views: ViewConfig
    image_size: int
    seed: int
    render: Literal["host", "device"]

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (3, self.image_size, self.image_size)

    @property
    def names(self) -> Sequence[str]:
        return self.source.names

    def fill(self, piece: _Piece, rows: UInt8[np.ndarray, "views 3 size size"], note: Note) -> None:
        """Make the views of a piece in their rows."""
        samples = piece.samples
        plan = plan_views(self.views, self.image_size, self.seed, piece.epoch, piece.positions)
        crops = []
        for row, sample in enumerate(samples.tolist()):
            if row == 0 or sample != samples[row - 1]:
                note(sample)
                image = self.source.read(sample)
            crops.append(crop_view(image, plan, row, self.views, self.image_size))
        views = crops
        if self.render == "host":
            views = augment_crops(crops, plan, self.views, range(len(crops)))
        for view, planes in zip(views, rows, strict=True):
            cv2.split(view, list(planes))


@dataclass(frozen=True, slots=True)
class _Preprocess:
    """Decode some images and apply the evaluation transform."""

    source: Source
    preprocess: Preprocess

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (3, self.preprocess.image_size, self.preprocess.image_size)

    @property
    def names(self) -> Sequence[str]:
        return self.source.names

    def fill(
        self,
        samples: Int64[np.ndarray, "images"],
        rows: UInt8[np.ndarray, "images 3 size size"],
        note: Note,
    ) -> None:
        """Transform images into their rows."""
        for row, sample in enumerate(samples.tolist()):
            note(sample)
            rows[row] = self.preprocess.apply(self.source.read(sample))


def _side_by_side(
    parts: Rows,
    shape: tuple[int, ...],
    lengths: Sequence[int],
    *,
    pin_memory: bool,
    keep: bool,
) -> UInt8[Tensor, "images 3 size size"]:
    """A batch from its parts, in memory of its own: theirs is used again for later ones.

    With ``keep`` nobody uses it again, and a single part is the batch.
    """
    if keep and len(lengths) == 1 and not pin_memory:
        return torch.from_numpy(next(parts))
    images = torch.empty(shape, dtype=torch.uint8, pin_memory=pin_memory)
    for room in torch.split(images, list(lengths)):
        room.copy_(torch.from_numpy(next(parts)))
    return images


def _cut(places: slice, repeats: int = 1) -> list[slice]:
    """A range of places in pieces of up to `PIECE`, cut where one image ends and another begins.

    An image stands at `repeats` places from a multiple of that on, so that a piece holds all of its
    views that are in the range, and it is decoded once.

    >>> _cut(slice(190, 300), repeats=5)
    [slice(190, 285, None), slice(285, 300, None)]
    """
    length = _piece_length(repeats)
    begin = places.start - places.start % repeats
    return [
        slice(max(first, places.start), min(first + length, places.stop))
        for first in range(begin, places.stop, length)
    ]


def _piece_length(repeats: int) -> int:
    """The longest piece: whole images, one at least, in up to `PIECE` views.

    >>> [_piece_length(repeats) for repeats in (1, 3, 7, 100)]
    [96, 96, 91, 100]
    """
    return max(1, PIECE // repeats) * repeats


def _ring(num_views: int, repeats: int = 1) -> tuple[int, int]:
    """The longest piece of a batch, and the pieces of two batches, wherever these begin."""
    longest = min(num_views, _piece_length(repeats))
    pieces = -(-(num_views + repeats - 1) // _piece_length(repeats))
    return longest, 2 * pieces
