"""The images in a set of tar shards, kept between runs as long as all shards are the same files.

Where one has changed, its headers are read again, those of the others taken from their own index
(`deit.data.archive_index`), and the tree of folders is made anew.
"""

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from deit.data import cache
from deit.data.archive_index import settled_signature
from deit.data.array_file import Stored
from deit.data.classes import ClassList
from deit.data.file_systems import Signature
from deit.data.names import Names
from deit.data.packing import pack_labels, unpack
from deit.data.shards import ShardSource, index_shards
from deit.data.tar_index import Archive

_KIND = "shards"

Splits = tuple[ShardSource, ShardSource | None, list[str]]


def open_shards(title: str, paths: Sequence[str]) -> Splits:
    """What `index_shards` opens: training and validation images, notes.

    Args:
        title: how the data are called in messages.
        paths: the tar files.

    Raises:
        UserError: as `index_shards`, and for shards that cannot be trained on.
    """
    seen = _settled(paths)
    known = _load(title, paths, seen) if seen else None
    if known is not None:
        return known
    train, val, notes = index_shards(title, paths).open()
    num_images = len(train) + (0 if val is None else len(val))
    if not seen or num_images < cache.LEAST_IMAGES or _settled(paths) != seen:
        return train, val, notes
    reason = _keep(title, paths, seen, (train, val, notes))
    if reason:
        return train, val, notes + cache.say_once(f"the index of shards cannot be kept: {reason}")
    return _load(title, paths, seen) or (train, val, notes)  # from the file, that workers map too


def _settled(paths: Sequence[str]) -> list[Signature]:
    """What the shards are known by; nothing if one of them has changed a moment ago."""
    now = time.time_ns()
    seen = [settled_signature(path, now) for path in paths]
    known = [one for one in seen if one is not None]
    return known if len(known) == len(seen) else []


def _keep(title: str, paths: Sequence[str], seen: list[Signature], opened: Splits) -> str:
    train, val, notes = opened
    splits = [train] if val is None else [train, val]
    labels = [pack_labels(split.labels) for split in splits]
    about = _about(title, paths) | {
        "notes": notes,
        "splits": [len(split) for split in splits],
        "labels": [[way, size] for way, size, _, _ in labels],
    }
    arrays = Names.joined(split.names for split in splits).arrays() | {
        "signatures": np.array(seen, dtype=np.uint64),
        "classes": np.frombuffer(os.fsencode("\0".join(train.classes.names)), dtype=np.uint8),
        "archive_of": np.concatenate([split.archive_of for split in splits]),
        "offsets": np.concatenate([split.offsets for split in splits]),
        "sizes": np.concatenate([split.sizes for split in splits]),
    }
    for number, (_, _, first, second) in enumerate(labels):
        arrays |= {f"labels{number}": first, f"counts{number}": second}
    return cache.keep(_KIND, _key(title, paths), about, arrays)


def _load(title: str, paths: Sequence[str], seen: list[Signature]) -> Splits | None:
    stored = cache.load(_KIND, _key(title, paths))
    if stored is None or any(stored.about.get(n) != v for n, v in _about(title, paths).items()):
        return None
    try:
        signatures = stored.arrays["signatures"]
        if signatures.tolist() != [list(one) for one in seen]:
            return None
        return _sources(stored, paths, seen)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError):
        return None


def _sources(stored: Stored, paths: Sequence[str], seen: list[Signature]) -> Splits:
    """The sources in a file.

    Raises:
        ValueError, TypeError, KeyError, IndexError: for a file that was not written by `_keep`.
    """
    names = Names.stored(stored)
    archive_of = stored.column("archive_of", "<i4", len(names))
    offsets = stored.column("offsets", "<i8", len(names))
    sizes = stored.column("sizes", "<i8", len(names))
    notes = [str(note) for note in stored.about["notes"]]
    classes = ClassList(tuple(os.fsdecode(stored.column("classes", "|u1").tobytes()).split("\0")))
    lengths = [int(length) for length in stored.about["splits"]]
    whole = len(lengths) in (1, 2) and min(lengths) >= 0 and sum(lengths) == len(names)
    if not whole or not ((archive_of >= 0) & (archive_of < len(paths))).all():
        raise ValueError("not these shards")
    if (offsets < 0).any() or (sizes < 0).any():
        raise ValueError("places before the beginning")
    archives = tuple(
        Archive(os.path.abspath(path), one[2], one[3])
        for path, one in zip(paths, seen, strict=True)
    )
    splits, first = [], 0
    for number, length in enumerate(lengths):
        labels = _labels(stored, number, length, len(classes))
        part = slice(first, first + length)
        splits.append(
            ShardSource(
                archives, archive_of[part], offsets[part], sizes[part], names[part], labels, classes
            )
        )
        first += length
    return splits[0], splits[1] if len(splits) == 2 else None, notes


def _labels(stored: Stored, number: int, length: int, num_classes: int) -> np.ndarray:
    way, size = stored.about["labels"][number]
    labels = stored.column(f"labels{number}", "<i8")
    counts = stored.column(f"counts{number}", "<i8")
    if way == "runs" and (len(counts) != len(labels) or (counts < 0).any() or counts.sum() != size):
        raise ValueError("runs of another length")
    unpacked = np.array(unpack((str(way), int(size), labels, counts)))
    if len(unpacked) != length or ((unpacked < 0) | (unpacked >= num_classes)).any():
        raise ValueError("labels of other classes")
    return unpacked


def _about(title: str, paths: Sequence[str]) -> dict[str, Any]:
    return {
        "version": 1,
        "title": title,
        "paths": [os.path.abspath(path) for path in paths],
        "encoding": sys.getfilesystemencoding(),
    }


def _key(title: str, paths: Sequence[str]) -> bytes:
    return os.fsencode("\0".join([title, *map(os.path.abspath, paths)]))
