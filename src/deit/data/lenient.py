"""Open data to look at them, even where training refuses them: what is wrong is then said in full.

`open_data` stops at the first thing that cannot be trained on. A check goes on: it takes what
splits there are, each over its own classes, and reports the refusal beside all else it finds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from deit.data.dataset import Source
from deit.data.folder import find_splits, scan_split
from deit.data.huggingface_sets import is_saved_set
from deit.data.limits import MAX_PIXELS
from deit.data.prepared import is_prepared
from deit.data.shard_paths import find_shards
from deit.data.shards import index_shards
from deit.data.sources import limited, open_data
from deit.data.tree import split_folders
from deit.errors import UserError


@dataclass(frozen=True, slots=True)
class Opened:
    """What could be opened.

    Attributes:
        splits: ``train``, ``val`` or both; over one class list if training takes the data.
        notes: what was decided or left out.
        refusals: what is wrong with the data, as training would say it.
    """

    splits: Mapping[str, Source]
    notes: Sequence[str]
    refusals: Sequence[UserError]


def open_leniently(spec: str, *, cache: Path | None = None, max_pixels: int = MAX_PIXELS) -> Opened:
    """Open what a user calls DATA as training would, or else as far as possible.

    Args:
        spec, cache, max_pixels: as in `open_data`.

    Raises:
        UserError: where there is nothing of that name.
    """
    try:
        data = open_data(spec, cache=cache, max_pixels=max_pixels)
    except UserError as refusal:
        return _open_in_parts(spec, refusal, max_pixels)
    return Opened(data.splits(), data.notes, [])


def _open_in_parts(spec: str, refusal: UserError, max_pixels: int) -> Opened:
    """What there is, split by split.

    Raises:
        UserError: ``refusal``, where there is nothing.
    """
    if is_prepared(spec) or is_saved_set(spec):  # no folder of images: not to be judged as one
        return Opened({}, [], [refusal])
    try:
        paths = find_shards(spec)
    except UserError:
        raise refusal from None
    folder = Path(spec).expanduser()
    if not spec or (paths is None and not folder.exists()):
        raise refusal
    try:
        if paths is not None:
            shards = index_shards(spec, paths)
            opened = _scanned(split_folders(shards.tree), shards.scan, shards.notes, refusal)
            return _limited(opened, max_pixels)
        if folder.is_dir():
            opened = _scanned(find_splits(folder), partial(scan_split, folder), (), refusal)
            return _limited(opened, max_pixels)
    except UserError as worse:
        return Opened({}, [], [worse])
    return Opened({}, [], [refusal])


def _limited(opened: Opened, max_pixels: int) -> Opened:
    splits = {name: limited(source, max_pixels) for name, source in opened.splits.items()}
    return replace(opened, splits=splits)


def _scanned(
    folders: Mapping[str, str],
    scan: Callable[[str], tuple[Source, list[str]]],
    notes: Sequence[str],
    refusal: UserError,
) -> Opened:
    """Every split that has an image; another error than the refusal is a second refusal."""
    splits: dict[str, Source] = {}
    said, refusals = [*notes], [refusal]
    for split, folder in folders.items():
        try:
            splits[split], more = scan(folder)
            said += more
        except UserError as error:
            if str(error) != str(refusal):
                refusals.append(error)
    return Opened(splits, said, refusals)
