"""What every named model must do, and every shape that a configuration allows."""

import functools
from dataclasses import replace

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deit.model.build import build_model
from deit.model.variants import VisionTransformerConfig, named_config, variant_names
from deit.model.vision_transformer import VisionTransformer
from deit.model.weights import infer_config, load_into

TRANSFORMERS = [name for name in variant_names() if not name.startswith("convnet")]
SMALL = [name for name in variant_names() if "nano" in name or name.startswith("convnet")]


@functools.cache
def on_meta(config):
    """The model without memory: shapes only."""
    with torch.device("meta"):
        return VisionTransformer(config)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_named_transformer_gives_logits_for_its_own_size(name):
    """Both heads where there are two, for the number of classes that was asked for."""
    config = named_config(name, num_classes=12, in_chans=1)
    images = torch.empty(2, 1, config.img_size, config.img_size, device="meta")
    heads = on_meta(config)(images)
    assert heads.cls.shape == (2, 12)
    assert (None if heads.dist is None else heads.dist.shape) == (
        (2, 12) if "distilled" in name else None
    )


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_weights_alone_tell_the_named_transformer(name):
    """A bare weights file is enough: shapes give the configuration back, its name included."""
    config = named_config(name, num_classes=12, in_chans=1)
    expected = replace(config, name=name.replace("vit_base", "deit_base"))  # the same shape
    assert infer_config(on_meta(config).state_dict()) == expected


@pytest.mark.parametrize("name", [name for name in TRANSFORMERS if timm.is_model(name)])
def test_state_is_timms_by_names_and_shapes(name):
    """So files of ours load in timm, and the other way round, with nothing renamed."""
    with torch.device("meta"):
        theirs = timm.create_model(name)
    ours = on_meta(named_config(name, num_classes=1000))
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_of_a_small_model_learns(name):
    """A finite gradient reaches all parameters, and is zero nowhere by construction."""
    config = named_config(name, num_classes=3)
    model = build_model(config, seed=0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    images = torch.randn(2, 3, config.img_size, config.img_size)
    heads = model(images)
    loss = sum(head.logsumexp(-1).sum() for head in heads if head is not None)
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@settings(max_examples=25, deadline=None)
@given(
    patch_size=st.integers(1, 9),
    grid_size=st.integers(1, 6),
    in_chans=st.sampled_from([1, 3]),
    num_classes=st.integers(1, 20),
    num_heads=st.integers(1, 3),
    depth=st.integers(1, 3),
    distilled=st.booleans(),
)
def test_any_shape_agrees_with_timm(
    patch_size, grid_size, in_chans, num_classes, num_heads, depth, distilled
):
    """Image, patch, class and channel counts at will; timm's class of the same shape referees."""
    config = VisionTransformerConfig(
        img_size=patch_size * grid_size,
        patch_size=patch_size,
        in_chans=in_chans,
        num_classes=num_classes,
        embed_dim=16 * num_heads,
        num_heads=num_heads,
        depth=depth,
        second_token="distillation" if distilled else "none",
    )
    name = "deit_tiny_distilled_patch16_224" if distilled else "deit_tiny_patch16_224"
    shared = (
        "img_size",
        "patch_size",
        "in_chans",
        "num_classes",
        "embed_dim",
        "depth",
        "num_heads",
    )
    theirs = timm.create_model(name, **{key: getattr(config, key) for key in shared}).eval()
    ours = build_model(config, seed=0).eval()
    load_into(ours, theirs.state_dict())
    images = torch.randn(2, in_chans, config.img_size, config.img_size)
    with torch.no_grad():
        torch.testing.assert_close(ours(images).mean_logits(), theirs(images), rtol=1e-5, atol=1e-5)
    assert infer_config(ours.state_dict(), num_heads).img_size == config.img_size
