"""What a run folder holds, read as far as it is there: unfinished runs have reports too."""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from deit import config
from deit.errors import UserError
from deit.report.gallery import Gallery, load_gallery
from deit.run.folder import RunFolder
from deit.run.journal import read_journal

HEADS = {"class": "class head", "distillation": "distillation head", "joint": "joint"}
"""The heads of a measurement in the order of tables, as people call them."""
WEIGHTS = {"raw": "last step", "ema": "averaged (EMA)"}
"""The two sets of weights of a run, as people call them."""

Plain = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Predictions:
    """The model's decision on every validation image, in columns of one length.

    Attributes:
        names: files.
        labels: true classes.
        heads: decisions of the heads that exist, by "class", "distillation", "joint".
        confidences: probability that the model gave to its decision.
    """

    names: list[str]
    labels: list[str]
    heads: dict[str, list[str]]
    confidences: list[float]

    @property
    def decisions(self) -> list[str]:
        """What counts: the joint decision of two heads, or the one head's."""
        return self.heads.get("joint", self.heads["class"])


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as its folder tells it.

    Attributes:
        path: the folder.
        recipe: the recipe, as nested dictionaries.
        recipe_text: the same as the YAML file has it.
        environment: machine, versions and command; empty where it is missing.
        result: how the run ended; empty where it has not.
        journal: what was measured, in order.
        classes: class names of the model; empty where it has not been saved.
        predictions: decisions on the validation images, or None.
        gallery: the pictures that the run keeps.
        missing: what could not be read, in sentences.
    """

    path: Path
    recipe: Plain
    recipe_text: str
    environment: Plain
    result: Plain
    journal: list[dict[str, Any]]
    classes: tuple[str, ...]
    predictions: Predictions | None
    gallery: Gallery
    missing: tuple[str, ...]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The journal's records of one kind: step, evaluation ..."""
        return [record for record in self.journal if record.get("event") == kind]

    @property
    def evaluations(self) -> Plain:
        """The last measurement of each set of weights: ``{"raw": {"class": {...}, ...}, ...}``."""
        if self.result.get("evaluations"):
            return dict(self.result["evaluations"])
        return {record.get("weights", "raw"): record for record in self.events("evaluation")}

    @property
    def teacher(self) -> tuple[str, float | None]:
        """The teacher's name and its validation accuracy; empty and None where there is none."""
        measured = self.result.get("teacher") or {}
        name = recipe_value(self.recipe, "distillation.teacher") or measured.get("teacher") or ""
        return str(name), measured.get("accuracy")

    @property
    def steps_done(self) -> int | None:
        """Steps that the run has got through, as far as it is known."""
        steps = [record["step"] for record in self.journal if "step" in record]
        return int(self.result["step"]) if "step" in self.result else max(steps, default=None)

    @property
    def images_per_second(self) -> float | None:
        """Training speed: the median of what the run recorded."""
        steps = self.events("step")
        speeds = [step["images_per_second"] for step in steps if "images_per_second" in step]
        return median(speeds) if speeds else None

    @property
    def epochs_done(self) -> float:
        """Epochs that the run has got through, as far as it is known."""
        if "epoch" in self.result:
            return float(self.result["epoch"])
        return max((float(record.get("epoch", 0)) for record in self.journal), default=0.0)


def read_record(path: Path) -> RunRecord:
    """Read a run folder; only the recipe must be there.

    Raises:
        UserError: when the folder holds no run.
    """
    folder = RunFolder(path)
    if not folder.recipe.is_file() or (path / "store.json").is_file():  # which has a recipe, too
        raise UserError(f"{path} holds no run", "the folder of a run", "check the path")
    missing: list[str] = []
    environment = _read_json(folder.environment, missing, "so the machine is not known")
    result = _read_json(folder.result, missing, "so the run goes on, or was killed")
    model = _read_json(folder.weights / "model.json", missing, "so no weights have been saved")
    journal = read_journal(folder.metrics) if folder.metrics.is_file() else []
    if not journal:
        missing.append("metrics.jsonl is missing or empty, so there are no curves.")
    return RunRecord(
        path=path,
        recipe=config.read_yaml(folder.recipe),
        recipe_text=folder.recipe.read_text(encoding="utf-8"),
        environment=environment,
        result=result,
        journal=[record for record in journal if isinstance(record, dict)],
        classes=tuple(map(str, model.get("classes") or ())),
        predictions=_read_predictions(folder.predictions, missing),
        gallery=load_gallery(path),
        missing=tuple(missing),
    )


def recipe_value(recipe: Plain, dotted: str) -> Any:
    """A value of nested dictionaries by its dotted path; None where there is none.

    >>> recipe_value({"optim": {"lr": 0.1}}, "optim.lr")
    0.1
    """
    node: Any = recipe
    for key in dotted.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _read_json(path: Path, missing: list[str], consequence: str) -> Plain:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        missing.append(f"{path.name} is missing, {consequence}.")
        return {}
    except ValueError:
        missing.append(f"{path.name} is damaged.")
        return {}
    return plain if isinstance(plain, dict) else {}


def _read_predictions(path: Path, missing: list[str]) -> Predictions | None:
    if not path.is_file():
        missing.append("predictions.csv is missing, so mistakes cannot be shown.")
        return None
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values()]
        heads = {head: [row[head] for row in rows] for head in HEADS if rows and rows[0].get(head)}
        return Predictions(
            names=[row["name"] for row in rows],
            labels=[row["label"] for row in rows],
            heads={"class": [], **heads},
            confidences=list(_numbers(row["confidence"] for row in rows)),
        )
    except (KeyError, ValueError, csv.Error):
        missing.append("predictions.csv is damaged, so mistakes cannot be shown.")
        return None


def _numbers(texts: Iterable[str]) -> Iterable[float]:
    return (float(text) if text else math.nan for text in texts)
