"""One tree of folders from the members of many tar shards."""

from collections.abc import Hashable, Iterator, Sequence

from deit.data.names import printable
from deit.data.tar_index import Member
from deit.errors import UserError


class Folder:
    """Its folders by name, and its files by name with their numbers."""

    __slots__ = ("files", "folders")

    def __init__(self) -> None:
        self.folders: dict[str, Folder] = {}
        self.files: dict[str, int] = {}


class ShardTree:
    """The members of all shards as one `deit.data.tree.Tree`.

    Args:
        title: how the data are called in messages.
        paths: the tar files.

    Attributes:
        top: what is in no folder.
    """

    def __init__(self, title: str, paths: Sequence[str]) -> None:
        self.top = Folder()
        self._title = printable(title)
        self._paths = paths
        self._places: list[tuple[int, int, int]] = []

    def add(self, shard: int, member: Member, parts: tuple[str, ...]) -> None:
        """Put a file or folder into the tree.

        Raises:
            UserError: for a file that is there already, naming both shards.
        """
        folder = self.top
        for name in parts if member.kind == "folder" else parts[:-1]:
            folder = folder.folders.setdefault(name, Folder())
        if member.kind == "folder":
            return
        number = folder.files.setdefault(parts[-1], len(self._places))
        if number < len(self._places):
            first = self._paths[self._places[number][0]]
            raise UserError(
                f"{printable('/'.join(parts))} is twice in the data: in {printable(first)} and in "
                f"{printable(self._paths[shard])}",
                "each image in one shard, once",
                "leave one of the shards out, or pack them again",
            )
        self._places.append((shard, member.offset, member.size))

    def find(self, name: str) -> tuple[int, int, int]:
        """Shard, offset and size of a file."""
        folder, _, file = name.rpartition("/")
        return self._places[self._folder(folder).files[file]]

    def entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        """The names in a folder, and which of them are folders."""
        here = self._folder(folder)
        yield from ((name, True) for name in here.folders)
        yield from ((name, False) for name in here.files)

    def identity(self, folder: str) -> Hashable:
        """The path itself: there are no links."""
        return folder

    def above(self, folder: str) -> set[Hashable]:
        """The folder alone: none leads back to another."""
        return {folder}

    def place(self, folder: str) -> str:
        """How a folder is called in messages, printable."""
        return f"{self._title}:{printable(folder)}" if folder else self._title

    def _folder(self, path: str) -> Folder:
        folder = self.top
        for name in path.split("/") if path else ():
            folder = folder.folders[name]
        return folder
