"""Classifiers that others made: models of timm and torchvision, ONNX files, others' weights files.

What they do not tell about themselves (classes, normalisation) is assumed and said in their notes;
nothing is replaced by something random.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from torch import nn

from deit.classifier import Classifier
from deit.data.classes import ClassList
from deit.data.preprocess import Preprocess
from deit.data.spellings import imagenet_ids, with_imagenet_ids
from deit.errors import UserError, did_you_mean
from deit.model.build import ZooModel, build_model
from deit.model.onnx_network import OnnxNetwork
from deit.model.variants import ZooConfig
from deit.model.weights import infer_config, load_into, load_weights


def load_zoo_classifier(spec: str, *, pretrained: bool = True) -> Classifier:
    """A model of timm or torchvision with its published weights, classes and preprocessing.

    It keeps the head that its weights came with: asked for another number of classes, timm would
    give a random one without a word. A distilled DeiT of timm becomes a model of ours, so that its
    two heads are both there.

    Args:
        spec: ``timm:NAME`` or ``torchvision:NAME``.
        pretrained: False for random weights, to measure speed or to test.

    Raises:
        UserError: for an unknown name, for a model without a published head, or when its weights
            cannot be fetched.
    """
    num_classes, preprocess = _described(spec)
    if not num_classes:
        raise UserError(
            f"{spec} was published without a classifying head",
            "a model that was trained to classify",
            f"fit one to your classes: `deit teacher DATA --arch {spec}`",
        )
    config = ZooConfig(
        name=spec,
        img_size=preprocess.image_size,
        in_chans=preprocess.channels,
        num_classes=num_classes,
        pretrained=pretrained,
    )
    model = build_model(config, 0)
    return Classifier(
        name=spec,
        model=_with_both_heads(model).eval(),
        preprocess=preprocess,
        classes=ClassList(imagenet_ids()) if num_classes == 1000 else None,
        num_classes=num_classes,
        notes=() if pretrained else ("random weights: its answers mean nothing",),
    )


def published_preprocess(spec: str) -> Preprocess:
    """The preprocessing of ``timm:NAME`` or ``torchvision:NAME``, also of one without a head.

    Of an architecture that nobody has published weights of: what its library gives as usual.

    Raises:
        UserError: for an unknown name, or images that are not square.
    """
    return _described(spec)[1]


def load_onnx_classifier(path: Path) -> Classifier:
    """An ONNX file with the classes and the preprocessing that are told with it.

    A file of the same name ending in ``.json``, or else the entry ``deit`` of its metadata, may
    hold ``{"classes": [...], "preprocess": {"mean": [...], "std": [...], "crop_pct": ...}}``.
    What is missing is assumed: ImageNet's mean and standard deviation, pictures uncropped.

    Raises:
        UserError: when onnxruntime is not installed, or the file cannot be used.
    """
    network = OnnxNetwork(path)
    sidecar = path.with_suffix(".json")
    told = read_mapping(sidecar) if sidecar.is_file() else network.metadata
    where = str(sidecar if sidecar.is_file() else path)
    stray = sorted(told.keys() - {"classes", "preprocess"})
    if stray:
        raise UserError(
            f"{where}: {stray[0]!r}",
            '{"classes": [...], "preprocess": {"mean": [...], "std": [...], "image_size": ...}}',
            did_you_mean(stray[0], ("classes", "preprocess")) or "put it under preprocess",
        )
    choice = mapping(told.get("preprocess", {}), f"{where}: preprocess")
    notes = []
    if not {"mean", "std"} <= choice.keys():
        if network.channels == 1:
            raise UserError(
                f"{path} takes grey images and does not tell its normalisation",
                "mean and std in the JSON file beside it",
                f'write {{"preprocess": {{"mean": [0.5], "std": [0.5]}}}} into {sidecar}',
            )
        notes.append(
            f"{path.name} does not tell its normalisation: ImageNet's mean and standard deviation "
            f"are assumed ({sidecar.name} beside it could tell)"
        )
    size = {"image_size": network.image_size} if network.image_size else {}
    if not size and "image_size" not in choice:
        raise UserError(
            f"{path} leaves the size of its images open",
            "image_size in the JSON file beside it",
            f'write {{"preprocess": {{"image_size": 224}}}} into {sidecar}',
        )
    classes = class_list(told.get("classes"), network.num_classes, where)
    if classes is None:
        notes.append(f"{path.name} does not name its classes: the data's order is assumed")
    return Classifier(
        name=str(path),
        model=network.eval(),
        preprocess=Preprocess.from_json(
            {"crop_pct": 1.0, **choice, **size, "channels": network.channels}
        ),
        classes=classes,
        num_classes=network.num_classes,
        notes=tuple(notes),
    )


def load_foreign_weights(path: Path, which: Literal["raw", "ema"] = "raw") -> Classifier:
    """Weights of the reference, timm or transformers, with what a config.json beside them tells.

    transformers' configuration may name another LayerNorm epsilon than the reference's 1e-6; it
    is followed. Where no normalisation is told, it is the reference's.

    Args:
        path: a weights file, or a folder in timm's or transformers' form.
        which: of a training checkpoint that has both, the raw weights or their moving average.

    Raises:
        UserError: when the file cannot be read, or is not a DeiT's or ViT's.
    """
    beside = (path if path.is_dir() else path.parent) / "config.json"
    told = read_mapping(beside) if beside.is_file() else {}
    state = load_weights(path, which)
    config = infer_config(state, told.get("num_attention_heads"))
    if "layer_norm_eps" in told:
        config = dataclasses.replace(config, layer_norm_eps=float(told["layer_norm_eps"]))
    model = build_model(config, 0)
    load_into(model, state)
    choice = _told_preprocess(told, beside.with_name("preprocessor_config.json"))
    assumed = f"{path.name} does not tell its normalisation: ImageNet's is assumed"
    return Classifier(
        name=str(path),
        model=model.eval(),
        preprocess=Preprocess.from_json(
            {**choice, "image_size": config.img_size, "channels": config.in_chans}
        ),
        classes=class_list(_told_names(told), config.num_classes, str(beside)),
        num_classes=config.num_classes,
        notes=() if choice else (assumed,),
    )


def class_list(names: Any, num_classes: int, where: str) -> ClassList | None:
    """Class names from a JSON file, checked against the number of logits; None stays None.

    ImageNet's classes in words become WordNet ids, see `deit.data.spellings.with_imagenet_ids`.

    Raises:
        UserError: when it is no list of names, or one of another length.
    """
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}: classes = {names!r}", "a list of names", "correct the file")
    if len(names) != num_classes:
        raise UserError(
            f"{where} names {len(names)} classes for {num_classes} logits",
            "one name per logit, in their order",
            "correct the file",
        )
    return ClassList(with_imagenet_ids(names))


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping.

    Raises:
        UserError: when it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # bytes that are no UTF-8 are a ValueError, too
        raise UserError(f"{path}: {error}", "a JSON file", "correct it, or take it away") from error
    return mapping(content, str(path))


def mapping(content: Any, where: str) -> dict[str, Any]:
    """``content``, when it is a mapping.

    Raises:
        UserError: when it is not.
    """
    if not isinstance(content, dict):
        raise UserError(f"{where} is a {type(content).__name__}", "a mapping", "correct the file")
    return content


def _described(spec: str) -> tuple[int, Preprocess]:
    """Number of classes and preprocessing of published weights; 0 classes without a head."""
    library, _, name = spec.partition(":")
    return {"timm": _described_by_timm, "torchvision": _described_by_torchvision}[library](name)


def _described_by_timm(name: str) -> tuple[int, Preprocess]:
    import timm

    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    try:
        published = timm.get_pretrained_cfg(name)
    except RuntimeError:  # the architecture is there, the tag behind its dot is not
        tagged = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        raise _unknown("timm", name, tagged) from None
    channels, height, width = published.input_size
    if height != width:
        raise UserError(f"timm:{name} takes {height} x {width} pixels", "square images", "")
    return published.num_classes, Preprocess.from_json(
        {
            "image_size": height,
            "channels": channels,
            "crop_pct": published.crop_pct,
            "interpolation": published.interpolation,
            "mean": published.mean,
            "std": published.std,
        }
    )


def _described_by_torchvision(name: str) -> tuple[int, Preprocess]:
    import torchvision

    known = torchvision.models.list_models(torchvision.models)
    if name not in known:
        raise _unknown("torchvision", name, known)
    published = torchvision.models.get_model_weights(name).DEFAULT
    transform = published.transforms()
    (image_size,), (resized,) = transform.crop_size, transform.resize_size
    return len(published.meta["categories"]), Preprocess.from_json(
        {
            "image_size": image_size,
            "crop_pct": image_size / resized,
            "interpolation": transform.interpolation.value,
            "mean": tuple(transform.mean),
            "std": tuple(transform.std),
        }
    )


def _unknown(library: str, name: str, known: list[str]) -> UserError:
    return UserError(
        f"{library} has no model {name!r}",
        f"one of its {len(known)} names" if len(known) > 8 else ", ".join(known),
        did_you_mean(name, known) or f"look it up in {library}'s list of models",
    )


def _with_both_heads(model: nn.Module) -> nn.Module:
    """timm averages a distilled DeiT's logits in evaluation; as a model of ours it keeps both."""
    if not isinstance(model, ZooModel):
        return model
    state = model.network.state_dict()
    if not {"dist_token", "head_dist.weight", "blocks.0.attn.qkv.weight"} <= state.keys():
        return model
    ours = build_model(infer_config(state, cast(Any, model.network).blocks[0].attn.num_heads), 0)
    load_into(ours, state)
    return ours


def _told_preprocess(told: Mapping[str, Any], beside: Path) -> dict[str, Any]:
    """From timm's config.json, or from transformers' preprocessor_config.json beside it."""
    published = told.get("pretrained_cfg", told)
    wanted = ("mean", "std", "crop_pct", "interpolation")
    choice = {name: published[name] for name in wanted if name in published}
    if not choice and beside.is_file():
        theirs = read_mapping(beside)
        names = {"image_mean": "mean", "image_std": "std"}
        choice = {ours: theirs[name] for name, ours in names.items() if name in theirs}
    return choice


def _told_names(told: Mapping[str, Any]) -> list[str] | None:
    """Class names of timm's or transformers' config.json; not those that only count."""
    if "label_names" in told:
        return list(told["label_names"])
    by_index = told.get("id2label", {})
    names = [by_index[key] for key in sorted(by_index, key=int)]
    return None if not names or names[0] == "LABEL_0" else names
