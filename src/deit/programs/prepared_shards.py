"""Writing one tar shard of a prepared store: images made smaller in threads, in order."""

import functools
import io
import os
import tarfile
import urllib.parse
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from deit.data.dataset import Source
from deit.data.images import BadImage
from deit.data.shrinking import ShrinkConfig, Shrunk, shrink_image
from deit.run.folder import write_json

_CHUNK = 16  # images that a thread takes at a time

_Shrunk = list[tuple[int, Shrunk | BadImage]]


class Threads(ThreadPoolExecutor):
    """A pool whose results come in order, and few of them ahead: a slow disk fills no memory."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._ahead = 4 * threads

    def in_order(
        self, work: Callable[[range], _Shrunk], chunks: Sequence[range]
    ) -> Iterator[_Shrunk]:
        """The results of all chunks, in their order."""
        running: deque[Future[_Shrunk]] = deque()
        try:
            for chunk in chunks:
                running.append(self.submit(work, chunk))
                if len(running) > self._ahead:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def report_of(shard: Path) -> Path:
    """What was found while a shard was written: until all are whole, then it is removed."""
    return shard.with_name(f".{shard.name}.json")


def write_shard(
    path: Path,
    source: Source,
    split: str,
    indices: range,
    config: ShrinkConfig,
    pool: Threads,
    tick: Callable[[int], None],
) -> None:
    """One shard under its final name, and beside it what was found."""
    bad, before, has_files, smaller = [], 0, True, 0
    chunks = [indices[first : first + _CHUNK] for first in range(0, len(indices), _CHUNK)]
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for shrunk in pool.in_order(functools.partial(_shrink, source, config), chunks):
                for index, result in shrunk:
                    if isinstance(result, BadImage):
                        bad.append({"name": result.name, "reason": result.reason})
                        continue
                    data, ending, num_bytes, shrunk_now = result
                    smaller += shrunk_now
                    before, has_files = before + (num_bytes or 0), num_bytes is not None
                    archive.addfile(_header(source, split, index, ending, data), io.BytesIO(data))
                tick(len(shrunk))
        file.flush()
        os.fsync(file.fileno())
    found = {"bad": bad, "before": before if has_files else None, "smaller": smaller}
    write_json(report_of(path), found)
    os.replace(temporary, path)


def _shrink(source: Source, config: ShrinkConfig, indices: range) -> _Shrunk:
    results: _Shrunk = []
    for index in indices:
        try:
            results.append((index, shrink_image(source, index, config)))
        except BadImage as problem:
            results.append((index, BadImage(problem.name, problem.reason)))
    return results


def _header(source: Source, split: str, index: int, ending: str, data: bytes) -> tarfile.TarInfo:
    """The same for the same image, whenever it is made."""
    class_name = os.fsencode(source.classes.names[source.labels[index]])
    folder = urllib.parse.quote(class_name, safe=" ").replace(".", "%2E")
    header = tarfile.TarInfo(f"{split}/{folder}/{index:08d}{ending}")
    header.size = len(data)
    return header
