"""Weights files: every format read, nothing executed, nothing loaded that does not fit."""

import argparse
import os
import pickle
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from torch import nn

from deit.errors import UserError
from deit.model.build import build_model, create_model
from deit.model.resolution import resize_pos_embed
from deit.model.variants import named_config
from deit.model.weights import (
    infer_config,
    load_into,
    load_weights,
    save_reference,
    save_weights,
)


@pytest.fixture(scope="module")
def state():
    """Random weights of a small distilled model."""
    return create_model("deit_nano_distilled_patch2_8", num_classes=3).state_dict()


def same(first, second):
    """Whether two states hold the same names and numbers."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


@pytest.mark.parametrize(
    "name", ["deit_nano_patch2_8", "convnet_small", "timm:resnet10t", "torchvision:resnet18"]
)
def test_weights_of_every_kind_survive_a_file(name, tmp_path):
    """Written from one model, read into another, which then is the first."""
    config = named_config(name, num_classes=3)
    first, second = build_model(config, seed=0), build_model(config, seed=1)
    save_weights(first.state_dict(), tmp_path / "w.safetensors")
    load_into(second, load_weights(tmp_path / "w.safetensors"))
    assert same(first.state_dict(), second.state_dict())
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_reference_file_is_read_and_written(state, tmp_path):
    """``{"model": state}``, as the reference publishes its weights."""
    save_reference(state, tmp_path / "ours.pth")
    assert same(torch.load(tmp_path / "ours.pth", weights_only=True)["model"], state)
    assert same(load_weights(tmp_path / "ours.pth"), state)


def test_reference_training_checkpoint_is_read_with_its_namespace(state, tmp_path):
    """It pickles argparse's Namespace, which plain weights_only loading refuses."""
    average = {name: tensor + 1 for name, tensor in state.items()}
    options = argparse.Namespace(lr=5e-4, model="deit_tiny_patch16_224", nested=[1, "a"])
    checkpoint = {"model": state, "model_ema": average, "epoch": 7, "args": options, "scaler": {}}
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    with pytest.raises(pickle.UnpicklingError, match="Namespace"):
        torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    assert same(load_weights(tmp_path / "checkpoint.pth"), state)
    assert same(load_weights(tmp_path / "checkpoint.pth", "ema"), average)


def test_timm_checkpoint_is_read(state, tmp_path):
    """timm's train.py writes state_dict and state_dict_ema."""
    average = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": average, "version": 2}, tmp_path / "a.pth")
    assert same(load_weights(tmp_path / "a.pth"), state)
    assert same(load_weights(tmp_path / "a.pth", "ema"), average)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_wrappers_names_are_taken_off(state, tmp_path, prefix):
    """DistributedDataParallel and torch.compile, in either order."""
    torch.save({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "a.pth")
    assert same(load_weights(tmp_path / "a.pth"), state)


def test_missing_average_is_refused(state, tmp_path):
    """Rather than the raw weights in its place."""
    save_reference(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match="no moving average"):
        load_weights(tmp_path / "a.pth", "ema")


class Hostile:
    """Makes a folder when it is unpickled by a trusting reader."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("place", ["instead", "beside", "within", "in the options"])
def test_pickled_code_is_refused_and_not_executed(state, tmp_path, place):
    """Wherever it hides in a checkpoint, also inside the Namespace that is let through."""
    trap = Hostile(tmp_path / "executed")
    content = {
        "instead": trap,
        "beside": {"model": state, "epoch": trap},
        "within": {"model": {**state, "extra": trap}},
        "in the options": {"model": state, "args": argparse.Namespace(lr=trap)},
    }[place]
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match="cannot be read safely"):
        load_weights(tmp_path / "a.pth")
    assert not (tmp_path / "executed").exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert (tmp_path / "executed").exists(), "the trap does not work"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
@pytest.mark.parametrize("kept", [0, 7, 300, -100])
def test_damaged_file_is_named(state, tmp_path, suffix, kept):
    """Empty, or cut off in the header or the data: one message, with the path."""
    path = tmp_path / f"a{suffix}"
    write = save_weights if suffix == ".safetensors" else save_reference
    write(state, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=f"a{suffix}"):
        load_weights(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "holds a list"),
        ({"epoch": 3}, "'epoch' is a int"),
        ({"model": {"head.weight": 3.0}}, "'head.weight' is a float"),
        ({0: torch.zeros(1)}, "0 is a Tensor"),
    ],
)
def test_file_without_weights_is_refused(tmp_path, content, said):
    """It can be read, but is no model."""
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=said):
        load_weights(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_folder_is_read_by_the_name_of_its_file(state, tmp_path, name):
    """As timm and transformers write them."""
    write = save_weights if name.endswith("safetensors") else save_reference
    write(state, tmp_path / name)
    assert same(load_weights(tmp_path), state)


def test_missing_file_and_folder_without_weights_are_told_apart(tmp_path):
    """The path is part of the message."""
    with pytest.raises(UserError, match=r"nothing\.pth: no such file"):
        load_weights(tmp_path / "nothing.pth")
    with pytest.raises(UserError, match="a folder without weights"):
        load_weights(tmp_path)


def test_what_does_not_fit_is_named(state):
    """Missing, unexpected and of another shape, all at once; the model stays as it was."""
    model = create_model("deit_nano_distilled_patch2_8", num_classes=3, seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wrong = {**state, "head.bias": torch.zeros(4), "extra.weight": torch.zeros(1)}
    del wrong["norm.bias"], wrong["dist_token"], wrong["head_dist.weight"]
    with pytest.raises(UserError) as caught:
        load_into(model, wrong)
    said = caught.value.given
    assert "missing: dist_token, head_dist.weight, norm.bias" in said
    assert "unexpected: extra.weight" in said
    assert "of another shape: head.bias [4] for [3]" in said
    assert same(model.state_dict(), before)


def test_long_lists_of_names_are_cut(state):
    """Six names and how many more."""
    with pytest.raises(UserError, match=r"missing: blocks\.0\..* and 41 more"):
        load_into(
            create_model("deit_nano_distilled_patch2_8", num_classes=3),
            {name: tensor for name, tensor in state.items() if "blocks" not in name}
            | {"blocks.0.norm1.weight": torch.zeros(64)}
            | {f"blocks.{index}.extra": torch.zeros(1) for index in range(6)},
        )


def test_other_class_count_points_to_new_heads(state):
    """The message says how: with the classes of the weights, then new heads."""
    with pytest.raises(UserError) as caught:
        load_into(create_model("deit_nano_distilled_patch2_8", num_classes=9), state)
    assert "reset_classifier" in caught.value.todo


@pytest.mark.parametrize("method", ["reference", "timm"])
def test_position_embeddings_follow_the_models_grid(state, method):
    """Loading at another image size, the first step of fine-tuning there; all else is equal."""
    config = named_config("deit_nano_distilled_patch2_8", num_classes=3, img_size=12)
    model = build_model(config, seed=1)
    load_into(model, state, method)
    expected = resize_pos_embed(state["pos_embed"], 6, 2, method)
    assert same(model.state_dict(), {**state, "pos_embed": expected})


def test_shapes_tell_a_configuration_that_has_no_name(state):
    """Another image size and depth: the shape is found, the name says what it is."""
    config = replace(
        named_config("deit_nano_distilled_patch2_8", num_classes=3),
        img_size=10,
        depth=2,
        mlp_ratio=1.5,
    )
    found = infer_config(build_model(config, seed=0).state_dict())
    assert found == replace(config, name="vit_64_patch2")


def test_heads_must_be_told_for_an_unknown_width():
    """Shapes do not tell them, and a guess would give other logits without a word."""
    config = named_config("deit_nano_patch2_8", num_classes=3, embed_dim=80, num_heads=5)
    state = build_model(config, seed=0).state_dict()
    with pytest.raises(UserError, match="width 80"):
        infer_config(state)
    assert infer_config(state, num_heads=5).num_heads == 5
    with pytest.raises(UserError, match=r"model\.num_heads"):
        infer_config(state, num_heads=3)


@pytest.mark.parametrize(
    "change",
    [
        {"pos_embed": torch.zeros(5)},
        {"patch_embed.proj.weight": torch.zeros(3, 4)},
        {"head.weight": torch.zeros(0, 64)},
        {"blocks.0.mlp.fc1.weight": None},
    ],
)
def test_configuration_of_strange_weights_is_refused(state, change):
    """With a message, not an index error."""
    changed = {**state, **change}
    strange = {name: tensor for name, tensor in changed.items() if tensor is not None}
    with pytest.raises(UserError, match=next(iter(change))):
        infer_config(strange)


def test_strange_position_embeddings_are_refused(state):
    """Of another number of axes, or of no square grid."""
    model = create_model("deit_nano_distilled_patch2_8", num_classes=3)
    for strange in (torch.zeros(5), torch.zeros(1, 17, 64)):
        with pytest.raises(UserError, match="pos_embed"):
            load_into(model, {**state, "pos_embed": strange})


def test_tied_and_strided_tensors_can_be_saved(tmp_path):
    """safetensors refuses tensors that are not contiguous; a model may hold some."""
    save_weights({"a": torch.arange(6.0).reshape(2, 3).T}, tmp_path / "a.safetensors")
    found = safetensors.torch.load_file(tmp_path / "a.safetensors")["a"]
    assert torch.equal(found, torch.arange(6.0).reshape(2, 3).T)


def test_loading_casts_to_the_models_precision(state):
    """Half-precision files into float32 models."""
    model = create_model("deit_nano_distilled_patch2_8", num_classes=3)
    load_into(model, {name: tensor.half() for name, tensor in state.items()})
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert isinstance(model.cls_token, nn.Parameter)
