"""Images that lie in a Parquet file, one in a row, read at random.

Parquet is written in groups of rows, each compressed as a whole, so an image costs the reading of
its group. The groups read last are kept, up to a limit, in each process.
"""

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from deit.data.classes import ClassList
from deit.data.images import BadImage, decode_image, decode_size
from deit.data.limits import MAX_PIXELS
from deit.data.names import Names

KEPT_BYTES = 2**27
"""What a process keeps of groups read before, 128 MiB; one group at least."""


class ParquetImages:
    """A column of encoded images in one file.

    May be used in any thread, and goes to other processes by fork or pickle: every process opens
    the file and keeps groups for itself.

    Args:
        path: the file, absolute.
        column: the column that holds the bytes, ``image`` or ``image.bytes``.
        metadata: what pyarrow read from the file's end.
        status: the file's size and time of change at that moment.
    """

    def __init__(self, path: str, column: str, metadata: Any, status: tuple[int, int]) -> None:
        self.path = path
        self._column = column
        self._metadata = metadata
        self._status = status
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = np.cumsum([0, *counts], dtype=np.int64)
        self._kept = _Kept(os.getpid())

    def cost(self) -> str:
        """What an image costs that is read at random, in words; "" where all groups can be kept."""
        sizes = [chunk.total_uncompressed_size for chunk in chunks(self._metadata, self._column)]
        if sum(sizes) <= KEPT_BYTES:
            return ""
        return (
            "each image that training reads costs the reading of its group of rows, on average "
            f"{sum(sizes) / len(sizes) / 2**20:.1f} MiB; written with row_group_size=100, "
            "or opened by `datasets` as hf:FOLDER, it costs less"
        )

    def read(self, row: int, name: str) -> bytes:
        """The bytes of the image in a row.

        Raises:
            BadImage: under ``name``, when there are none, or the file is not what it was.
        """
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        cell = self._group(group, name)[row - int(self._starts[group])].as_py()
        if isinstance(cell, dict):
            cell = cell["bytes"]
        if not cell:
            raise BadImage(name, f"no bytes in its row of {os.path.basename(self.path)}")
        return bytes(cell)

    def _group(self, group: int, name: str) -> Any:
        """The image column of a group of rows, as a pyarrow array in pieces."""
        if self._kept.process != os.getpid():  # after a fork: the lock may have been held there
            self._kept = _Kept(os.getpid())
        kept = self._kept
        with kept.lock:
            if group not in kept.groups:
                kept.make_room()
                kept.groups[group] = self._read_group(group, name)
            kept.groups.move_to_end(group)
            return kept.groups[group]

    def _read_group(self, group: int, name: str) -> Any:
        import pyarrow
        import pyarrow.parquet

        title = os.path.basename(self.path)
        try:
            status = os.stat(self.path)
            if (status.st_size, status.st_mtime_ns) != self._status:
                raise BadImage(name, f"{title} has changed since it was opened")
            with pyarrow.parquet.ParquetFile(self.path, metadata=self._metadata) as file:
                table = file.read_row_group(group, columns=[self._column], use_threads=False)
        except (pyarrow.ArrowException, OSError) as error:
            reason = f"its group of rows in {title} cannot be read: {error}"
            raise BadImage(name, reason[:300]) from error
        if len(table) != self._starts[group + 1] - self._starts[group]:
            raise BadImage(name, f"its group of rows in {title} is not as long as it should be")
        return table.column(0)

    def __getstate__(self) -> tuple[str, str, Any, tuple[int, int]]:
        return self.path, self._column, self._metadata, self._status

    def __setstate__(self, state: tuple[str, str, Any, tuple[int, int]]) -> None:
        self.__init__(*state)  # type: ignore[misc]


def chunks(metadata: Any, column: str) -> list[Any]:
    """What a file's end says of one column, group by group."""
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    if not groups:
        return []
    places = range(groups[0].num_columns)
    (place,) = (at for at in places if groups[0].column(at).path_in_schema == column)
    return [group.column(place) for group in groups]


@dataclass(slots=True)
class _Kept:
    """Groups that one process has read, the one used last at the end."""

    process: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    groups: "OrderedDict[int, Any]" = field(default_factory=OrderedDict)

    def make_room(self) -> None:
        """Give up groups until another one, as large as the largest, stays within the limit."""
        sizes = [group.nbytes for group in self.groups.values()]
        while sizes and sum(sizes) + max(sizes) > KEPT_BYTES:
            self.groups.popitem(last=False)
            sizes.pop(0)


@dataclass(frozen=True, slots=True, eq=False)
class ParquetSource:
    """Images in a Parquet file.

    Attributes:
        images: the column that holds them.
        rows: the row of each image.
        names: the name of each image.
        labels: the class of each image.
        classes: the class list that the labels index.
        max_pixels: images of more are refused.
    """

    images: ParquetImages
    rows: Int64[np.ndarray, "images"]
    names: Names
    labels: Int64[np.ndarray, "images"]
    classes: ClassList
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels of one image, RGB.

        Raises:
            BadImage: when it cannot be decoded, or its file is not what it was.
        """
        name = self.names[index]
        return decode_image(self.read_bytes(index), name, max_pixels=self.max_pixels)

    def read_bytes(self, index: int) -> bytes:
        """The undecoded file of one image.

        Raises:
            BadImage: when it cannot be read, or its file is not what it was.
        """
        return self.images.read(int(self.rows[index]), self.names[index])

    def read_size(self, index: int) -> tuple[int, int]:
        """Height and width of one image, from its header.

        Raises:
            BadImage: when the header shows that it cannot be used.
        """
        name = self.names[index]
        return decode_size(self.read_bytes(index), name, max_pixels=self.max_pixels)
