"""A run is a folder: its layout, its name, and the rule that it is never overwritten."""

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deit import config
from deit.data.classes import listed
from deit.distillation.label_store import differences
from deit.errors import UserError
from deit.recipes.recipe import Recipe, load_recipe, save_recipe

RESUME_MAY_CHANGE = ("run.workers", "run.log_steps", "run.keep_checkpoints")
"""Fields of a recipe that decide nothing that is computed: a resumed run may change them."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The places inside a run's folder.

    Attributes:
        path: the folder itself.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe, YAML."""
        return self.path / "recipe.yaml"

    @property
    def environment(self) -> Path:
        """Machine, versions and command, JSON."""
        return self.path / "environment.json"

    @property
    def data(self) -> Path:
        """What identifies the data: classes, counts and sums, JSON."""
        return self.path / "data.json"

    @property
    def metrics(self) -> Path:
        """The journal, one JSON record a line."""
        return self.path / "metrics.jsonl"

    @property
    def result(self) -> Path:
        """How the run ended, JSON."""
        return self.path / "result.json"

    @property
    def predictions(self) -> Path:
        """The final model's decision on every validation image, CSV."""
        return self.path / "predictions.csv"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """Folder of last, ema and best weights with their model.json."""
        return self.path / "weights"


def default_folder(recipe: Recipe) -> Path:
    """``runs/<recipe>-<data>-<time>``, for runs that were given no folder."""
    data = re.sub(r"[^A-Za-z0-9]+", "-", Path(recipe.data.source).name or "data")[:60].strip("-")
    name = re.sub(r"[^A-Za-z0-9]+", "-", recipe.name or "run").strip("-")
    return Path("runs") / f"{name}-{data}-{time.strftime('%Y%m%d-%H%M%S')}"


def check_new(path: Path) -> None:
    """Refuse a folder in which something already stands.

    Raises:
        UserError: when the folder exists and is not empty, or is a file, or cannot be written.
    """
    if path.is_file():
        raise UserError(f"--out {path} is a file", "a folder", "choose another --out")
    if path.is_dir() and any(path.iterdir()):
        is_run = (path / "recipe.yaml").exists()
        raise UserError(
            f"--out {path} exists already{' and holds a run' if is_run else ''}",
            "a new folder: runs are never overwritten",
            "add --resume to go on with it, or choose another --out"
            if is_run
            else "choose another --out",
        )
    parent = next(folder for folder in (path, *path.parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        raise UserError(f"--out {path} cannot be made", "a writable place", "choose another --out")


def create(
    path: Path, recipe: Recipe, environment: dict[str, Any], data: dict[str, Any] | None = None
) -> RunFolder:
    """Make a run's folder and keep recipe, environment and the data's fingerprint in it."""
    check_new(path)
    folder = RunFolder(path)
    try:
        folder.checkpoints.mkdir(parents=True)
        folder.weights.mkdir()
        write_json(folder.environment, environment)
        write_json(folder.data, data or {})
        save_recipe(folder.recipe, recipe)  # last: a folder with a recipe is a run
    except OSError as error:
        raise UserError(f"--out {path}: {error}", "a writable place", "choose another") from error
    return folder


def open_run(path: Path) -> tuple[RunFolder, Recipe]:
    """An existing run and its recipe.

    Raises:
        UserError: when the folder holds no run.
    """
    folder = RunFolder(path)
    if not folder.recipe.is_file() or (path / "store.json").is_file():
        raise UserError(
            f"{path} holds no run",
            "the folder of a run that was started before",
            "check the path; without --resume a new run begins",
        )
    return folder, load_recipe(folder.recipe)


def check_same_recipe(old: Recipe, new: Recipe, path: Path) -> None:
    """Refuse to resume a run with a recipe that would make it another run.

    Raises:
        UserError: lists every field that differs and may not.
    """
    changed = [
        difference
        for difference in config.differences(old, new)
        if difference.path not in RESUME_MAY_CHANGE
    ]
    if changed:
        listed = "\n  ".join(f"recipe.{difference}" for difference in changed)
        raise UserError(
            f"--resume with a changed recipe; {path} was started with other values:\n  {listed}",
            f"the recipe of the run; only {', '.join(RESUME_MAY_CHANGE)} may change",
            "leave the changed options out, or start a new run with another --out",
        )


def check_same_data(path: Path, data: dict[str, Any]) -> None:
    """Refuse to resume a run with other data than it was started with.

    Args:
        path: the run's folder.
        data: what `fingerprint` says of the present data, or a part of it.

    Raises:
        UserError: says what differs: classes, counts, or the contents of which split.
    """
    file = RunFolder(path).data
    try:
        old = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"--resume, and {file} cannot be read: {error}",
            "a run folder with its data.json",
            "start a new run with another --out",
        ) from error
    changed = [_difference(name, old.get(name), new) for name, new in data.items()]
    differences = [text for text in changed if text]
    if differences:
        lines = "\n  ".join(differences)
        raise UserError(
            f"--resume with changed data; {path} was started with other images:\n  {lines}",
            "the data that the run was started with",
            "bring the data back as it was, or start a new run with another --out",
        )


def _difference(name: str, old: Any, new: Any) -> str:
    """What differs in one entry of data.json, in words; empty where nothing does."""
    if old == new:
        return ""
    if name == "teacher":
        return "\n  ".join(differences(old, new, "teacher"))
    if old is None:
        return f"{name}: not recorded in data.json"
    if isinstance(old, list) and isinstance(new, list):
        what = {"classes": "classes", "left_out": "images left out"}[name]
        gone, come = (sorted(set(a) - set(b)) for a, b in ((old, new), (new, old)))
        return (
            f"{what}: {len(old)} then, {len(new)} now; no longer there: {listed(gone) or '-'}; "
            f"new: {listed(come) or '-'}"
        )
    if isinstance(old, dict) and old.get("images") != new["images"]:
        return f"{name}: {old.get('images')} images then, {new['images']} now"
    return f"{name}: as many images, with other names or labels"


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
