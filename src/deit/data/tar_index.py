"""Where the files in a tar archive are, found from its headers alone, and reading them from there.

Nothing is unpacked to the disk, and no header is trusted: names that lead out of the archive, and
members that overlap or reach beyond its end, are refused.
"""

import functools
import io
import os
import stat
import tarfile
from dataclasses import dataclass
from typing import Literal, NamedTuple

from deit.data.images import BadImage
from deit.data.limits import MAX_FILE_BYTES
from deit.data.names import printable
from deit.errors import UserError

OPEN_ARCHIVES = 128
"""How many archives a process keeps open; half of what macOS allows a program. One more is opened
again when it is read, as a file of a folder is each time."""

MOST_HEADER_BYTES = 2**16
"""A name has 4 KiB at most; what is longer than this is no header but a trap for memory."""

_TAIL_BYTES = 2**20
"""How far behind its end mark an archive is searched for a second one."""

_ALLOWED = "uncompressed tar archives of class folders"

_COMPRESSIONS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


@dataclass(frozen=True, slots=True)
class Archive:
    """A tar file as it was when its headers were read.

    Attributes:
        path: where it is, absolute.
        num_bytes: its size.
        modified: when it was changed last, in nanoseconds.
    """

    path: str
    num_bytes: int
    modified: int


class Member(NamedTuple):
    """What one header says.

    Attributes:
        parts: the name, split at ``/``, without empty parts and ``.``.
        kind: ``other`` is a link, a device, a sparse file.
        offset, size: where its bytes are in the archive, and how many.
    """

    parts: tuple[str, ...]
    kind: Literal["file", "folder", "other"]
    offset: int
    size: int


def list_members(path: str) -> tuple[Archive, list[Member]]:
    """Read the headers of an archive, and nothing else of it.

    Raises:
        UserError: for what is no whole, uncompressed tar archive, saying why.
    """
    try:
        with _Headers(io.FileIO(path, opener=_open_without_waiting), 4096) as file:
            status = os.fstat(file.fileno())
            _check_beginning(path, file.fileno(), status.st_mode)
            members, end = _walk(path, file, status.st_size)
            _check_end(path, os.pread(file.fileno(), _TAIL_BYTES, end), end)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{printable(path)} cannot be read: {reason}", _ALLOWED, "check the path"
        ) from error
    return Archive(os.path.abspath(path), status.st_size, status.st_mtime_ns), members


def read_member(archive: Archive, offset: int, size: int, name: str) -> bytes:
    """The bytes of a file in an archive.

    May be called from any thread or process: there is no position in the archive to be shared.

    Raises:
        BadImage: under ``name``, when the archive is gone, or not what it was when indexed.
    """
    title = os.path.basename(archive.path)
    if size > MAX_FILE_BYTES:
        raise BadImage(name, f"in {title}: a file of {size:,} bytes is too large")
    try:
        descriptor = _opened(os.getpid(), archive)
        status = os.fstat(descriptor.number)
        if (status.st_size, status.st_mtime_ns) != (archive.num_bytes, archive.modified):
            raise BadImage(name, f"{title} has changed since its headers were read")
        data = os.pread(descriptor.number, size, offset)
        while len(data) < size:  # a network drive may give less at a time
            more = os.pread(descriptor.number, size - len(data), offset + len(data))
            if not more:
                raise BadImage(name, f"{title} ends within it")
            data += more
    except OSError as error:
        raise BadImage(name, f"{title} cannot be read: {error.strerror}") from error
    return data


class _Headers(io.BufferedReader):
    """A file for `tarfile`, which would set aside as much memory as a header asks for."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


class _Descriptor:
    """An open file that is closed when nobody uses it any more, in whatever thread."""

    __slots__ = ("number",)

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@functools.lru_cache(maxsize=OPEN_ARCHIVES)
def _opened(process: int, archive: Archive) -> _Descriptor:
    """An archive's descriptor, of this process alone: a forked worker opens its own."""
    return _Descriptor(archive.path)


def _walk(path: str, file: _Headers, num_bytes: int) -> tuple[list[Member], int]:
    """All members, and where the headers end."""
    members: list[Member] = []
    end = 0
    try:
        archive = tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape")
        while (info := archive.next()) is not None:
            vars(archive)["members"].clear()  # it would keep a kilobyte for each
            member = _member(info, path)
            if archive.offset > num_bytes:
                raise tarfile.ReadError(f"it ends within {info.name}: copied in part?")
            if not _is_within(member, end, archive.offset):
                raise tarfile.ReadError(f"{info.name} overlaps its neighbours")
            members.append(member)
            end = archive.offset
    except (UserError, OSError):
        raise
    except Exception as error:  # tarfile raises whatever a hostile header brings about
        raise _damaged(path, end, error) from error
    return members, end


def _member(info: tarfile.TarInfo, path: str) -> Member:
    parts = tuple(part for part in info.name.split("/") if part not in ("", "."))
    if info.name.startswith("/") or ".." in parts or "\0" in info.name:
        raise UserError(
            f"{printable(path)}: a member called {printable(info.name)}",
            "names below the archive's own top",
            "pack it again from within the folder: tar -C photos -cf photos.tar .",
        )
    is_plain = info.isreg() and not info.issparse()
    kind: Literal["file", "folder", "other"]
    kind = "folder" if info.isdir() else "file" if is_plain else "other"
    return Member(parts, kind, info.offset_data, info.size)


def _is_within(member: Member, start: int, stop: int) -> bool:
    """Whether headers go on, and a file's bytes lie between the end of the last and its own."""
    bytes_there = member.kind != "file" or start < member.offset <= stop - member.size
    return start < stop and bytes_there and member.size >= 0


def _check_beginning(path: str, descriptor: int, mode: int) -> None:
    """Raise for what is told apart by its kind or first bytes."""
    if not stat.S_ISREG(mode):
        raise UserError(f"{printable(path)} is no regular file", _ALLOWED, "give a tar file")
    start = os.pread(descriptor, 8, 0)
    for beginning, compression in _COMPRESSIONS:
        if start.startswith(beginning):
            raise UserError(
                f"{printable(path)} is compressed with {compression}",
                f"{_ALLOWED}: in a compressed one no image can be read without all before it",
                "unpack the compression only: gunzip, bunzip2, unxz or unzstd",
            )


def _check_end(path: str, tail: bytes, end: int) -> None:
    """Raise unless only zeros follow the last member: else images would be missing unnoticed."""
    block = tail[: tarfile.BLOCKSIZE]
    if len(block) < tarfile.BLOCKSIZE:
        problem = "it ends without an end mark: copied in part?"
    elif block.count(0) < len(block):
        problem = f"no header at byte {end}"
    elif tail.count(0) < len(tail):
        problem = "more follows its end mark: archives joined end to end are to be given singly"
    else:
        return
    raise _damaged(path, end, problem)


def _damaged(path: str, place: int, problem: object) -> UserError:
    what = "is no whole tar archive" if place else "is no tar archive"
    return UserError(
        f"{printable(path)} {what}: {printable(str(problem)[:200])}",
        _ALLOWED,
        "copy or pack it again",
    )


def _open_without_waiting(path: str, flags: int) -> int:
    """Opening a pipe would wait for its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
