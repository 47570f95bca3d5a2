"""`deit data prepare`: the images of a data set made smaller once, into tar shards.

A shard holds a fixed range of a split's images, is written under another name and takes its own
when it is whole. So an interrupted preparation goes on with the shards that are missing, and its
result is, byte for byte, that of one that was left alone.
"""

import contextlib
import fcntl
import json
import shutil
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import simplejpeg

from deit import __version__
from deit.data.check import leave_out
from deit.data.dataset import DataSet, Source, pixel_limit
from deit.data.images import BadImage
from deit.data.names import Names, printable, stable_hash
from deit.data.prepared import BEGUN, DESCRIPTION, FORMAT, SPLITS, shards_of, write_list
from deit.data.shrinking import ShrinkConfig, shrink_image
from deit.data.threads import ticker
from deit.distributed import available_cores
from deit.errors import RunError, UserError
from deit.programs.prepare import fingerprint
from deit.programs.prepared_shards import Threads, report_of, write_shard
from deit.run.folder import write_json

IMAGES_PER_SHARD = 2_048
"""About 64 MB at 256 pixels: the most that an interruption loses, minutes of work. ImageNet makes
651 shards, more than are kept open: the others are opened for a read, as files of a folder are."""

_SAMPLED = 64

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A store that was made.

    Attributes:
        path: its folder.
        images: how many it holds.
        made: how many of them were made now, not by an earlier call that was interrupted.
        smaller: how many of all have fewer pixels than the original.
        bad: the images that could not be used.
        bytes_before: of the original's files; None where it has none.
        bytes_after: of the shards.
        seconds: what making images took now.
        difference: what training on the store changes, where that was asked for.
    """

    path: Path
    images: int
    made: int
    smaller: int
    bad: Sequence[BadImage]
    bytes_before: int | None
    bytes_after: int
    seconds: float
    difference: dict[str, Any] | None


def prepare_data(
    data: DataSet,
    source: str,
    path: Path,
    config: ShrinkConfig,
    *,
    threads: int | None = None,
    difference: Callable[[], dict[str, Any]] | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Write a prepared store; see `deit.data.prepared` for what is in it.

    Args:
        data: the images, opened.
        source: what the user calls them.
        path: the store's folder: new, empty, or one that was begun with the same arguments.
        config: how images are made smaller.
        threads: how many work at once; by default one per core.
        difference: measures what training on the store changes; kept in its description.
        progress: told the number of images done and of all that are to be done.

    Raises:
        UserError: when the folder holds something else or another preparation, when there is too
            little room on the disk, or when some class has no usable image.
    """
    with _only_here(path, _settings(data, source, config)):
        missing = _missing_shards(path, data)
        todo = sum(stop - start for _, start, stop in missing.values())
        _check_room(path, data, todo, config)
        tick = ticker(progress, todo)
        began = time.perf_counter()
        try:
            with Threads(threads or available_cores()) as pool:
                for shard, (split, start, stop) in missing.items():
                    indices = range(start, stop)
                    write_shard(shard, data.splits()[split], split, indices, config, pool, tick)
            seconds = time.perf_counter() - began
            kept, bad, before = _gather(path, data)
            prepared = Prepared(
                path=path,
                images=len(kept.train) + len(kept.val),
                made=todo - _left_out(missing),
                smaller=sum(_report(shard)["smaller"] for shard in _shards(path)),
                bad=bad,
                bytes_before=before,
                bytes_after=sum(shard.stat().st_size for shard in _shards(path)),
                seconds=seconds,
                difference=difference() if difference else None,
            )
            _describe(prepared, kept, _settings(data, source, config))
            _tidy(path)
            return prepared
        except OSError as error:
            raise RunError(
                f"{printable(str(path))} cannot be written: {error.strerror}. What is there is "
                "kept: give the same command again to go on"
            ) from error


def _settings(data: DataSet, source: str, config: ShrinkConfig) -> dict[str, Any]:
    """What decides the bytes of a store."""
    return {
        "source": source,
        **asdict(config),
        "images_per_shard": IMAGES_PER_SHARD,
        "max_pixels": pixel_limit(data.train),
        "deit": __version__,
        "pillow": PIL.__version__,
        "simplejpeg": simplejpeg.__version__,
        "data": fingerprint(data),
    }


@contextlib.contextmanager
def _only_here(path: Path, settings: dict[str, Any]) -> Iterator[None]:
    """Claim the folder for a preparation with these settings, a new one or one that was begun."""
    begun = path / BEGUN
    if not begun.is_file():
        _check_empty(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_json(begun, settings)
        except OSError as error:
            raise UserError(
                f"--out {printable(str(path))}: {error.strerror}",
                "a writable place",
                "choose another",
            ) from error
    with begun.open("r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"--out {printable(str(path))} is being prepared by another process",
                "one at a time",
                "wait for it, or choose another folder",
            ) from error
        _check_same(path, json.load(file), settings)
        yield


def _check_empty(path: Path) -> None:
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        whole = (path / DESCRIPTION).is_file()
        raise UserError(
            f"--out {printable(str(path))} exists already"
            f"{' and is a prepared store' if whole else ''}",
            "a new or empty folder, or one whose preparation was interrupted",
            "use it, or choose another" if whole else "choose another",
        )


def _check_same(path: Path, begun: dict[str, Any], settings: dict[str, Any]) -> None:
    changed = [name for name in settings if begun.get(name) != settings[name]]
    if changed:
        said = ", ".join(
            f"{name} was {begun.get(name)}, is {settings[name]}"
            if name != "data"
            else "other images"
            for name in changed
        )
        raise UserError(
            f"--out {printable(str(path))} was begun in another way: {said}",
            "the arguments, images and versions it was begun with",
            "give those, or choose another folder",
        )


def _missing_shards(path: Path, data: DataSet) -> dict[Path, tuple[str, int, int]]:
    """Split and range of images of every shard that is not there yet."""
    missing = {}
    for split, source in data.splits().items():
        for number, start in enumerate(range(0, len(source), IMAGES_PER_SHARD)):
            shard = path / f"{split}-{number:03d}.tar"
            if not (shard.is_file() and report_of(shard).is_file()):
                missing[shard] = (split, start, min(start + IMAGES_PER_SHARD, len(source)))
    return missing


def _left_out(shards: Iterable[Path]) -> int:
    """How many images of these shards could not be used."""
    return sum(len(_report(shard)["bad"]) for shard in shards)


def _report(shard: Path) -> dict[str, Any]:
    """What was found while a shard was written."""
    report: dict[str, Any] = json.loads(report_of(shard).read_text("utf-8"))
    return report


def _check_room(path: Path, data: DataSet, todo: int, config: ShrinkConfig) -> None:
    """Raise where the images that are to be made will not fit on the disk, judging by a sample."""
    lengths = []
    for index in sample_images(data.train, _SAMPLED).tolist():
        with contextlib.suppress(BadImage):
            lengths.append(len(shrink_image(data.train, index, config)[0]))
    needed = int(todo * (np.mean(lengths) + 2 * tarfile.BLOCKSIZE)) if lengths else 0
    free = shutil.disk_usage(path).free
    if needed > free:
        raise UserError(
            f"--out {printable(str(path))}: about {needed / 1e9:,.1f} GB will be written, and "
            f"{free / 1e9:,.1f} GB are free",
            "a disk with more room",
            "choose another folder, or a smaller --size or --quality",
        )


def sample_images(source: Source, count: int) -> np.ndarray:
    """Indices of some images, the same in every call: those whose names hash lowest."""
    order = np.argsort(stable_hash(source.names, "prepare"), kind="stable")
    return np.sort(order[:count])


def _shards(path: Path) -> list[Path]:
    return [shard for split in SPLITS for shard in shards_of(path, split)]


def _gather(path: Path, data: DataSet) -> tuple[DataSet, list[BadImage], int | None]:
    """Write the list of images; the data without the bad ones, these, and the bytes of all files.

    Raises:
        UserError: when a class has no usable image.
    """
    reports = [_report(shard) for shard in _shards(path)]
    bad = [BadImage(**problem) for report in reports for problem in report["bad"]]
    kept = leave_out(data, bad)
    splits = data.splits().items()
    write_list(path, {name: (Names.of(split.names), split.labels) for name, split in splits})
    before = [report["before"] for report in reports]
    return kept, bad, None if None in before else sum(before)


def _describe(prepared: Prepared, kept: DataSet, settings: dict[str, Any]) -> None:
    """Write what makes the store whole."""
    shards = {
        split: [
            {"name": shard.name, "bytes": shard.stat().st_size}
            for shard in shards_of(prepared.path, split)
        ]
        for split in SPLITS
    }
    described = {
        "format": FORMAT,
        **settings,
        "images": {name: len(split) for name, split in kept.splits().items()},
        "bytes_before": prepared.bytes_before,
        "bytes_after": prepared.bytes_after,
        "bad_images": [{"name": bad.name, "reason": bad.reason} for bad in prepared.bad],
        "notes": list(kept.notes),
        "difference": prepared.difference,
        "shards": shards,
    }
    write_json(prepared.path / DESCRIPTION, described)


def _tidy(path: Path) -> None:
    """Remove what was only there for going on after an interruption."""
    for leaving in [*path.glob(".*.json"), *path.glob(".*.part"), *path.glob(".*.tmp")]:
        leaving.unlink()
    (path / BEGUN).unlink()
