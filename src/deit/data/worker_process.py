"""What a loader worker does, in its own process; the parent's side is `deit.data.workers`."""

import contextlib
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

LOOK_SECONDS = 5.0
"""How often parent and workers look whether the other is still there, besides at their pipe."""

NOTHING = -1
"""The image that a worker is at while it waits for work."""


@runtime_checkable
class Sized(Protocol):
    """An item: as many rows as it is long."""

    def __len__(self) -> int: ...


Item_in = TypeVar("Item_in", bound=Sized, contravariant=True)

Note = Callable[[int], None]
"""Told the index of an image before it is read."""


@runtime_checkable
class Task(Protocol[Item_in]):
    """What workers do; it can be pickled."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row."""

    @property
    def names(self) -> Sequence[str]:
        """What the images are called, for messages."""

    def fill(self, item: Item_in, rows: UInt8[np.ndarray, "rows ..."], note: Note) -> None:
        """Write the rows of an item."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception on its way to the parent: pickled apart, for not every one can be."""

    pickled: bytes
    text: str

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """What is known of an exception that was just caught."""
        text = "".join(traceback.format_exception(error))
        try:
            return cls(pickle.dumps(error), text)
        except Exception:  # whatever its attributes raise
            return cls(b"", text)

    def exception(self) -> Exception:
        """The exception as it was, with the worker's traceback as its cause."""
        try:
            error = pickle.loads(self.pickled)
        except Exception:  # whatever its constructor raises
            error = RuntimeError("a loader worker failed")
        error.__cause__ = RuntimeError(f"in a loader worker:\n{self.text}")
        assert isinstance(error, Exception)
        return error


def work(
    number: int,
    task: Task[Any],
    rows: Tensor,
    reading: Tensor,
    connection: "Connection[Any, Any]",
) -> None:
    """A worker's life: fill slots until the parent is gone."""
    # Ctrl-C reaches every process of a terminal. It is left to the parent, which finishes its step
    # and saves it; the parent's handler of SIGTERM was handed down by fork.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    slots, at = rows.numpy(), reading.numpy()
    parent = os.getppid()

    def note(index: int) -> None:
        at[number] = index

    with contextlib.suppress(EOFError, OSError):  # the parent has gone
        while _has_work(connection, parent):
            slot, item = connection.recv()
            failure = _attempt(task, item, slots[slot, : len(item)], note)
            note(NOTHING)
            connection.send(failure)


def _has_work(connection: "Connection[Any, Any]", parent: int) -> bool:
    """Wait for a message; False where the parent has gone.

    The pipe may not end then: workers that were forked later have its other end, too.
    """
    while not connection.poll(LOOK_SECONDS):
        if os.getppid() != parent:
            return False
    return True


def _attempt(
    task: Task[Any], item: Sized, rows: UInt8[np.ndarray, "rows ..."], note: Note
) -> Failure | None:
    try:
        task.fill(item, rows, note)
    except Exception as error:  # raised again in the parent
        return Failure.of(error)
    return None
