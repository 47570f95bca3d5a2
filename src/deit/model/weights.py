"""Weights on disk, and from there into a model: safe to read, strict to load.

Files are safetensors, or pickles (``.pth``, ``.bin``) read so that nothing in them can execute.
What else belongs to a classifier (class names, preprocessing) is not decided here.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from deit.errors import UserError
from deit.model.formats import State, to_our_names
from deit.model.resolution import ResizeMethod, grid_size_of, resize_pos_embed
from deit.model.variants import VisionTransformerConfig, name_of_shape, num_heads_of_width
from deit.model.vision_transformer import VisionTransformer

_FILES_IN_FOLDER = ("model.safetensors", "pytorch_model.bin")
_CONTAINERS = {"raw": ("model", "state_dict"), "ema": ("model_ema", "state_dict_ema")}


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state as safetensors; the file appears whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    unfinished = path.with_name(f"{path.name}.unfinished")
    safetensors.torch.save_file(tensors, unfinished, metadata={"format": "pt"})
    os.replace(unfinished, path)


def save_reference(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state as the reference does: ``{"model": state}``, pickled by torch."""
    torch.save({"model": {name: tensor.detach().cpu() for name, tensor in state.items()}}, path)


def load_weights(path: Path, which: Literal["raw", "ema"] = "raw") -> State:
    """The state in a file of ours, of the reference, timm or transformers, under our names.

    Args:
        path: a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, or a folder in timm's or
            transformers' form, that is, with a ``model.safetensors`` or ``pytorch_model.bin``.
        which: of a training checkpoint that has both, the raw weights or their moving average.

    Raises:
        UserError: when there is no such file, when it is damaged, when it would have to execute
            code to be read, or when it does not hold the weights asked for.
    """
    path = _weights_file(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    return to_our_names(_find_state(content, which, path))


def load_into(
    model: nn.Module, state: Mapping[str, Tensor], resize: ResizeMethod = "reference"
) -> None:
    """Copy a state into a model, strictly: every name and every shape must fit.

    Only position embeddings of another image size are adapted, see
    `deit.model.resolution.resize_pos_embed`. For another set of classes, load into a model with the
    classes of the state, and call its ``reset_classifier`` afterwards.

    Args:
        model: what the weights go into.
        state: tensors under our names, as `load_weights` gives.
        resize: how position embeddings are resized where the grids differ.

    Raises:
        UserError: names everything that is missing, unexpected or of another shape.
    """
    state = dict(state)
    if isinstance(model, VisionTransformer):
        pos_embed, num_learned = state.get("pos_embed"), _num_learned_tokens(state)
        fits = num_learned == model.config.num_learned_tokens
        if fits and pos_embed is not None and pos_embed.ndim == 3:  # else `_require_fit` tells
            state["pos_embed"] = resize_pos_embed(
                pos_embed, model.config.grid_size, num_learned, resize
            )
    _require_fit(model.state_dict(), state)
    model.load_state_dict(state)


def infer_config(
    state: Mapping[str, Tensor], num_heads: int | None = None
) -> VisionTransformerConfig:
    """The configuration that a state of a vision transformer was made with, read from its shapes.

    Args:
        state: tensors under our names, as `load_weights` gives.
        num_heads: attention heads, which shapes do not tell; None: as in the named models of the
            same width.

    Raises:
        UserError: when the state is no vision transformer's, or its width is not a named model's
            and ``num_heads`` is not given.
    """
    unusable = [
        name
        for name, ndim in _NEEDED_TO_INFER.items()
        if name not in state or state[name].ndim != ndim or 0 in state[name].shape
    ]
    if unusable:
        raise UserError(
            f"weights without a usable {', '.join(unusable)}",
            "weights of a DeiT or ViT in the reference's, timm's or transformers' names",
            "give the model's configuration along with other weights",
        )
    embed_dim, in_chans, patch_size, _ = state["patch_embed.proj.weight"].shape
    num_learned = _num_learned_tokens(state)
    config = VisionTransformerConfig(
        name=f"vit_{embed_dim}_patch{patch_size}",
        img_size=patch_size * grid_size_of(state["pos_embed"], num_learned),
        patch_size=patch_size,
        in_chans=in_chans,
        num_classes=len(state["head.weight"]),
        embed_dim=embed_dim,
        depth=len({name.split(".")[1] for name in state if name.startswith("blocks.")}),
        num_heads=_usual_num_heads(embed_dim) if num_heads is None else num_heads,
        mlp_ratio=len(state["blocks.0.mlp.fc1.weight"]) / embed_dim,
        second_token="distillation" if num_learned == 2 else "none",
    )
    return replace(config, name=name_of_shape(config) or config.name)


_NEEDED_TO_INFER = {  # with their number of axes
    "patch_embed.proj.weight": 4,
    "pos_embed": 3,
    "head.weight": 2,
    "blocks.0.mlp.fc1.weight": 2,
}


def _num_learned_tokens(state: Mapping[str, Tensor]) -> int:
    return 2 if "dist_token" in state else 1


def _usual_num_heads(embed_dim: int) -> int:
    num_heads = num_heads_of_width(embed_dim)
    if num_heads is None:
        raise UserError(
            f"weights of width {embed_dim}, which no named model has",
            "num_heads, which weights do not tell",
            "give num_heads (often the width divided by 64)",
        )
    return num_heads


def _weights_file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in _FILES_IN_FOLDER:
        if (path / name).is_file():
            return path / name
    given = (
        f"{path}: a folder without weights, and no run"
        if path.is_dir()
        else f"{path}: no such file"
    )
    raise UserError(
        given,
        f"a .safetensors, .pth, .pt or .bin file, or a folder with {' or '.join(_FILES_IN_FOLDER)}",
        "check the path",
    )


def _read_safetensors(path: Path) -> State:
    try:
        return dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: {error}", "a whole safetensors file", "copy or download it again"
        ) from error


def _read_pickle(path: Path) -> Any:
    # argparse.Namespace is what the reference keeps its options in: it stores what it is given.
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can raise anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path} cannot be read safely: {reason}",
            "tensors in plain dictionaries, as torch.save writes a state dict",
            "convert it to .safetensors where you trust it; nothing in it was executed",
        ) from error


def _find_state(content: Any, which: Literal["raw", "ema"], path: Path) -> State:
    """The dictionary of tensors within whatever surrounds it in a checkpoint."""
    if not isinstance(content, Mapping):
        raise UserError(
            f"{path} holds a {type(content).__name__}",
            "a dictionary of tensors",
            "check that it is a checkpoint of a model",
        )
    for key in _CONTAINERS[which]:
        if isinstance(content.get(key), Mapping):
            return _require_tensors(content[key], f"{path}: {key}")
    if which == "raw":
        return _require_tensors(content, str(path))
    raise UserError(
        f"{path} has no moving average (EMA) of the weights",
        f"a checkpoint with {' or '.join(_CONTAINERS['ema'])}",
        "read the raw weights",
    )


def _require_tensors(content: Mapping[Any, Any], where: str) -> State:
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{where}: {name!r} is a {type(value).__name__}",
                "tensors under their names",
                "check that it is a checkpoint of a model",
            )
    return dict(content)


def _require_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    misshaped = [
        f"{name} {list(state[name].shape)} for {list(own[name].shape)}"
        for name in own.keys() & state.keys()
        if state[name].shape != own[name].shape
    ]
    faults = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": sorted(misshaped),
    }
    said = [f"{fault}: {_some_of(names)}" for fault, names in faults.items() if names]
    if not said:
        return
    only_heads = all(name.startswith("head") for names in faults.values() for name in names)
    raise UserError(
        f"the weights do not fit the model; {'; '.join(said)}",
        "the same names and shapes; only pos_embed is resized",
        "build the model with the classes of the weights, load, then call reset_classifier"
        if only_heads
        else "build the model from infer_config(weights), or find the weights of this model",
    )


def _some_of(names: list[str], shown: int = 6) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest
