"""The files that a manifest names: whether they are there, and what is said where they are not."""

import os
from collections.abc import Sequence

from deit.data.classes import listed
from deit.data.manifest_rows import Rows
from deit.data.names import printable
from deit.data.tree import ENDINGS
from deit.errors import UserError


def no_files(rows: Rows) -> UserError:
    """What is said of rows whose paths lead to no file; there has to be one.

    Paths that lead to a folder are told from those that lead nowhere. The first few are named with
    their lines.
    """
    root = rows.table.folder
    missing = set(missing_files(root, rows.names))
    bad = [row for row, name in enumerate(rows.names) if name in missing]
    folders = [row for row in bad if os.path.isdir(os.path.join(root, rows.names[row]))]
    nowhere = sorted(set(bad) - set(folders))
    kinds = (("files are not there", nowhere), ("paths are folders", folders))
    count = len(rows.names)
    return UserError(
        f"{rows.table.title}: "
        + "; ".join(
            f"{len(found)} of {count} {what}: {listed(rows.names[row] for row in found)} "
            f"({rows.table.place([rows.numbers[row] for row in found])})"
            for what, found in kinds
            if found
        ),
        f"paths of files, absolute or from {printable(root)} on",
        _advice(root, rows.names[nowhere[0]]) if nowhere else "write a row for each image",
    )


def _advice(root: str, name: str) -> str:
    """What to do about a path that leads nowhere."""
    endings = [ending for ending in ENDINGS if os.path.isfile(os.path.join(root, name + ending))]
    if endings:
        return f"write the endings too: {printable(name)}{endings[0]}"
    return "write / between folders" if "\\" in name else "correct the paths"


def missing_files(root: str, names: Sequence[str]) -> list[str]:
    """The names, from a folder on, that lead to no file; found by listing each folder once.

    That asks a network drive once a folder, not once a file. What is not in the listing is asked
    for by itself: a drive may take another spelling of a name for the same.
    """
    folders: dict[str, set[str]] = {}
    missing = []
    for name in names:
        folder, stroke, file = name.rpartition("/")
        folder += stroke
        if folder not in folders:
            folders[folder] = _files_in(os.path.join(root, folder))
        if file not in folders[folder]:
            missing.append(name)
    return [name for name in missing if not os.path.isfile(os.path.join(root, name))]


def _files_in(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()
