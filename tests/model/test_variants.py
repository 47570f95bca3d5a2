"""Configurations: what is refused, what follows from the fields, what the names mean."""

import sys
from subprocess import run

import pytest
import torch

from deit.config import from_plain, to_plain
from deit.errors import UserError
from deit.model.variants import (
    ConvNetConfig,
    VisionTransformerConfig,
    ZooConfig,
    named_config,
    num_heads_of_width,
    variant_names,
)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"img_size": 225}, "model.img_size = 225 with model.patch_size = 16"),
        ({"num_heads": 5}, "model.embed_dim = 192 with model.num_heads = 5"),
        ({"depth": 0}, "model.depth = 0"),
        ({"patch_size": 0}, "model.patch_size = 0"),
        ({"num_classes": -1}, "model.num_classes = -1"),
        ({"in_chans": 4}, "model.in_chans = 4"),
        ({"drop_path_rate": 1.0}, "model.drop_path_rate = 1.0"),
        ({"drop_rate": float("nan")}, "model.drop_rate = nan"),
        ({"layer_norm_eps": 0.0}, "model.layer_norm_eps = 0.0"),
        ({"mlp_ratio": 0.3}, "model.mlp_ratio = 0.3 with model.embed_dim = 192"),
        ({"mlp_ratio": float("inf")}, "model.mlp_ratio = inf"),
    ],
)
def test_shapes_that_cannot_be_are_refused_by_the_name_of_the_field(fields, said):
    """Before anything is built, and with all the fields that are at odds."""
    with pytest.raises(UserError) as caught:
        VisionTransformerConfig(**fields)
    assert caught.value.given.startswith(said)


@pytest.mark.parametrize("blocks", [(), (2, 0)])
def test_convnet_without_blocks_is_refused(blocks):
    """Each stage needs a block."""
    with pytest.raises(UserError, match=r"model\.blocks"):
        ConvNetConfig(blocks=blocks)


@pytest.mark.parametrize("name", ["resnet18", "timm:", "tim:resnet18", "hub:resnet18"])
def test_zoo_name_tells_its_library(name):
    """A prefix that is no library of ours is refused without asking any."""
    with pytest.raises(UserError, match="timm:NAME or torchvision:NAME"):
        ZooConfig(name=name)


def test_grey_images_need_timm():
    """torchvision's models have no option for channels."""
    with pytest.raises(UserError, match="use timm:resnet18"):
        ZooConfig(name="torchvision:resnet18", in_chans=1)


def test_drop_rates_grow_linearly_as_in_the_reference():
    """The reference takes torch.linspace(0, rate, depth)."""
    rates = VisionTransformerConfig(depth=12, drop_path_rate=0.1).drop_path_rates
    torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.1, 12))
    assert VisionTransformerConfig(depth=1, drop_path_rate=0.1).drop_path_rates == (0.0,)


def test_sequence_length_counts_learned_tokens_and_patches():
    """197 places at 224 px, 198 with a second token, 578 of them at 384 px."""
    assert named_config("deit_tiny_patch16_224").num_tokens == 197
    assert named_config("deit_tiny_distilled_patch16_224").num_tokens == 198
    assert named_config("deit_base_distilled_patch16_384").num_tokens == 578


@pytest.mark.parametrize("name", variant_names())
def test_every_named_configuration_survives_a_file(name):
    """To plain values and back; the name says patch and image size."""
    config = named_config(name)
    assert config.name == name
    assert from_plain(type(config), to_plain(config), "model") == config
    if isinstance(config, VisionTransformerConfig):
        assert name.endswith(f"_patch{config.patch_size}_{config.img_size}")
        assert ("distilled" in name) == (config.second_token == "distillation")
        assert num_heads_of_width(config.embed_dim) == config.num_heads


def test_paper_names_are_timms():
    """Everything we call deit_{tiny,small,base} or vit_ exists in timm under that name."""
    import timm

    sizes = ("deit_tiny_", "deit_small_", "deit_base_", "vit_")
    ours = [name for name in variant_names() if name.startswith(sizes)]
    not_in_timm = {  # the paper fine-tunes only B at 384
        f"deit_{size}{token}_patch16_384"
        for size in ("tiny", "small")
        for token in ("", "_distilled")
    }
    missing = {name for name in ours if not timm.is_model(name)}
    assert len(ours) == 16
    assert missing == not_in_timm


def test_unknown_name_is_answered_with_the_nearest():
    """A typing error costs one line of reading."""
    with pytest.raises(UserError, match=r"did you mean deit_tiny_patch16_224\?"):
        named_config("deit_tiny_patch16_22")


def test_unknown_field_is_answered_with_the_nearest():
    """timm's spelling of fields is ours; others are refused."""
    with pytest.raises(UserError, match=r"did you mean model\.img_size\?"):
        named_config("deit_tiny_patch16_224", image_size=32)


def test_configurations_load_without_torch():
    """The command line lists models before it pays for torch."""
    code = "import sys, deit.model.variants; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
