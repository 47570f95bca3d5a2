"""The vision transformer: keep masks, initialisation, intermediates, heads, what it refuses."""

import math

import pytest
import torch
from torch import nn

from deit.errors import UserError
from deit.model.build import build_model
from deit.model.variants import VisionTransformerConfig
from deit.model.vision_transformer import VisionTransformer


def small_config(**fields):
    """Nine patches, three blocks, two tokens; stochastic depth at a third in the last block."""
    shape = {"img_size": 12, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 2}
    rest = {"num_classes": 5, "second_token": "distillation", "drop_path_rate": 1 / 3}
    return VisionTransformerConfig(**{**shape, **rest, **fields})


def small_model(**fields):
    """A small model whose heads are not near zero."""
    model = build_model(small_config(**fields), seed=0)
    generator = torch.Generator().manual_seed(0)
    for head in (model.head, model.head_dist):
        if head is not None:
            nn.init.normal_(head.weight, generator=generator)
    return model


IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def test_dropping_every_branch_leaves_the_embedded_tokens():
    """With all masks 0 the heads see LayerNorm of what entered the first block."""
    model = small_model()
    heads = model(IMAGES, torch.zeros(4, 3, 2))
    tokens = nn.functional.layer_norm(
        model.embed(IMAGES), (32,), model.norm.weight, model.norm.bias, 1e-6
    )
    torch.testing.assert_close(heads.cls, model.head(tokens[:, 0]))
    torch.testing.assert_close(heads.dist, model.head_dist(tokens[:, 1]))


def test_masks_act_per_sample_block_and_branch():
    """Against a loop over samples that leaves branches out one by one."""
    model = small_model().double()
    keep = (torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(2)) < 0.5).double()
    result = model.forward_features(IMAGES.double(), keep)
    for sample in range(4):
        tokens = model.embed(IMAGES.double()[sample : sample + 1])
        for index, block in enumerate(model.blocks):
            scale = 1 / (1 - (0.0, 1 / 6, 1 / 3)[index])
            if keep[sample, index, 0]:
                tokens = tokens + scale * block.attn(block.norm1(tokens))
            if keep[sample, index, 1]:
                tokens = tokens + scale * block.mlp(block.norm2(tokens))
        torch.testing.assert_close(result[sample], model.norm(tokens)[0], rtol=1e-12, atol=1e-12)


def test_given_masks_act_in_evaluation_too():
    """What is given is not ignored."""
    model = small_model().eval()
    whole, dropped = model(IMAGES), model(IMAGES, torch.zeros(4, 3, 2))
    assert (whole.cls - dropped.cls).abs().max() > 1e-3


def test_evaluation_draws_nothing_and_training_draws_for_itself():
    """Without masks: evaluation is a function of the images; training is one of the generator."""
    model = small_model()
    torch.manual_seed(0)
    first, second = model(IMAGES).cls, model(IMAGES).cls
    torch.manual_seed(0)
    assert torch.equal(model(IMAGES).cls, first)
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    model.eval()
    assert torch.equal(model(IMAGES).cls, model(IMAGES).cls)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_without_drop_rate_draws_nothing():
    """A model without stochastic depth leaves the global generator alone."""
    state = torch.get_rng_state()
    model = small_model(drop_path_rate=0.0)
    assert torch.equal(model(IMAGES).cls, model.eval()(IMAGES).cls)
    assert torch.equal(torch.get_rng_state(), state)


def test_own_draw_has_each_blocks_rate():
    """Within 4 standard errors over 20,000 draws of each branch; values are 0 and 1 only."""
    torch.manual_seed(0)
    keep = small_model().draw_keep(20_000)
    assert keep.shape == (20_000, 3, 2)
    assert set(keep.unique().tolist()) == {0.0, 1.0}
    for index, rate in enumerate((0.0, 1 / 6, 1 / 3)):
        error = 4 * math.sqrt(rate * (1 - rate) / 20_000)
        assert (keep[:, index].mean(0) - (1 - rate)).abs().max() <= error
    correlation = torch.corrcoef(keep[:, 1:].flatten(1).T).fill_diagonal_(0)
    assert correlation.abs().max() < 4 / math.sqrt(20_000)


@pytest.mark.parametrize("name", ["cls_token", "dist_token"])
def test_each_learned_token_feeds_its_own_head_only_through_attention(name):
    """With every branch dropped, a token changes its own head and not the other."""
    model = small_model()
    before = model(IMAGES, torch.zeros(4, 3, 2))
    with torch.no_grad():
        getattr(model, name).normal_()
    after = model(IMAGES, torch.zeros(4, 3, 2))
    changed = [not torch.equal(old, new) for old, new in zip(before, after, strict=True)]
    assert changed == [name == "cls_token", name == "dist_token"]


def test_control_with_two_class_tokens_is_the_same_network():
    """Section 4's control differs from distillation in its target alone."""
    distilled, control = (small_model(second_token=kind) for kind in ("distillation", "class"))
    assert distilled.state_dict().keys() == control.state_dict().keys()
    for ours, theirs in zip(distilled.eval()(IMAGES), control.eval()(IMAGES), strict=True):
        assert torch.equal(ours, theirs)


def test_single_token_model_has_one_head_in_the_same_type():
    """TwoHeads in training and evaluation, its second part None."""
    model = small_model(second_token="none")
    assert model(IMAGES).dist is None
    assert model.eval()(IMAGES).dist is None
    assert model.no_weight_decay() == {"pos_embed", "cls_token"}


def test_learned_parts_are_left_out_of_weight_decay():
    """timm's set; the reference decays the distillation token by an oversight."""
    model = small_model()
    assert model.no_weight_decay() == {"pos_embed", "cls_token", "dist_token"}
    assert model.no_weight_decay() <= dict(model.named_parameters()).keys()


def test_intermediates_start_at_the_embedding_and_end_before_the_norm():
    """tokens.0 is `embed`; the heads of the normalised last tokens are the model's logits."""
    model = small_model().eval()
    found = model.forward_intermediates(IMAGES, ["tokens.0", "tokens.3"])
    assert list(found) == ["tokens.0", "tokens.3"]
    assert torch.equal(found["tokens.0"], model.embed(IMAGES))
    heads = model.forward_head(model.norm(found["tokens.3"]))
    assert torch.equal(heads.cls, model(IMAGES).cls)
    assert torch.equal(heads.dist, model(IMAGES).dist)


def test_every_intermediate_name_is_served():
    """Depth + 1 token states and depth attention maps, each of its documented shape."""
    model = small_model().eval()
    names = model.intermediate_names()
    found = model.forward_intermediates(IMAGES, names)
    assert len(names) == 4 + 3
    assert set(found) == set(names)
    for name, value in found.items():
        assert value.shape == ((4, 11, 32) if name.startswith("tokens") else (4, 2, 11, 11))


def test_attention_map_explains_the_blocks_output():
    """The map of block 1 times its values, projected, is the attention branch of block 1."""
    model = small_model().eval()
    found = model.forward_intermediates(IMAGES, ["tokens.1", "attention.1"])
    block = model.blocks[1]
    normed = block.norm1(found["tokens.1"])
    value = nn.functional.linear(normed, block.attn.qkv.weight[64:], block.attn.qkv.bias[64:])
    mixed = found["attention.1"] @ value.reshape(4, 11, 2, 16).transpose(1, 2)
    expected = block.attn.proj(mixed.transpose(1, 2).reshape(4, 11, 32))
    torch.testing.assert_close(block.attn(normed), expected, rtol=1e-5, atol=1e-6)


def test_unknown_intermediate_is_answered_with_the_nearest():
    """Names end where the depth ends."""
    with pytest.raises(UserError, match=r"no intermediate is called 'attention\.3'"):
        small_model().forward_intermediates(IMAGES, ["attention.3"])


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 1, 12, 12), (2, 3, 12, 8)])
def test_images_of_another_shape_are_refused(shape):
    """By what was given and what the model takes, not by a failing addition."""
    with pytest.raises(UserError, match="3 channels and 12 x 12 px"):
        small_model()(torch.zeros(shape))


def test_model_without_a_class_count_is_refused():
    """0 stands for "as many as the data has" and must be replaced before building."""
    with pytest.raises(UserError, match=r"model\.num_classes = 0"):
        VisionTransformer(small_config(num_classes=0))


def test_new_classifier_has_new_heads_and_the_old_body():
    """For transfer to another data set: body untouched, heads from the seed, precision kept."""
    model = small_model().bfloat16()
    body = {name: value.clone() for name, value in model.state_dict().items() if "head" not in name}
    model.reset_classifier(7, seed=3)
    assert model(IMAGES.bfloat16()).dist.shape == (4, 7)
    assert model.num_classes == 7
    assert all(torch.equal(model.state_dict()[name], value) for name, value in body.items())
    again = small_model().bfloat16()
    again.reset_classifier(7, seed=3)
    assert torch.equal(again.head_dist.weight, model.head_dist.weight)
    assert not torch.equal(model.head_dist.weight, model.head.weight)


def test_refused_class_count_leaves_the_model_as_it_was():
    """An error changes nothing."""
    model = small_model()
    with pytest.raises(UserError):
        model.reset_classifier(0)
    assert model.num_classes == 5


def test_dropout_follows_the_configuration():
    """Off unless asked for; then it acts in training only."""
    model = small_model(drop_rate=0.3, drop_path_rate=0.0)
    assert not torch.equal(model(IMAGES).cls, model(IMAGES).cls)
    model.eval()
    assert torch.equal(model(IMAGES).cls, model(IMAGES).cls)


def test_autocast_keeps_the_residual_stream_in_float32():
    """bfloat16 products, float32 sums; logits within bfloat16's precision of float32's."""
    model = small_model().eval()
    expected = model(IMAGES).cls
    with torch.autocast("cpu", torch.bfloat16):
        heads = model(IMAGES)
        found = model.forward_intermediates(IMAGES, ["tokens.3"])
    assert found["tokens.3"].dtype == torch.float32
    torch.testing.assert_close(heads.cls.float(), expected, rtol=0.05, atol=0.05)
