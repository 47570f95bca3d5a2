"""Checkpoints that are either whole or not there: safetensors and JSON, no pickle.

A checkpoint is a folder ``step-00000123`` with ``tensors.safetensors``, ``state.json`` and
``manifest.json`` (the SHA-256 of both). It is written under a temporary name, synced to the disk
and renamed, so that a process killed at any moment leaves the earlier ones untouched.
"""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from deit.errors import UserError

_NAME = re.compile(r"step-(\d{8})")
_PARTS = ("tensors.safetensors", "state.json")
_FORMAT = "deit-checkpoint/1"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is needed to go on: named tensors, and a JSON state with the step.

    Attributes:
        step: number of finished training steps.
        tensors: model, average and optimizer under prefixed names.
        state: everything else that a run remembers, plain JSON values.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write a checkpoint durably, then remove all but the ``keep`` newest that are whole.

    Checkpoints of later steps are removed too: a resume passed them over because they are damaged.

    Returns:
        The folder of the new checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{checkpoint.step:08d}"
    temporary = folder / f".{final.name}.tmp"
    for stale in folder.glob(".step-*.tmp"):  # left by a process that was killed
        shutil.rmtree(stale)
    temporary.mkdir()
    contiguous = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    save_file(contiguous, temporary / _PARTS[0])
    state = {"format": _FORMAT, "step": checkpoint.step, **checkpoint.state}
    (temporary / _PARTS[1]).write_text(json.dumps(state, indent=1), encoding="utf-8")
    manifest = {part: _sha256(temporary / part) for part in _PARTS}
    (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in temporary.iterdir():
        _sync(path)
    _sync(temporary)
    if final.exists():  # the same step saved again, after a resume
        shutil.rmtree(final)
    os.replace(temporary, final)
    _sync(folder)
    _prune(folder, final, keep)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first; temporary folders of a killed save are no part."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint after checking its sums.

    Raises:
        ValueError: names the part that is missing or damaged.
        UserError: when it is whole, and of another format.
    """
    try:
        _check_sums(path)
        state = json.loads((path / _PARTS[1]).read_text(encoding="utf-8"))
        tensors = load_file(path / _PARTS[0])
    except (OSError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not whole: {error}") from error
    if state.get("format") != _FORMAT:  # not damaged: it must not be passed over, nor replaced
        raise UserError(
            f"{path} has format {state.get('format')}",
            _FORMAT,
            "resume it with the deit that made it",
        )
    return Checkpoint(step=state["step"], tensors=tensors, state=state)


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, and a sentence for each newer one that had to be passed over."""
    skipped: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return load_checkpoint(path), skipped
        except ValueError as error:
            skipped.append(str(error))
    return None, skipped


def _prune(folder: Path, newest: Path, keep: int) -> None:
    """Leave ``newest`` and the whole ones before it, ``keep`` in all."""
    earlier = []
    for path in reversed(list_checkpoints(folder)):
        if path.name > newest.name:
            shutil.rmtree(path)
        elif path.name < newest.name:
            earlier.append(path)
    kept = 1
    for path in earlier:
        if kept < keep and _is_whole(path):
            kept += 1
        else:
            shutil.rmtree(path)


def _is_whole(path: Path) -> bool:
    try:
        _check_sums(path)
    except (OSError, KeyError, TypeError, ValueError):
        return False
    return True


def _check_sums(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    for part in _PARTS:
        if _sha256(path / part) != manifest[part]:
            raise ValueError(f"{path / part} is damaged: its checksum differs")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
