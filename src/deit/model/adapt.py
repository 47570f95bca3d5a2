"""Weights of one model in another of the same architecture: other classes, image size, tokens.

What fits is copied, buffers such as BatchNorm's statistics included. What cannot be copied is made
in one stated way, and a sentence says so.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deit.errors import UserError
from deit.model.build import ZooModel, build_model
from deit.model.convnet import ConvNet
from deit.model.variants import VisionTransformerConfig, named_config, variant_names
from deit.model.vision_transformer import VisionTransformer
from deit.model.weights import load_into

MAY_DIFFER = ("name", "img_size", "num_classes", "second_token", "drop_rate", "drop_path_rate")
"""Fields of a configuration that weights of another value can be brought to, or that they do not
depend on."""


def adapt_weights(source: nn.Module, target: nn.Module, rows: Sequence[int | None]) -> list[str]:
    """Copy the weights of ``source`` into ``target``, and say what was kept, resized and made.

    * Position embeddings are resized bicubically (`deit.model.resolution.resize_pos_embed`).
    * Heads keep the rows that ``rows`` names; the others stay as ``target`` has them, that is, as
      its initialisation drew them.
    * A second token that the source lacks becomes a copy of its class token plus what the target's
      initialisation drew (std 0.02), without which two tokens of one target could never part; its
      position embedding and its head are those of the class token. So the model starts about where
      the source stands, and its second head starts able.
    * A second token that the target lacks is dropped with its position and its head.

    Args:
        source: the trained model.
        target: a model of the same architecture with fresh parameters; changed in place.
        rows: for each class of the target, its row in the heads of the source, or None.

    Returns:
        Sentences for the user.

    Raises:
        UserError: when the architectures differ in more than `MAY_DIFFER`, or a network of fixed
            image size is asked for another.
    """
    _require_same_architecture(source, target)
    state, fresh, notes = dict(source.state_dict()), target.state_dict(), list[str]()
    if isinstance(source, VisionTransformer) and isinstance(target, VisionTransformer):
        notes += _fit_second_token(state, source, target)
        old, new = source.config, target.config
        if old.grid_size != new.grid_size:
            notes.append(
                f"position embeddings resized from {old.grid_size} x {old.grid_size} to "
                f"{new.grid_size} x {new.grid_size} patches ({old.img_size} to {new.img_size} px)"
            )
    for head in head_names(target):
        for name in fresh:
            if name.startswith(f"{head}."):
                state[name] = _chosen_rows(state[name], fresh[name], rows)
    _require_fixed_shapes(state, fresh, target)
    load_into(target, state)
    return notes


def head_names(model: nn.Module) -> tuple[str, ...]:
    """The names of a model's classifying layers, the second head after the first.

    >>> config = named_config("deit_tiny_distilled_patch16_224", num_classes=2, depth=1)
    >>> head_names(build_model(config, 0))
    ('head', 'head_dist')

    Raises:
        UserError: for a network of others that ends in no layer with one row per class.
    """
    if isinstance(model, VisionTransformer):
        return ("head",) if model.head_dist is None else ("head", "head_dist")
    if isinstance(model, ConvNet):
        return ("fc",)
    assert isinstance(model, ZooModel)
    if model.config.library == "timm":
        told: Any = model.network.pretrained_cfg
        named = told["classifier"]
        names = [named] if isinstance(named, str) else list(named)
    else:  # torchvision's families name it differently, but it always comes last
        own = [n for n, module in model.network.named_modules() if module._parameters]
        names = own[-1:]
    for name in names:
        weight = getattr(model.network.get_submodule(name), "weight", None)
        if weight is None or len(weight) != model.num_classes:
            raise UserError(
                f"{model.config.name}: its last layer {name} has no row for each class",
                "a network that ends in a linear layer or a convolution",
                "start from another network",
            )
    return tuple(f"network.{name}" for name in names)


def as_ours(model: nn.Module) -> nn.Module:
    """A transformer of timm that is also ours by name, with its weights; other models themselves.

    timm builds it for one image size; ours can be brought to another.
    """
    if not isinstance(model, ZooModel) or model.config.library != "timm":
        return model
    name = model.config.architecture.partition(".")[0]
    if name not in variant_names():
        return model
    told = model.config
    config = dataclasses.replace(
        named_config(name),
        img_size=told.img_size,
        in_chans=told.in_chans,
        num_classes=told.num_classes,
    )
    ours = build_model(config, 0)
    load_into(ours, model.network.state_dict())
    return ours.eval()


def _fit_second_token(
    state: dict[str, Tensor], source: VisionTransformer, target: VisionTransformer
) -> list[str]:
    """Add what a second token needs, or take it away; nothing where both models have it or not."""
    has, wants = source.dist_token is not None, target.dist_token is not None
    if has and not wants:
        for name in ("dist_token", "head_dist.weight", "head_dist.bias"):
            del state[name]
        positions = state["pos_embed"]  # [1, class token, second token, patches]
        state["pos_embed"] = torch.cat([positions[:, :1], positions[:, 2:]], dim=1)
        return ["the second token, its position and its head are left out"]
    if has or not wants:
        return []
    assert target.dist_token is not None
    drawn = target.dist_token.detach()
    positions = state["pos_embed"]  # [1, class token, patches]
    state["dist_token"] = state["cls_token"] + drawn.to(state["cls_token"])
    state["pos_embed"] = torch.cat([positions[:, :1], positions], dim=1)
    for part in ("weight", "bias"):
        state[f"head_dist.{part}"] = state[f"head.{part}"]
    return [
        "a second token was added: the class token's copy plus noise of its initial size "
        "(std 0.02), with the class token's position and head"
    ]


def _chosen_rows(old: Tensor, fresh: Tensor, rows: Sequence[int | None]) -> Tensor:
    """The rows of ``old`` that are named, in their new places; elsewhere those of ``fresh``."""
    chosen = fresh.clone()
    for place, row in enumerate(rows):
        if row is not None:
            chosen[place] = old[row].to(fresh)
    return chosen


def _require_same_architecture(source: nn.Module, target: nn.Module) -> None:
    ours = getattr(source, "config", None)
    wanted: Any = target.config
    if ours is None or type(ours) is not type(wanted):
        raise UserError(
            f"a start of kind {getattr(ours, 'kind', type(source).__name__)} for "
            f"recipe.model.kind = {wanted.kind}",
            "weights of the recipe's own network",
            "set recipe.model to the network of start.model; `deit finetune` does",
        )
    free = MAY_DIFFER if isinstance(wanted, VisionTransformerConfig) else _FREE[wanted.kind]
    differing = [
        f"{field.name} = {getattr(wanted, field.name)!r} (start: {getattr(ours, field.name)!r})"
        for field in dataclasses.fields(wanted)
        if field.name not in free and getattr(wanted, field.name) != getattr(ours, field.name)
    ]
    if differing:
        raise UserError(
            f"recipe.model differs from the network of start.model: {', '.join(differing)}",
            f"the same but for {', '.join(free)}",
            "set recipe.model to the network of start.model; `deit finetune` does",
        )


_FREE = {
    "convnet": ("name", "img_size", "num_classes"),
    "zoo": ("img_size", "num_classes", "pretrained"),
}


def _require_fixed_shapes(
    state: dict[str, Tensor], fresh: dict[str, Tensor], target: nn.Module
) -> None:
    """Networks of others whose parameters depend on the image size cannot change it."""
    if not isinstance(target, ZooModel):
        return
    for name, tensor in fresh.items():
        if name not in state or state[name].shape != tensor.shape:
            raise UserError(
                f"{target.config.name} at {target.config.img_size} px: {name} does not fit the "
                "weights, which are for another image size",
                "the size that the network was built for",
                "leave --img-size out, or start from a convnet or a DeiT",
            )
