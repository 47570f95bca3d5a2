"""The vision transformer against timm's: logits, gradients, stochastic depth, dropout, insides."""

import pytest
import timm
import torch
import torch.nn.functional as F
from scipy.stats import ks_2samp
from torch import nn

from deit.model.build import build_model
from deit.model.variants import named_config
from deit.model.weights import load_into
from deit.tensors import TwoHeads

TOLERANCE = 1e-5  # float32, for logits of the size of 1


def both(name, randomise, **fields):
    """timm's model with random parameters, and ours with the same ones."""
    theirs = randomise(timm.create_model(name, **fields))
    config = named_config(name, **{"num_classes": 1000, **fields})
    ours = build_model(config, seed=0)
    load_into(ours, theirs.state_dict())
    return ours, theirs


def timms_heads(model, images):
    """Both heads of a distilled model, which timm gives in training mode alone."""
    model.set_distilled_training(True)
    model.train()
    return TwoHeads(*model(images))


@pytest.mark.parametrize(
    "name",
    [
        "deit_tiny_patch16_224",
        "deit_small_patch16_224",
        pytest.param("deit_base_patch16_224", marks=pytest.mark.long),
        pytest.param("deit_base_patch16_384", marks=pytest.mark.long),
        pytest.param("vit_large_patch16_224", marks=pytest.mark.long),
        pytest.param("vit_large_patch16_384", marks=pytest.mark.long),
    ],
)
def test_plain_logits_equal_timms(name, randomise):
    """Every size of the paper, at full depth; base is among the distilled ones below."""
    ours, theirs = both(name, randomise)
    images = torch.randn(1, 3, ours.config.img_size, ours.config.img_size)
    with torch.no_grad():
        heads, expected = ours.eval()(images), theirs.eval()(images)
    assert heads.dist is None
    assert 0.1 < expected.std() < 10
    assert (heads.cls - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize(
    "name",
    [
        "deit_tiny_distilled_patch16_224",
        "deit_small_distilled_patch16_224",
        "deit_base_distilled_patch16_224",
        pytest.param("deit_base_distilled_patch16_384", marks=pytest.mark.long),
    ],
)
def test_logits_of_both_heads_equal_timms(name, randomise):
    """Each head for itself, and the average that timm gives in evaluation."""
    ours, theirs = both(name, randomise)
    images = torch.randn(1, 3, ours.config.img_size, ours.config.img_size)
    with torch.no_grad():
        heads, mean = ours.eval()(images), theirs.eval()(images)
        expected = timms_heads(theirs, images)
    assert (heads.cls - expected.cls).abs().max() <= TOLERANCE
    assert (heads.dist - expected.dist).abs().max() <= TOLERANCE
    assert (heads.mean_logits() - mean).abs().max() <= TOLERANCE
    assert (heads.cls - heads.dist).abs().max() > 0.1


@pytest.mark.parametrize("token", ["", "_distilled"])
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_logits_at_384_equal_timms(size, token, randomise):
    """The sizes that the paper does not fine-tune, at full depth."""
    ours, theirs = both(f"deit_{size}{token}_patch16_224", randomise, img_size=384)
    images = torch.randn(1, 3, 384, 384)
    with torch.no_grad():
        logits, expected = ours.eval()(images).mean_logits(), theirs.eval()(images)
    assert (logits - expected).abs().max() <= TOLERANCE


def test_weights_moved_to_384_give_timms_logits(randomise):
    """Load at 224, run at 384: timm resizes position embeddings as it loads, antialiased."""
    at_224 = randomise(timm.create_model("deit_tiny_patch16_224", depth=2))
    theirs = timm.create_model("deit_tiny_patch16_224", depth=2, img_size=384).eval()
    theirs.load_state_dict(
        timm.models.vision_transformer.checkpoint_filter_fn(at_224.state_dict(), theirs)
    )
    ours = build_model(
        named_config("deit_tiny_patch16_384", depth=2, num_classes=1000), seed=0
    ).eval()
    load_into(ours, at_224.state_dict(), "timm")
    images = torch.randn(1, 3, 384, 384)
    with torch.no_grad():
        assert (ours(images).cls - theirs(images)).abs().max() <= TOLERANCE


SMALL = {"img_size": 48, "depth": 3, "embed_dim": 96, "num_heads": 3, "num_classes": 7}


def test_gradients_equal_timms(randomise):
    """Of the reference's loss on both heads, in float64, for every parameter."""
    ours, theirs = both("deit_tiny_distilled_patch16_224", randomise, **SMALL)
    ours, theirs = ours.double().train(), theirs.double()
    images, labels = torch.randn(4, 3, 48, 48).double(), torch.tensor([0, 3, 6, 2])
    for heads in (ours(images), timms_heads(theirs, images)):
        loss = F.cross_entropy(heads.cls, labels) + F.cross_entropy(heads.dist, labels.flip(0))
        (loss / 2).backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-9, atol=1e-12)


class Masked(nn.Module):
    """In place of timm's DropPath: drops where it is told to."""

    def __init__(self, keep, keep_prob):
        super().__init__()
        self.keep, self.keep_prob = keep, keep_prob

    def forward(self, branch):
        return branch.div(self.keep_prob) * self.keep.view(-1, 1, 1)


def test_keep_masks_are_timms_drop_path(randomise):
    """The same masks given to timm's blocks, with timm's own rates: logits and gradients."""
    ours, theirs = both("deit_tiny_distilled_patch16_224", randomise, **SMALL, drop_path_rate=0.4)
    keep = (torch.rand(8, 3, 2, generator=torch.Generator().manual_seed(0)) < 0.6).float()
    for index, block in enumerate(theirs.blocks):
        for branch, name in enumerate(("drop_path1", "drop_path2")):
            rate = getattr(getattr(block, name), "drop_prob", 0.0)
            setattr(block, name, Masked(keep[:, index, branch], 1 - rate))
    images = torch.randn(8, 3, 48, 48)
    heads, expected = ours.train()(images, keep), timms_heads(theirs, images)
    assert (heads.cls - expected.cls).abs().max() <= TOLERANCE
    assert (heads.dist - expected.dist).abs().max() <= TOLERANCE
    for result in (heads, expected):
        (result.cls.square().sum() + result.dist.sum()).backward()
    torch.testing.assert_close(
        ours.patch_embed.proj.weight.grad, theirs.patch_embed.proj.weight.grad, rtol=1e-4, atol=1e-4
    )


def test_dropout_acts_at_timms_places(randomise):
    """Same generator, same shapes in the same order: the same logits."""
    ours, _ = both("deit_tiny_patch16_224", randomise, **SMALL, drop_rate=0.2)
    theirs = timm.create_model(
        "deit_tiny_patch16_224", **SMALL, pos_drop_rate=0.2, proj_drop_rate=0.2
    )
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(4, 3, 48, 48)
    torch.manual_seed(0)
    logits = ours.train()(images).cls
    torch.manual_seed(0)
    assert (logits - theirs.train()(images)).abs().max() <= TOLERANCE


def test_token_states_equal_timms(randomise):
    """After each block, the learned tokens included."""
    ours, theirs = both("deit_tiny_distilled_patch16_224", randomise, **SMALL)
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        states = theirs.eval().forward_intermediates(
            images, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
        )
        found = ours.eval().forward_intermediates(images, [f"tokens.{i}" for i in range(1, 4)])
    for mine, (patches, learned) in zip(found.values(), states, strict=True):
        torch.testing.assert_close(mine, torch.cat([learned, patches], 1), rtol=1e-5, atol=1e-5)


def test_features_equal_timms(randomise):
    """timm's forward_features: all tokens after the last LayerNorm."""
    ours, theirs = both("deit_tiny_distilled_patch16_224", randomise, **SMALL)
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        expected = theirs.eval().forward_features(images)
        torch.testing.assert_close(
            ours.eval().forward_features(images), expected, rtol=1e-5, atol=1e-5
        )


def test_weight_decay_spares_what_timm_spares():
    """Names without decay, of those that the model has."""
    ours = build_model(named_config("deit_tiny_distilled_patch16_224", num_classes=2), seed=0)
    theirs = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=2)
    assert ours.no_weight_decay() == theirs.no_weight_decay() & dict(ours.named_parameters()).keys()


@pytest.mark.parametrize(
    "name",
    [
        "pos_embed",
        "dist_token",
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
        "blocks.1.attn.qkv.weight",
        "blocks.5.attn.proj.weight",
        "blocks.7.mlp.fc1.weight",
        "blocks.11.mlp.fc2.weight",
        "head.weight",
        "head_dist.weight",
    ],
)
def test_initial_values_are_distributed_as_timms(name, timms_initial_state, our_initial_state):
    """Two-sample Kolmogorov-Smirnov, seeds fixed. timm's cls_token alone departs from the paper."""
    ours, theirs = our_initial_state[name].flatten(), timms_initial_state[name].flatten()
    assert ks_2samp(ours[:50_000].numpy(), theirs[:50_000].numpy()).pvalue > 0.01


def test_biases_and_norms_start_as_timms(timms_initial_state, our_initial_state):
    """0 and 1, but for the patch projection's bias."""
    constant = [name for name, value in our_initial_state.items() if value.ndim == 1]
    constant.remove("patch_embed.proj.bias")
    assert len(constant) == 12 * 8 + 2 + 2
    for name in constant:
        assert torch.equal(our_initial_state[name], timms_initial_state[name]), name


@pytest.fixture(scope="module")
def timms_initial_state():
    torch.manual_seed(0)
    return timm.create_model("deit_tiny_distilled_patch16_224", num_classes=100).state_dict()


@pytest.fixture(scope="module")
def our_initial_state():
    config = named_config("deit_tiny_distilled_patch16_224", num_classes=100)
    return build_model(config, seed=0).state_dict()
