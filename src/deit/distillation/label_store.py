"""The teacher in two bytes: its word on every view, kept in files that many runs read.

A store is a folder. ``store.json`` tells what the labels belong to; ``epoch-00000.labels`` and so
on hold one row per position of an epoch: the decision, and where asked for the confidence and the
largest probabilities. Rows start as unfilled (every bit set) and are written once. A row is written
label last, so that a writer which is killed leaves rows that are right or unfilled, nothing else.

Beside an epoch that is complete stands its seal, ``epoch-00000.json`` with a SHA-256: bytes that no
longer agree with it are refused. Several processes may read and write one store.

The idea of keeping a teacher's answers with the views they belong to is that of FKD (Shen and Xing,
ECCV 2022), TinyViT (Wu et al., ECCV 2022) and dataset reinforcement (Faghri et al., ICCV 2023).
They keep the views; here a view is a function of its place, and only the answer is kept.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from deit.distillation.label_rows import RowFormat, Rows
from deit.errors import RunError, UserError

FORMAT = "deit-labels/1"
"""What a store.json of this version calls itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreHeader:
    """What a store says of itself.

    Attributes:
        classes: names of the classes, in the order that labels count them.
        positions: rows of an epoch.
        rows: what a row holds.
        identity: what the labels belong to: data, views, teacher. Other runs must agree with it.
        made_with: versions and device that the answers were computed with.
        examination: what the gate measured of the teacher (`deit.measuring.gate`).
    """

    classes: tuple[str, ...]
    positions: int
    rows: RowFormat
    identity: dict[str, Any]
    made_with: dict[str, Any]
    examination: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """For store.json."""
        return {"format": FORMAT, **asdict(self)}


class LabelStore:
    """Labels by (epoch, position); see the module for the files.

    Args:
        path: the store's folder.
        header: what its store.json says.
        length: positions of an epoch that the present run uses; complete epochs are sealed. By
            default all.
    """

    def __init__(self, path: Path, header: StoreHeader, length: int | None = None) -> None:
        self.path = path
        self.header = header
        self.length = header.positions if length is None else length
        self._reading: dict[int, Rows] = {}
        self._writing: dict[int, Rows] = {}

    @classmethod
    def create(cls, path: Path, header: StoreHeader, length: int | None = None) -> "LabelStore":
        """A new store; of several processes that create it at once, one does.

        Raises:
            UserError: when the folder holds something else, or cannot be written.
        """
        if (path / "store.json").exists():
            return cls.open(path, length)
        if path.is_file() or (path.is_dir() and any(_foreign_files(path))):
            raise UserError(
                f"{path} exists already and holds no labels", "a new folder", "choose another"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            with _locked(path):
                if not (path / "store.json").exists():
                    text = json.dumps(header.to_json(), indent=1) + "\n"
                    write_whole(path / "store.json", text.encode())
        except OSError as error:
            raise UserError(f"{path}: {error}", "a writable place", "choose another") from error
        return cls.open(path, length)

    @classmethod
    def open(cls, path: Path, length: int | None = None) -> "LabelStore":
        """An existing store.

        Raises:
            UserError: when the folder holds none, or one of another format.
        """
        file = path / "store.json"
        if not file.is_file():
            raise UserError(
                f"{path} holds no stored labels (no store.json)",
                "a folder that `deit label` or `deit distill --labels` has filled",
                "check the path; `deit label DATA --teacher T --out DIR` makes one",
            )
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            if told.pop("format", None) != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            told["rows"] = RowFormat(**told["rows"])
            told["classes"] = tuple(told["classes"])
            header = StoreHeader(**told)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file} cannot be read: {error}", "a store of this version", "record it anew"
            ) from error
        return cls(path, header, length)

    @property
    def epochs(self) -> list[int]:
        """Epochs of which something was recorded."""
        return sorted(int(file.stem.partition("-")[2]) for file in self.path.glob("epoch-*.labels"))

    def read(
        self, epoch: int, positions: Int64[np.ndarray, "views"]
    ) -> tuple[Rows, Bool[np.ndarray, "views"]]:
        """The rows at some positions of an epoch, and which of them are filled.

        Raises:
            RunError: when the epoch's file is damaged.
        """
        rows = self.header.rows.empty(len(positions))
        stored = self._writing.get(epoch)
        stored = self._open_for_reading(epoch) if stored is None else stored
        if stored is not None:
            inside = positions < len(stored)
            rows[inside] = stored[positions[inside]]
        filled = self.header.rows.filled(rows)
        if (rows["label"][filled] >= self.header.rows.num_classes).any():
            raise self._damaged(epoch, "a label is none of its classes")
        return rows, filled

    def write(self, epoch: int, positions: Int64[np.ndarray, "views"], rows: Rows) -> None:
        """Fill in rows. Those that are filled already stay as they are.

        Args:
            epoch: the epoch that the views belong to.
            positions: places in the epoch, each once.
            rows: from `RowFormat.encode`.
        """
        stored = self._open_for_writing(epoch)
        with _locked(self.path):
            new = ~self.header.rows.filled(stored[positions])
            if not new.any():
                return
            self._seal(epoch).unlink(missing_ok=True)
            places = positions[new]
            for name in reversed(self.header.rows.dtype.names or ()):  # the label last: it counts
                stored[name][places] = rows[name][new]

    def count(self, epoch: int) -> int:
        """How many of the first `length` positions of an epoch are filled."""
        return int(self.read(epoch, np.arange(self.length))[1].sum())

    def flush(self) -> None:
        """Bring what was written to the disk, and seal the epochs that are complete."""
        for epoch, stored in list(self._writing.items()):
            assert isinstance(stored, np.memmap)
            stored.flush()
            if self.count(epoch) == self.length:
                with _locked(self.path):
                    stored.flush()
                    seal = {"sha256": _sha256(stored), "rows": self.length}
                    write_whole(self._seal(epoch), (json.dumps(seal) + "\n").encode())
                del self._writing[epoch]

    def check(self) -> dict[int, str]:
        """What is wrong with the files of damaged epochs; reads all of them."""
        problems = {}
        for epoch in self.epochs:
            try:
                LabelStore(self.path, self.header, self.length).count(epoch)
            except RunError as error:
                problems[epoch] = str(error)
        return problems

    def num_bytes(self) -> int:
        """What the store takes on the disk."""
        return sum(file.stat().st_size for file in self.path.iterdir() if file.is_file())

    def _file(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:05d}.labels"

    def _seal(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:05d}.json"

    def _open_for_reading(self, epoch: int) -> Rows | None:
        """The rows of an epoch, compared with their seal; None where nothing was recorded."""
        if epoch not in self._reading:
            stored = self._map(epoch, "r")
            if stored is None:  # perhaps another process is about to make it
                return None
            self._reading = {epoch: stored}  # one at a time: a run goes through them in turn
        return self._reading[epoch]

    def _open_for_writing(self, epoch: int) -> Rows:
        if epoch not in self._writing:
            stored = self._map(epoch, "r+")
            if stored is None:
                self._create_epoch(epoch)
                stored = self._map(epoch, "r+")
            assert stored is not None
            self._writing[epoch] = stored
        return self._writing[epoch]

    def _create_epoch(self, epoch: int) -> None:
        with _locked(self.path):
            if not self._file(epoch).exists():
                write_whole(
                    self._file(epoch), self.header.rows.empty(self.header.positions).tobytes()
                )

    def _map(self, epoch: int, mode: Any) -> Rows | None:
        file = self._file(epoch)
        if not file.is_file():
            return None
        expected = self.header.positions * self.header.rows.dtype.itemsize
        if file.stat().st_size != expected:
            raise self._damaged(epoch, f"{file.stat().st_size} bytes instead of {expected}")
        stored: Rows = np.memmap(file, dtype=self.header.rows.dtype, mode=mode)
        with _locked(self.path, exclusive=False):
            if self._seal(epoch).is_file():
                self._compare(epoch, stored)
        return stored

    def _compare(self, epoch: int, stored: Rows) -> None:
        try:
            seal = json.loads(self._seal(epoch).read_text(encoding="utf-8"))
            agrees = seal["sha256"] == _sha256(stored)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(epoch, f"its seal cannot be read: {error}") from error
        if not agrees:
            raise self._damaged(epoch, "its bytes are not those that were sealed")

    def _damaged(self, epoch: int, what: str) -> RunError:
        return RunError(
            f"{self._file(epoch)} is damaged: {what}\n"
            f"  to do:   remove it and {self._seal(epoch).name}, and record this epoch again with "
            "`deit label`"
        )


def differences(then: Any, now: Any, where: str = "") -> list[str]:
    """In what two identities differ, one line each.

    >>> differences({"views": {"seed": 0, "flip": 0.5}}, {"views": {"seed": 1, "flip": 0.5}})
    ['views.seed: 0 then, 1 now']
    """
    if isinstance(then, dict) and isinstance(now, dict):
        below = f"{where}." if where else ""
        return [
            line
            for name in then | now
            for line in differences(then.get(name), now.get(name), f"{below}{name}")
        ]
    if then == now:
        return []
    if all(isinstance(value, str) and _DIGEST.fullmatch(value) for value in (then, now)):
        return [f"{where}: not the same"]
    return [f"{where}: {_short(then)} then, {_short(now)} now"]


_DIGEST = re.compile(r"[0-9a-f]{64}")  # says nothing to a person


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]} ..."


def _sha256(rows: Rows) -> str:
    return hashlib.sha256(rows.tobytes()).hexdigest()


def _foreign_files(path: Path) -> Iterator[Path]:
    """Files that no store has."""
    known = ("lock", "recipe.yaml")
    return (file for file in path.iterdir() if file.name not in known and file.name[:5] != ".new-")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, and stays after a power loss, or is not there."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _locked(path: Path, exclusive: bool = True) -> Iterator[None]:
    """Keep other writers out for a moment; the lock of a process that is killed is void.

    In a folder that may only be read nobody writes, and no lock is needed.
    """
    try:
        file = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        if exclusive:
            raise
        yield
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(file)
