"""Models on the disk: our own files, and the one door to every other kind.

A model of ours is ``NAME.safetensors`` beside a ``model.json`` that holds its configuration, class
names and preprocessing; all weights in a folder share it. `load_classifier` reads these, run
folders, and what `deit.foreign` can read.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deit import config
from deit.classifier import Classifier, in_order
from deit.data.classes import ClassList
from deit.data.preprocess import Preprocess
from deit.distillation.config import Vote
from deit.distillation.ensemble import Ensemble
from deit.distillation.teacher import Teacher
from deit.errors import UserError, did_you_mean
from deit.foreign import (
    class_list,
    load_foreign_weights,
    load_onnx_classifier,
    load_zoo_classifier,
    mapping,
    read_mapping,
)
from deit.huggingface import load_huggingface_classifier
from deit.model.build import build_model
from deit.model.variants import ConvNetConfig, ModelConfig, VisionTransformerConfig, ZooConfig
from deit.model.weights import load_into, load_weights, save_weights
from deit.run.folder import write_json

FORMAT = "deit/1"
"""What a model.json of this version calls itself."""

WEIGHTS = ("best", "ema", "last")
"""The weights that a run keeps: of its best evaluation, the final average, the final raw ones."""

_ALLOWED = (
    "run folder, weights file (.safetensors, .pth), folder in timm's or transformers' form, "
    "FILE.onnx, timm:NAME, torchvision:NAME or hf:ID"
)
_CONFIGS = {
    "vision-transformer": VisionTransformerConfig,
    "convnet": ConvNetConfig,
    "zoo": ZooConfig,
}


def load(spec: str | Path) -> nn.Module:
    """A model from anything that `load_classifier` reads, in evaluation mode, on the CPU.

    It carries its `Preprocess` as ``model.preprocess`` and its `ClassList` as ``model.classes``.

    Raises:
        UserError: as `load_classifier`.
    """
    classifier = load_classifier(spec)
    model = classifier.model
    model.preprocess = classifier.preprocess  # type: ignore[assignment]
    model.classes = classifier.classes  # type: ignore[assignment]
    return model


def load_classifier(spec: str | Path, *, which: str = "best") -> Classifier:
    """A model with all that belongs to it, in evaluation mode, on the CPU.

    Args:
        spec: a run folder; a weights file of ours, of the reference, timm or transformers; a folder
            in timm's or transformers' form; an ONNX file; ``timm:NAME``, ``torchvision:NAME`` or
            ``hf:ID``.
        which: the weights of a run to read, best, ema or last; of others' training checkpoints ema
            reads the moving average.

    Raises:
        UserError: when there is nothing of that name, or it cannot be read or trusted.
    """
    if which not in WEIGHTS:
        raise UserError(f"weights {which!r}", ", ".join(WEIGHTS), did_you_mean(which, WEIGHTS))
    library, _, rest = str(spec).partition(":")
    if library in ("timm", "torchvision"):
        return load_zoo_classifier(str(spec))
    if library == "hf":
        return load_huggingface_classifier(str(spec))
    path = Path(rest if library == "onnx" else spec)
    if not path.exists():
        raise UserError(f"{spec}: no such file, folder or model", _ALLOWED, _nearest(path))
    if library == "onnx" or path.suffix == ".onnx":
        return load_onnx_classifier(path)
    folder = path / "weights" if (path / "weights").is_dir() else path
    if folder.is_dir() and (folder / "model.json").is_file():
        return _load_ours(_weights_in(folder, which))
    if path.is_file() and (path.parent / "model.json").is_file():
        return _load_ours(path)
    if (path / "store.json").is_file():
        raise UserError(
            f"{path} holds stored labels, no model",
            _ALLOWED,
            f"as a teacher it is called labels:{path}",
        )
    if (path / "recipe.yaml").is_file():
        raise UserError(
            f"{path} is a run without weights", "a run that was evaluated once", "resume the run"
        )
    return load_foreign_weights(path, "ema" if which == "ema" else "raw")


def save_model(
    path: Path,
    model: nn.Module,
    model_config: ModelConfig,
    classes: ClassList | None,
    preprocess: Preprocess,
) -> None:
    """Write ``NAME.safetensors`` and the ``model.json`` beside it, which `load_classifier` reads.

    Both appear whole or not at all. Weights of another model may not share the folder.

    Args:
        path: the weights file to write.
        model: the module that ``model_config`` describes.
        model_config: its configuration.
        classes: names of its classes; None where they are unknown.
        preprocess: the evaluation transform.

    Raises:
        UserError: when the folder holds another model's model.json.
    """
    if isinstance(model_config, ZooConfig):  # these weights take the place of others
        model_config = dataclasses.replace(model_config, pretrained=False, weights_file="")
    description = {
        "format": FORMAT,
        "model": config.to_plain(model_config),
        "classes": None if classes is None else list(classes.names),
        "preprocess": preprocess.to_json(),
    }
    beside = path.parent / "model.json"
    if not beside.is_file():
        write_json(beside, description)
    elif read_mapping(beside) != description:
        raise UserError(
            f"{beside} describes another model than the one to be saved as {path.name}",
            "weights of one model in one folder",
            "choose another folder",
        )
    save_weights(model.state_dict(), path)


def load_teacher(
    spec: str | Path,
    classes: ClassList,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    vote: Vote = "mean",
) -> Teacher:
    """A teacher for these classes from anything that `load_classifier` reads, or from several.

    Args:
        spec: as for `load_classifier`, or several with commas between them, which teach as one.
        classes: the data's.
        device: where to compute.
        dtype: float32, or bfloat16 or float16 for autocast.
        vote: how several answer as one, see `deit.distillation.ensemble`.

    Raises:
        UserError: as `load_classifier`, when its classes are not those of the data, or for a vote
            of a single teacher.
    """
    members = teacher_members(spec)
    if len(members) > 1:
        teachers = [build_teacher(load_classifier(m), classes, device, dtype) for m in members]
        return Ensemble(teachers, vote)
    if vote != "mean":
        raise UserError(
            f"distillation.vote = {vote!r} with the one teacher {spec}", "mean", "name several"
        )
    return build_teacher(load_classifier(spec), classes, device, dtype)


def teacher_members(spec: str | Path) -> tuple[str, ...]:
    """The single teachers of a list with commas; a path that exists with a comma in it is one.

    >>> teacher_members("runs/a, timm:regnety_160")
    ('runs/a', 'timm:regnety_160')

    Raises:
        UserError: for an empty place in the list, or a teacher that is named twice.
    """
    text = str(spec)
    if "," not in text or Path(text.removeprefix("onnx:").removeprefix("hf:")).exists():
        return (text,)
    members = tuple(part.strip() for part in text.split(","))
    if not all(members) or len(set(members)) < len(members):
        raise UserError(
            f"teachers {text!r}",
            "different teachers with one comma between each two",
            "correct the list",
        )
    return members


def build_teacher(
    classifier: Classifier,
    classes: ClassList,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Teacher:
    """A classifier as a teacher, its logits in the order of ``classes``.

    Raises:
        UserError: when its classes are not those of the data.
    """
    match = classifier.match(classes)
    order = match.places
    same = in_order(order, classifier.num_classes)
    notes = [*classifier.notes, *match.notes(classifier.name)]
    if len(order) < classifier.num_classes:
        more = classifier.num_classes - len(order)
        notes.append(f"{classifier.name} knows {more} more classes, which are left out")
    elif not same:
        notes.append(f"{classifier.name} has its classes in another order: matched by name")
    preprocess = classifier.preprocess
    return Teacher(
        classifier.model,
        name=classifier.name,
        classes=classes.names,
        mean=preprocess.mean,
        std=preprocess.std,
        image_size=preprocess.image_size,
        order=() if same else order,
        dtype=dtype,
        notes=notes,
    ).to(device)


def _load_ours(path: Path) -> Classifier:
    """A weights file of ours with its model.json."""
    beside = path.parent / "model.json"
    told = read_mapping(beside)
    if told.get("format") != FORMAT:
        raise UserError(
            f"{beside}: format = {told.get('format')!r}",
            FORMAT,
            "read it with the version of deit that wrote it",
        )
    model_config = _model_config(mapping(told.get("model"), f"{beside}: model"), beside)
    model = build_model(model_config, 0)
    load_into(model, load_weights(path))
    return Classifier(
        name=str(path),
        model=model.eval(),
        preprocess=Preprocess.from_json(mapping(told.get("preprocess"), f"{beside}: preprocess")),
        classes=class_list(told.get("classes"), model_config.num_classes, str(beside)),
        num_classes=model_config.num_classes,
    )


def _model_config(told: dict[str, Any], beside: Path) -> ModelConfig:
    kind = told.get("kind")
    if kind not in _CONFIGS:
        raise UserError(f"{beside}: model.kind = {kind!r}", ", ".join(_CONFIGS), "")
    model_config: ModelConfig = config.from_plain(_CONFIGS[kind], told, f"{beside}: model")
    if isinstance(model_config, ZooConfig):  # whatever the file says, nothing else is read
        return dataclasses.replace(model_config, pretrained=False, weights_file="")
    return model_config


def _weights_in(folder: Path, which: str) -> Path:
    """The weights called ``which``, or the only ones in a folder of a single model."""
    names = sorted(path.stem for path in folder.glob("*.safetensors"))
    if which in names:
        return folder / f"{which}.safetensors"
    if len(names) == 1 and names[0] not in WEIGHTS:
        return folder / f"{names[0]}.safetensors"
    raise UserError(
        f"{folder} holds no weights called {which}",
        ", ".join(names) or "weights that a run has saved",
        f"name a file: {folder / names[0]}.safetensors" if names else "let the run go on",
    )


def _nearest(path: Path) -> str:
    siblings = path.parent.iterdir() if path.parent.is_dir() else ()
    return did_you_mean(path.name, [sibling.name for sibling in siblings]) or "check the path"
