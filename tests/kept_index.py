"""What the tests of the index share: a tree of everything, and what a listing of it says."""

import time
from pathlib import Path

import pytest

from deit.data.sources import Source, open_data
from deit.errors import UserError

TICK_SECONDS = 0.02
"""Longer than the steps of this system's clock, and short enough to wait for."""


def settle() -> None:
    """Wait until what was changed counts as settled."""
    time.sleep(1.5 * TICK_SECONDS)


def put(path: Path) -> None:
    """A file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"image")


def outcome(root: Path) -> object:
    """All that a listing says, or the message."""
    try:
        data = open_data(str(root))
    except UserError as error:
        return str(error)
    splits = data.splits().values()
    listed = [(list(source.names), source.labels.tolist()) for source in splits]
    return listed, data.classes.names, list(data.notes)


def describe(source: Source) -> tuple[list[str], list[int], int]:
    """What can be told without reading an image."""
    return list(source.names), source.labels.tolist(), len(source)


def fresh(root: Path) -> object:
    """The same without an index."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEIT_INDEX", "off")
        return outcome(root)
