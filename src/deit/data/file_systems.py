"""What kind of drive a path is on, and whether what was seen of a file or folder can be trusted.

A folder's times change when an entry comes, goes or is renamed, but in steps of a clock: a change
within the same step as the look before it leaves them as they were. So only what had been left
alone for a while when it was looked at is known by them.
"""

import functools
import os
import time

Signature = tuple[int, int, int, int, int]
"""Device, inode, size, and when it and its entry were changed last, in nanoseconds."""

ABSENT: Signature = (0, 0, 0, 0, 0)

SETTLED_NS = 2_500_000_000
"""The coarsest clock of a drive that is in use has steps of two seconds."""

SKEWED_NS = 25 * 3600 * 1_000_000_000
"""On a drive of another machine, or of a kind that is not known, the clock may be another one: a
time zone off, at the most."""

_MASK = 2**64 - 1

_LOCAL = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "tmpfs", "overlay")
)


def signature(path: str) -> Signature:
    """What changes with a folder's entries or a file's bytes; `ABSENT` for what is not there.

    Both times are taken: the first can be set back (rsync and tar do), the second cannot.

    Raises:
        OSError: when it cannot be looked at.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    return (
        status.st_dev & _MASK,
        status.st_ino & _MASK,
        status.st_size & _MASK,
        status.st_mtime_ns & _MASK,
        status.st_ctime_ns & _MASK,
    )


def is_settled(seen: Signature, now: int, local_device: int | None) -> bool:
    """Whether a change after ``now`` would show in the signature that was seen by then.

    Args:
        seen: what was seen.
        now: this machine's clock before it was looked at, in nanoseconds.
        local_device: the device whose clock is this machine's; None where there is none.
    """
    wait = SETTLED_NS if seen[0] == local_device else SKEWED_NS
    return max(seen[3:]) < now - wait or seen == ABSENT


def local_device(path: str) -> int | None:
    """The device of a path if it belongs to this machine, for `is_settled`."""
    return os.stat(path).st_dev if is_local(path) else None


def is_local(path: str) -> bool:
    """Whether a path is on a drive of this machine. False too where that cannot be told."""
    real = os.path.realpath(path)
    best, kind = "", ""
    for place, name in _mounts(int(time.monotonic())):
        inside = real == place or real.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):  # of two in one place, the later one is seen
            best, kind = place, name
    return kind in _LOCAL


@functools.lru_cache(maxsize=1)
def _mounts(second: int) -> tuple[tuple[str, str], ...]:
    """Place and kind of everything that is mounted; read again each second."""
    del second
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = [line.split() for line in file]
    except OSError:
        return ()
    return tuple(
        (os.fsdecode(words[4].decode("unicode_escape").encode("latin-1")), words[kind].decode())
        for words in lines
        if (kind := words.index(b"-") + 1)
    )
