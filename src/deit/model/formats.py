"""The names that other programs give to the same weights: ours to theirs and back.

A state is a dictionary of tensors under our names, which are the reference's and timm's.
"""

import re
from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from deit.errors import UserError

State: TypeAlias = dict[str, Tensor]

_WRAPPERS = ("module.", "_orig_mod.")


def to_our_names(state: Mapping[str, Tensor]) -> State:
    """A state of any of the known formats, renamed to ours; names that none knows stay as they are.

    Takes off what DistributedDataParallel and torch.compile put in front of names. Recognises both
    of transformers' layouts: on disk (that of version 4) and in memory since version 5. Its
    pooler, which no classifier uses, is left out.
    """
    ours = {_without_wrappers(name): tensor for name, tensor in state.items()}
    if any(name.endswith("embeddings.patch_embeddings.projection.weight") for name in ours):
        return _from_transformers(ours)
    return ours


def to_transformers(state: Mapping[str, Tensor]) -> State:
    """A state of ours in transformers' layout on disk, which its versions 4 and 5 read.

    With a second token the names are those of ``DeiTForImageClassificationWithTeacher``, without
    one those of ``ViTForImageClassification``: there, a plain DeiT is a ViT. Set
    ``layer_norm_eps=1e-6`` in its configuration.

    Raises:
        UserError: when the state is no vision transformer's.
    """
    if "patch_embed.proj.weight" not in state:
        raise UserError(
            "weights without patch_embed.proj.weight for transformers",
            "weights of a vision transformer",
            "export this model in another format",
        )
    prefix, heads = ("deit", _THEIR_HEADS) if "dist_token" in state else ("vit", _THEIR_ONE_HEAD)
    theirs: State = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        if stem in heads:
            theirs[f"{heads[stem]}.{kind}"] = tensor
        elif stem.endswith(".attn.qkv"):
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                third_name = f"{stem.removesuffix('qkv')}{letter}.{kind}"
                theirs[f"{prefix}.{_their_name(third_name)}"] = third.clone()
        else:
            theirs[f"{prefix}.{_their_name(name)}"] = tensor
    return theirs


def _without_wrappers(name: str) -> str:
    for prefix in _WRAPPERS * 2:  # either may be outside
        name = name.removeprefix(prefix)
    return name


_THEIR_EMBEDDINGS = {
    "cls_token": "embeddings.cls_token",
    "dist_token": "embeddings.distillation_token",
    "pos_embed": "embeddings.position_embeddings",
}
_THEIR_STEMS = {
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_THEIR_PARTS = {  # of a block, on disk
    "norm1": "layernorm_before",
    "attn.q": "attention.attention.query",
    "attn.k": "attention.attention.key",
    "attn.v": "attention.attention.value",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_THEIR_PARTS_IN_MEMORY = {  # where version 5 differs
    "attn.q": "attention.q_proj",
    "attn.k": "attention.k_proj",
    "attn.v": "attention.v_proj",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_THEIR_HEADS = {"head": "cls_classifier", "head_dist": "distillation_classifier"}
_THEIR_ONE_HEAD = {"head": "classifier"}


def _their_name(ours: str) -> str:
    """The name on disk, without prefix; ``attn.q`` and so on are the thirds of ``attn.qkv``."""
    if ours in _THEIR_EMBEDDINGS:
        return _THEIR_EMBEDDINGS[ours]
    stem, _, kind = ours.rpartition(".")
    if stem.startswith("blocks."):
        _, index, part = stem.split(".", 2)
        return f"encoder.layer.{index}.{_THEIR_PARTS[part]}.{kind}"
    return f"{_THEIR_STEMS[stem]}.{kind}"


def _from_transformers(state: State) -> State:
    ours = {}
    for name, tensor in state.items():
        bare = name.removeprefix("deit.").removeprefix("vit.")
        if not bare.startswith("pooler."):
            ours[_our_name(bare)] = tensor
    return _join_queries_keys_values(ours)


def _our_name(theirs: str) -> str:
    """Our name of either layout's; ``attn.q`` and so on are the thirds of ``attn.qkv``."""
    if theirs in _OUR_EMBEDDINGS:
        return _OUR_EMBEDDINGS[theirs]
    stem, _, kind = theirs.rpartition(".")
    block = _THEIR_BLOCK.fullmatch(stem)
    if block and block["part"] in _OUR_PARTS:
        return f"blocks.{block['index']}.{_OUR_PARTS[block['part']]}.{kind}"
    return f"{_OUR_STEMS[stem]}.{kind}" if stem in _OUR_STEMS else theirs


def _inverse(*tables: Mapping[str, str]) -> dict[str, str]:
    return {theirs: ours for table in tables for ours, theirs in table.items()}


_OUR_EMBEDDINGS = _inverse(_THEIR_EMBEDDINGS)
_OUR_PARTS = _inverse(_THEIR_PARTS, _THEIR_PARTS_IN_MEMORY)
_OUR_STEMS = _inverse(_THEIR_STEMS, _THEIR_HEADS, _THEIR_ONE_HEAD)
_THEIR_BLOCK = re.compile(r"(?:encoder\.layer|layers)\.(?P<index>\d+)\.(?P<part>.+)")


def _join_queries_keys_values(state: State) -> State:
    """Join the thirds ``attn.q``, ``attn.k`` and ``attn.v``, where all are there."""
    joined = dict(state)
    for name in state:
        stem, _, kind = name.rpartition(".")
        if stem.endswith(".attn.q"):
            block = stem.removesuffix("q")
            thirds = [f"{block}{letter}.{kind}" for letter in "qkv"]
            if joined.keys() >= set(thirds):
                joined[f"{block}qkv.{kind}"] = torch.cat([joined.pop(third) for third in thirds])
    return joined
