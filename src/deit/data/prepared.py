"""A prepared store: the images of any data set, smaller, in tar shards, with their own list.

The shards are tar files as others read them, `train/<class>/<number>.jpg`. What makes the store the
*same data set* as the one it was made of is the list beside them: every image has its old name, its
old label, its old place in the order and its old split. So labels, plans of views, subsets and
validation images are the same, whatever source the images came from.

    store/prepared.json      what it is, for people and for `open_prepared`
    store/images.npz         names, labels, and where each image is
    store/train-000.tar ...  the images

`deit.programs.prepare_data` writes it.
"""

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from deit.data.classes import ClassList
from deit.data.names import Names, printable
from deit.data.shards import ShardSource
from deit.data.tar_index import Archive, list_members
from deit.errors import UserError

DESCRIPTION = "prepared.json"
IMAGES = "images.npz"
BEGUN = "preparing.json"
"""Is there while a store is being made, and after that was interrupted."""

FORMAT = 1
"""Counts up when stores are written otherwise."""

SPLITS = ("train", "val")


def is_prepared(spec: str) -> bool:
    """Whether a folder holds a prepared store, whole or begun."""
    folder = os.path.expanduser(spec)
    return bool(spec) and any(
        os.path.isfile(os.path.join(folder, name)) for name in (DESCRIPTION, BEGUN)
    )


def open_prepared(spec: str) -> tuple[ShardSource, ShardSource, list[str]]:
    """Training images, validation images and notes of a prepared store.

    Raises:
        UserError: for a store that is not whole.
    """
    folder = Path(spec).expanduser()
    if (folder / BEGUN).is_file():
        raise UserError(
            f"{printable(spec)}: its preparation was interrupted",
            "a store that is whole",
            "give the same `deit data prepare` command again: it goes on where it was",
        )
    described = _read_description(folder)
    classes = ClassList(tuple(described["data"]["classes"]))
    try:
        with (folder / IMAGES).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            train, val = (_open_split(folder, described, arrays, s, classes) for s in SPLITS)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise _damaged(folder / IMAGES, error) from error
    return train, val, _notes(spec, described)


def write_list(folder: Path, kept: Mapping[str, tuple[Names, Int64[np.ndarray, "images"]]]) -> None:
    """Write `IMAGES` from the headers of the shards.

    Args:
        folder: the store, with all its shards.
        kept: names and labels of each split's source; an image is found by its number there, and
            one that is in no shard was left out.
    """
    arrays: dict[str, np.ndarray] = {}
    for split, (names, labels) in kept.items():
        places = _find_images(folder, split)
        numbers = places[:, 0]
        arrays[f"{split}_names"] = np.frombuffer(_joined(names.take(numbers)), dtype=np.uint8)
        arrays[f"{split}_labels"] = labels[numbers]
        for column, name in enumerate(("archive_of", "offsets", "sizes"), start=1):
            arrays[f"{split}_{name}"] = places[:, column]
    temporary = folder / f".{IMAGES}.tmp"
    with temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(temporary, folder / IMAGES)


def shards_of(folder: Path, split: str) -> list[Path]:
    """The shards of a split by their numbers: the thousandth's has a digit more than others."""
    found = folder.glob(f"{split}-[0-9]*.tar")
    return sorted(found, key=lambda path: (len(path.name), path.name))


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        described: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = described["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    if found != FORMAT:
        raise UserError(
            f"{printable(str(path))}: a store of format {found}",
            f"format {FORMAT}, which this version of deit reads",
            "prepare the data again",
        )
    return described


def _open_split(
    folder: Path, described: Mapping[str, Any], arrays: Any, split: str, classes: ClassList
) -> ShardSource:
    recorded = described["shards"][split]
    archives = [_archive(folder / shard["name"], shard["bytes"]) for shard in recorded]
    return ShardSource(
        tuple(archives),
        arrays[f"{split}_archive_of"].astype(np.int32),
        arrays[f"{split}_offsets"],
        arrays[f"{split}_sizes"],
        Names.of(_split_names(arrays[f"{split}_names"].tobytes())),
        arrays[f"{split}_labels"],
        classes,
    )


def _archive(path: Path, num_bytes: int) -> Archive:
    try:
        status = path.stat()
    except OSError as error:
        raise _damaged(path, error) from error
    if status.st_size != num_bytes:
        raise _damaged(path, f"{status.st_size:,} bytes, and {num_bytes:,} were written")
    return Archive(os.path.abspath(path), num_bytes, status.st_mtime_ns)


def _find_images(folder: Path, split: str) -> Int64[np.ndarray, "images 4"]:
    """Number in its source, shard, offset and size of every image, in the order of the source."""
    rows = [
        (int(member.parts[-1].partition(".")[0]), place, member.offset, member.size)
        for place, path in enumerate(shards_of(folder, split))
        for member in list_members(str(path))[1]
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _joined(names: Sequence[str]) -> bytes:
    return os.fsencode("\0".join(names))


def _split_names(joined: bytes) -> list[str]:
    return os.fsdecode(joined).split("\0") if joined else []


def _notes(spec: str, described: Mapping[str, Any]) -> list[str]:
    return [
        f"{printable(spec)}: prepared from {printable(described['source'])}, shorter sides of up "
        f"to {described['size']} pixels",
        *described["notes"],
    ]


def _damaged(path: Path, problem: object) -> UserError:
    return UserError(
        f"{printable(str(path))} is not what `deit data prepare` wrote: {printable(str(problem))}",
        "a prepared store as it was written",
        "copy it again, or prepare the data again",
    )
