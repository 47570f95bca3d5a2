"""The starting point of fine-tuning: a trained model, brought to the recipe's shape and classes."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from deit import artifacts
from deit.classifier import Classifier
from deit.data.classes import ClassList, listed
from deit.data.spellings import find_classes
from deit.distillation.fingerprint import weights_sha256
from deit.errors import UserError, did_you_mean
from deit.huggingface import HuggingFaceNetwork
from deit.model.adapt import adapt_weights, as_ours
from deit.model.build import build_model
from deit.model.onnx_network import OnnxNetwork
from deit.model.variants import VisionTransformerConfig
from deit.recipes.recipe import Recipe
from deit.recipes.start import StartConfig
from deit.run.checkpoint import load_newest
from deit.run.folder import RunFolder


@dataclass(frozen=True, slots=True)
class Start:
    """A model that a run can start from.

    Attributes:
        model: the recipe's network with the weights of the starting point, on the CPU.
        name: what the recipe called the starting point.
        sha256: of all its tensors with their names, before anything was changed.
        notes: what was kept, resized and made new, one sentence each.
    """

    model: nn.Module
    name: str
    sha256: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For a run's data.json."""
        return {"model": self.name, "sha256": self.sha256, "notes": list(self.notes)}


def load_start(
    recipe: Recipe, classes: ClassList, say: Callable[[str], None], resumed: Path | None = None
) -> Start | None:
    """The starting point that a recipe names; None where it names none, or where none is needed.

    Args:
        recipe: resolved, so that its class count is known.
        classes: those of the data.
        say: takes the sentences that a person should read.
        resumed: the folder of a run that is resumed. A whole checkpoint in it holds all that is
            needed; without one the start is loaded again, and must be the one of then.

    Raises:
        UserError: when there is no such model, when it does not fit the recipe, or is not the one
            that the resumed run was started from.
    """
    if not recipe.start.model or (resumed and _has_checkpoint(resumed)):
        return None
    origin = open_start(recipe.start, recipe.model)
    _require_same_normalisation(recipe, origin)
    rows, note = choose_rows(origin, classes, recipe.start.heads)
    model = build_model(recipe.model, recipe.seed)
    notes = (*origin.notes, note, *adapt_weights(origin.model, model, rows))
    start = Start(model, recipe.start.model, weights_sha256(origin.model), notes)
    if resumed:
        _require_same_start(start, resumed)
    say("\n  ".join([f"start: {recipe.start.model}", *notes]))
    return start


def open_start(start: StartConfig, wanted: Any = None) -> Classifier:
    """The model that a starting point names, as it is.

    Args:
        start: names it.
        wanted: the recipe's network; a transformer of timm's becomes one of ours unless the recipe
            wants timm's.

    Raises:
        UserError: when it cannot be read, or cannot be trained.
    """
    origin = artifacts.load_classifier(start.model, which=start.weights)
    if isinstance(origin.model, (OnnxNetwork, HuggingFaceNetwork)):
        what = "an ONNX file" if isinstance(origin.model, OnnxNetwork) else "a transformers model"
        raise UserError(
            f"start.model = {start.model}: {what} can teach, but not be trained here",
            "run folder, weights file, timm:NAME or torchvision:NAME",
            "start from the weights that it was exported from, or from a model of timm",
        )
    if wanted is None or isinstance(wanted, VisionTransformerConfig):
        origin = Classifier(
            name=origin.name,
            model=as_ours(origin.model),
            preprocess=origin.preprocess,
            classes=origin.classes,
            num_classes=origin.num_classes,
            notes=origin.notes,
        )
    return origin


def choose_rows(
    origin: Classifier, classes: ClassList, heads: str
) -> tuple[Sequence[int | None], str]:
    """Which row of its heads each class of the data keeps, and a sentence about it.

    Names decide. A model without names keeps its rows, in their order, where it has as many
    classes as the data; that is said.

    Args:
        origin: the model to start from.
        classes: those of the data.
        heads: auto, keep or new, see `deit.recipes.start.StartConfig`.

    Raises:
        UserError: with ``keep``, for classes that the model does not know.
    """
    count = len(classes)
    if heads == "new":
        return [None] * count, f"new heads for {count} classes"
    if origin.classes is None:
        return _rows_without_names(origin, count, heads)
    known = origin.classes
    rows = find_classes(classes.names, known)
    unknown = [name for name, row in zip(classes.names, rows, strict=True) if row is None]
    if unknown and heads == "keep":
        raise UserError(
            f"recipe.start.heads = keep, and {origin.name} does not know these classes of the "
            f"data: {listed(unknown)}",
            f"its own {len(known)} classes: {listed(known.names)}",
            did_you_mean(unknown[0], known.names) or "set start.heads to auto or new",
        )
    if len(unknown) == count:
        return rows, f"none of the {count} classes is known to {origin.name}: new heads"
    if unknown:
        kept = f"the heads keep their rows for {count - len(unknown)} of {count} classes"
        return rows, f"{kept}; new rows for {listed(unknown)}"
    dropped = len(known) - count
    return rows, f"the heads are kept for all {count} classes, matched by name" + (
        f"; {dropped} more that {origin.name} knows are left out" if dropped else ""
    )


def _rows_without_names(
    origin: Classifier, count: int, heads: str
) -> tuple[Sequence[int | None], str]:
    told = f"{origin.name} has {origin.num_classes} classes without names"
    if origin.num_classes == count:
        return list(range(count)), f"{told}: taken to be the data's, in their order"
    if heads == "keep":
        raise UserError(
            f"recipe.start.heads = keep: {told}, the data has {count}",
            "as many as the data has",
            "set start.heads to auto or new",
        )
    return [None] * count, f"{told}, the data has {count}: new heads"


def _require_same_normalisation(recipe: Recipe, origin: Classifier) -> None:
    ours, theirs = recipe.preprocess, origin.preprocess
    if (ours.mean, ours.std) != (theirs.mean, theirs.std):
        raise UserError(
            f"recipe.preprocess.mean = {ours.mean}, std = {ours.std}, and {origin.name} was "
            f"trained with mean {theirs.mean}, std {theirs.std}",
            "the normalisation of start.model",
            "set both as there; `deit finetune` does",
        )


def _has_checkpoint(path: Path) -> bool:
    return load_newest(RunFolder(path).checkpoints)[0] is not None


def _require_same_start(start: Start, path: Path) -> None:
    file = RunFolder(path).data
    told = json.loads(file.read_text(encoding="utf-8")).get("start", {})
    if told.get("sha256") != start.sha256:
        raise UserError(
            f"--resume, and start.model = {start.name} holds other weights than those that {path} "
            "was started from; there is no checkpoint yet that could go on without it",
            f"weights of SHA-256 {told.get('sha256')}",
            "bring the weights back as they were, or start a new run with another --out",
        )
