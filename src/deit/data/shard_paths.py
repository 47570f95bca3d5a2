"""Which tar files are meant: one, a pattern in braces, several with commas, a folder of them.

``shards/train-{000..009}.tar`` says how many shards there are, so one that is missing is noticed.
"""

import difflib
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator

from deit.data.names import printable
from deit.data.tree import is_hidden, is_image_name
from deit.errors import UserError

MOST_SHARDS = 100_000
"""More than any data set has; a pattern of more is a slip of the hand."""

ALLOWED = "tar files: one, a pattern such as 'train-{000..009}.tar', several with commas"

_COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst|zstd|lz4|z)|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
_RANGE = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})")
_MOST_NAMED = 100


def find_shards(spec: str) -> list[str] | None:
    """The tar files that are meant; None where something else is.

    Whatever lies on the disk under the very name is that, with braces and commas in its name too.

    Raises:
        UserError: for shards that are missing, all of them named, or that are compressed.
    """
    whole = os.path.expanduser(spec)
    if os.path.isdir(whole):
        return _shards_in(whole)
    paths = [whole] if os.path.exists(whole) else _expanded(spec)
    packed = [path for path in paths if _COMPRESSED.search(path)]
    if packed:
        raise _compressed(packed)
    others = [path for path in paths if not _is_tar(path)]
    if len(others) == len(paths):
        _check_ending(spec, paths)
        return None
    if others:
        raise UserError(
            f"{printable(spec)}: no .tar files: {_all_named(others)}", ALLOWED, "correct the names"
        )
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise _missing(spec, paths, missing)
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise UserError(
            f"{printable(spec)}: shards that are given twice: {_all_named(twice)}",
            "each shard once",
            "correct the pattern",
        )
    return paths


def expand_braces(pattern: str) -> Iterator[str]:
    """What a shell makes of a pattern: ranges with their zeros kept, alternatives, nested or not.

    Braces without a comma or range between them stay as they are.

    >>> list(expand_braces("{train-{08..10},val}.tar"))
    ['train-08.tar', 'train-09.tar', 'train-10.tar', 'val.tar']

    Raises:
        UserError: for a brace without its partner.
    """
    start = pattern.find("{")
    if start < 0:
        if "}" in pattern:
            raise _unbalanced(pattern)
        yield pattern
        return
    stop = _partner(pattern, start)
    for middle in _alternatives(pattern[start + 1 : stop]):
        for rest in expand_braces(pattern[stop + 1 :]):
            yield pattern[:start] + middle + rest


def _partner(pattern: str, start: int) -> int:
    """Where the brace that opens at ``start`` closes."""
    depth = 0
    for place in range(start, len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[place], 0)
        if depth == 0:
            return place
    raise _unbalanced(pattern)


def _alternatives(body: str) -> Iterator[str]:
    """What stands for a pair of braces with this between them."""
    ends = _RANGE.fullmatch(body)
    if ends:
        yield from _numbers(ends[1], ends[2])
        return
    choices = _split_at_commas(body)
    for choice in choices:
        for expanded in expand_braces(choice):
            yield expanded if len(choices) > 1 else f"{{{expanded}}}"


def _numbers(first: str, last: str) -> Iterator[str]:
    """A range, up or down; all of one width where an end begins with a zero."""
    start, stop = int(first), int(last)
    padded = any(re.match(r"-?0\d", end) for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    step = 1 if stop >= start else -1
    return (f"{number:0{width}d}" for number in range(start, stop + step, step))


def _split_at_commas(text: str) -> list[str]:
    """The parts between the commas that stand in no braces."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _expanded(spec: str) -> list[str]:
    paths = (path for part in _split_at_commas(spec) for path in expand_braces(part.strip()))
    found = [os.path.expanduser(path) for path in itertools.islice(paths, MOST_SHARDS + 1)]
    if len(found) > MOST_SHARDS:
        raise UserError(
            f"{printable(spec)} stands for more than {MOST_SHARDS:,} files",
            ALLOWED,
            "correct the numbers",
        )
    return found


def _shards_in(folder: str) -> list[str] | None:
    """The shards in a folder that holds nothing else; None for a folder of folders or images."""
    try:
        with os.scandir(folder) as entries:
            names = []
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir() or is_image_name(entry.name):
                    return None
                names.append(entry.name)
    except OSError:
        return None  # the reason is given where folders are opened
    names.sort()
    packed = [name for name in names if _COMPRESSED.search(name)]
    if packed:
        raise _compressed([os.path.join(folder, name) for name in packed])
    others = [name for name in names if not _is_tar(name)]
    if len(others) == len(names):
        return None
    if others:
        raise UserError(
            f"{printable(folder)}: beside tar shards there are other files: {_all_named(others)}",
            "a folder with .tar files and nothing else",
            "move the other files away, or name the shards: 'train-{000..009}.tar'",
        )
    return [os.path.join(folder, name) for name in names]


def _is_tar(path: str) -> bool:
    return path.lower().endswith(".tar")


def _check_ending(spec: str, paths: list[str]) -> None:
    """Raise where only the ending was forgotten."""
    if spec and all(os.path.isfile(f"{path}.tar") for path in paths):
        raise UserError(
            f"{printable(spec)} is not there", ALLOWED, f"did you mean {printable(spec)}.tar?"
        )


def _missing(spec: str, paths: list[str], missing: list[str]) -> UserError:
    """All that are missing, and what the first may have been meant to be."""
    folder, name = os.path.split(missing[0])
    there = sorted(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else None
    if any(letter in spec for letter in "*?["):
        todo = "write the numbers as {000..009}, so that a missing shard is noticed"
    elif there is None:
        todo = f"check the path: there is no folder {printable(folder)}"
    else:
        given = {os.path.basename(path) for path in paths}
        tars = [name for name in there if _is_tar(name) and name not in given]
        near = difflib.get_close_matches(name, tars, n=1)
        meant = printable(os.path.join(folder, near[0])) if near else ""
        todo = f"did you mean {meant}?" if near else "check the path"
    count = f"{len(missing)} of {len(paths)} shards are" if len(paths) > 1 else "a shard is"
    return UserError(
        f"{printable(spec)}: {count} missing: {_all_named(missing)}", f"{ALLOWED}; all there", todo
    )


def _compressed(paths: list[str]) -> UserError:
    return UserError(
        f"compressed archives: {_all_named(paths)}",
        "uncompressed .tar files: in a compressed one no image can be read without all before it",
        f"unpack the compression only: gunzip {printable(paths[0])}"
        if paths[0].lower().endswith(("gz", "z"))
        else "unpack the compression only, which leaves a .tar file",
    )


def _unbalanced(pattern: str) -> UserError:
    return UserError(
        f"{printable(pattern)}: a brace without its partner", ALLOWED, "close or remove it"
    )


def _all_named(paths: list[str]) -> str:
    shown = ", ".join(map(printable, paths[:_MOST_NAMED]))
    rest = len(paths) - _MOST_NAMED
    return shown + (f" and {rest} more" if rest > 0 else "")
