"""A folder on the disk as a tree, and what its class folders looked like while they were listed."""

import errno
import os
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deit.data.file_systems import Signature, is_settled, signature
from deit.data.names import printable
from deit.data.tree import is_hidden

_MOST_LINKS = 40
"""Links to links that a system follows."""


@dataclass(frozen=True, slots=True)
class DiskTree:
    """A folder on the disk as a `deit.data.tree.Tree`."""

    root: Path

    def entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        """The names in a folder, and which of them are folders or links to folders."""
        for entry in self.scan(folder):
            yield entry.name, _is_folder(entry)

    def scan(self, folder: str) -> Iterator[os.DirEntry[str]]:
        """Everything in a folder but what is hidden."""
        with os.scandir(self.path(folder)) as entries:
            for entry in entries:
                if not is_hidden(entry.name):
                    yield entry

    def identity(self, folder: str) -> Hashable:
        """Device and inode."""
        return _identity(self.path(folder))

    def above(self, folder: str) -> set[Hashable]:
        """The identities of a folder and of all that it really lies in."""
        path = Path(self.path(folder))
        return {_identity(outer) for outer in (path, *path.resolve().parents)}

    def place(self, folder: str) -> str:
        """How a folder is called in messages, printable."""
        return printable(self.path(folder))

    def path(self, folder: str) -> str:
        """Where a folder is."""
        return f"{self.root}/{folder}" if folder else str(self.root)


@dataclass(slots=True)
class WatchedTree:
    """The same, remembering all that decides what it says.

    What is listed of a folder depends on its entries, and where an entry is a link, on whether it
    leads to a folder: for one that does, on that folder's entries; for one that does not, on the
    entries of the folder in which its target is, or would be. If none of these folders has been
    changed, a second look would find the same.

    Attributes:
        seen: each of these folders, by its path below the root or, where a link leads to it, by its
            whole path, with what was seen of it before it was listed: so a change meanwhile shows.
        is_sure: whether any later change would show in what was seen.
    """

    disk: DiskTree
    now: int
    local_device: int | None
    seen: dict[str, Signature] = field(default_factory=dict)
    is_sure: bool = True

    def identity(self, folder: str) -> Hashable:
        """Device and inode."""
        identity = self.disk.identity(folder)
        if self._look(folder, self.disk.path(folder))[:2] != identity:
            self.is_sure = False
        return identity

    def entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        """The names in a folder, and which of them are folders or links to folders."""
        for entry in self.disk.scan(folder):
            is_folder = _is_folder(entry)
            if not is_folder and entry.is_symlink():
                self._follow(entry.path)
            yield entry.name, is_folder

    def above(self, folder: str) -> set[Hashable]:
        """The identities of a folder and of all that it really lies in."""
        return self.disk.above(folder)

    def place(self, folder: str) -> str:
        """How a folder is called in messages, printable."""
        return self.disk.place(folder)

    def _look(self, name: str, path: str) -> Signature:
        if name not in self.seen:
            self.seen[name] = seen = signature(path)
            self.is_sure &= is_settled(seen, self.now, self.local_device)
        return self.seen[name]

    def _follow(self, link: str) -> None:
        """Look at the folders in which a link's target is, or would be, and those between."""
        path = os.path.join(os.getcwd(), link)
        for _ in range(_MOST_LINKS):
            try:
                path = os.path.join(os.path.dirname(path), os.readlink(path).rstrip("/"))
            except OSError:
                break  # gone since
            folder = os.path.dirname(path)
            self._look(folder, folder)
            if not os.path.islink(path):
                return
        self.is_sure = False


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one. A link that leads to itself is a file, a bad one."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise
