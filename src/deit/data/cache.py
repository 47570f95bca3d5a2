"""What is kept between runs: in which folder, how much of it, and what is said where it cannot be.

Everything in the index folder can be computed again from the data. It may be deleted at any time.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deit.data import array_file
from deit.data.names import printable

MOST_BYTES = 4 * 2**30
"""What the index folder may hold; beyond it, the files that were not used for longest go. A million
names take 60 to 80 MB."""

LEAST_IMAGES = 2000
"""Below that nothing is kept: to find it again takes no longer than to read it."""

_ABANDONED_SECONDS = 24 * 3600
_ENDING = ".arrays"

_complained: set[str] = set()


def cache_folder() -> Path:
    """``$DEIT_CACHE``; without that variable, ``deit`` in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("DEIT_CACHE") or f"{home}/deit").expanduser()


def index_folder() -> Path | None:
    """Where indices are kept; None where ``DEIT_INDEX=off``, or there is no home folder."""
    if os.environ.get("DEIT_INDEX", "").lower() in ("off", "0", "no"):
        return None
    try:
        return cache_folder() / "index"
    except RuntimeError:  # no home folder
        return None


def load(kind: str, key: bytes) -> array_file.Stored | None:
    """What was kept under a key; None where nothing was, or not a whole file of this kind."""
    folder = index_folder()
    return None if folder is None else array_file.load(folder / _name(kind, key), kind)


def keep(kind: str, key: bytes, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Keep arrays under a key, in the place of what was kept there.

    Returns:
        Nothing, or the reason for which they could not be kept.
    """
    folder = index_folder()
    if folder is None:
        return ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        array_file.save(folder / _name(kind, key), kind, about, arrays)
        _trim(folder)
    except OSError as error:
        return f"{printable(str(folder))}: {error.strerror or error}"
    return ""


def say_once(complaint: str) -> list[str]:
    """A list of the complaint, and an empty one when this process has made it before."""
    if not complaint or complaint in _complained:
        return []
    _complained.add(complaint)
    return [complaint]


def usage() -> tuple[int, int]:
    """How many files the index folder holds, and how many bytes."""
    folder = index_folder()
    sizes = [status.st_size for _, status in _files(folder)] if folder else []
    return len(sizes), sum(sizes)


def _name(kind: str, key: bytes) -> str:
    return f"{kind}-{hashlib.blake2b(key, digest_size=16).hexdigest()}{_ENDING}"


def _files(folder: Path) -> list[tuple[str, os.stat_result]]:
    """What `keep` has made, finished or not, first what was unused for longest."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((_ENDING, array_file.UNFINISHED)):
                with contextlib.suppress(OSError):  # gone since
                    found.append((entry.path, entry.stat(follow_symlinks=False)))
    return sorted(found, key=lambda item: item[1].st_mtime_ns)


def _trim(folder: Path) -> None:
    """Delete what is too much, unused for longest first, and what killed writers have left."""
    files = _files(folder)
    too_many = sum(status.st_size for _, status in files) - MOST_BYTES
    for path, status in files[:-1]:  # never the newest
        abandoned = path.endswith(array_file.UNFINISHED) and (
            time.time() - status.st_mtime > _ABANDONED_SECONDS
        )
        if abandoned or (too_many > 0 and path.endswith(_ENDING)):
            with contextlib.suppress(OSError):
                os.unlink(path)
            too_many -= status.st_size
