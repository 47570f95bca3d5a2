"""`metrics.jsonl`: one line of JSON for everything that was measured, in the order of the run.

Where TensorBoard is installed, its event files in ``RUN/tensorboard`` get the same numbers.
"""

import importlib.util
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Journal:
    """Appends records to a file of JSON lines, each with its step.

    Args:
        path: the file; made when absent.
        resume_step: drop what an interrupted run wrote after the checkpoint of this step, so that
            the resumed run's journal reads like an uninterrupted one's. None keeps everything.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        self.path = path
        if resume_step is not None and path.exists():
            kept = [record for record in read_journal(path) if record.get("step", 0) <= resume_step]
            _write_whole(path, kept)
        self._file = path.open("a", encoding="utf-8")
        self._curves = _open_curves(path.parent / "tensorboard", resume_step)

    def write(self, event: str, step: int, **values: Any) -> None:
        """Add one record; it is on its way to the disk when this returns."""
        self._file.write(json.dumps({"event": event, "step": step, **values}) + "\n")
        self._file.flush()
        if self._curves is not None:
            prefix = f"{event}/{values['weights']}" if "weights" in values else event
            for name, value in _numbers(values, prefix):
                self._curves.add_scalar(name, value, step)

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close it where the block ends in an error; what was written stays."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Flush to the disk and close."""
        os.fsync(self._file.fileno())
        self._file.close()
        if self._curves is not None:
            self._curves.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """All whole records of a journal; a torn last line, as a crash leaves it, is passed over."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def _open_curves(folder: Path, resume_step: int | None) -> Any:
    """TensorBoard's writer, or None where it is not installed.

    On resume it is told to forget what came after the checkpoint.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    purge = None if resume_step is None else resume_step + 1
    return SummaryWriter(folder, purge_step=purge)


def _numbers(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    """Every number of a record under a name with slashes."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}/{name}", value


def _write_whole(path: Path, records: list[dict[str, Any]]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    os.replace(temporary, path)
