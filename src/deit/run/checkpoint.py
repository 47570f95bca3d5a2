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

_NAME = re.compile(r"step-(\d{8})")
_PARTS = ("tensors.safetensors", "state.json")


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
    """Write a checkpoint durably, then remove all but the ``keep`` newest.

    Returns:
        The folder of the new checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{checkpoint.step:08d}"
    temporary = folder / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    contiguous = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    save_file(contiguous, temporary / _PARTS[0])
    state = {"format": "deit-checkpoint/1", "step": checkpoint.step, **checkpoint.state}
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
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
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
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        for part in _PARTS:
            if _sha256(path / part) != manifest[part]:
                raise ValueError(f"{path / part} is damaged: its checksum differs")
        state = json.loads((path / _PARTS[1]).read_text(encoding="utf-8"))
        tensors = load_file(path / _PARTS[0])
    except (OSError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not whole: {error}") from error
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
