"""The vision transformer against transformers': its logits, its two layouts of names, its files."""

import pytest
import safetensors.torch
import torch

from deit.errors import UserError
from deit.model.build import build_model, create_model
from deit.model.formats import to_our_names, to_transformers
from deit.model.variants import named_config
from deit.model.weights import infer_config, load_into, load_weights

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5  # float32, for logits of the size of 1


def their_model(second_token, img_size, depth=3, embed_dim=192, num_heads=3, **options):
    """A model of transformers with the reference's LayerNorm, not transformers' default."""
    kind = (
        transformers.ViTForImageClassification
        if second_token == "none"
        else transformers.DeiTForImageClassificationWithTeacher
    )
    config = kind.config_class(
        hidden_size=embed_dim,
        num_hidden_layers=depth,
        num_attention_heads=num_heads,
        intermediate_size=4 * embed_dim,
        image_size=img_size,
        patch_size=16,
        layer_norm_eps=1e-6,
        num_labels=20,
        **options,
    )
    return kind(config).eval()


def our_config(second_token, img_size):
    """The same shape."""
    return named_config(
        "deit_tiny_patch16_224",
        img_size=img_size,
        depth=3,
        num_classes=20,
        second_token=second_token,
    )


def assert_equal_logits(ours, theirs, img_size):
    """Class head, distillation head and their average."""
    images = torch.randn(2, 3, img_size, img_size)
    with torch.no_grad():
        heads, expected = ours.eval()(images), theirs(images)
    assert (heads.mean_logits() - expected.logits).abs().max() <= TOLERANCE
    if heads.dist is not None:
        assert (heads.cls - expected.cls_logits).abs().max() <= TOLERANCE
        assert (heads.dist - expected.distillation_logits).abs().max() <= TOLERANCE


@pytest.mark.parametrize("img_size", [224, 384])
@pytest.mark.parametrize("second_token", ["none", "distillation"])
def test_logits_equal_transformers(second_token, img_size, randomise):
    """Weights taken over from memory, in the layout of version 5."""
    theirs = randomise(their_model(second_token, img_size))
    ours = build_model(our_config(second_token, img_size), seed=0)
    load_into(ours, to_our_names(theirs.state_dict()))
    assert_equal_logits(ours, theirs, img_size)


@pytest.mark.parametrize("second_token", ["none", "distillation"])
def test_folder_of_transformers_is_read(second_token, randomise, tmp_path):
    """What save_pretrained writes: the layout of version 4; its shape is read from the weights."""
    theirs = randomise(their_model(second_token, 64))
    theirs.save_pretrained(tmp_path)
    state = load_weights(tmp_path)
    config = infer_config(state)
    assert config.img_size == 64
    assert config.second_token == second_token
    ours = build_model(config, seed=0)
    load_into(ours, state)
    assert_equal_logits(ours, theirs, 64)


@pytest.mark.parametrize("second_token", ["none", "distillation"])
def test_transformers_reads_our_folder(second_token, randomise, tmp_path):
    """from_pretrained finds every tensor it wants and none that it does not."""
    ours = randomise(build_model(our_config(second_token, 64), seed=0))
    theirs = their_model(second_token, 64)
    theirs.config.save_pretrained(tmp_path)
    safetensors.torch.save_file(to_transformers(ours.state_dict()), tmp_path / "model.safetensors")
    loaded, report = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_equal_logits(ours, loaded.eval(), 64)


@pytest.mark.parametrize("second_token", ["none", "distillation"])
def test_names_there_and_back_are_the_same(second_token):
    """No tensor is lost, renamed or reordered."""
    state = build_model(our_config(second_token, 64), seed=0).state_dict()
    back = to_our_names(to_transformers(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_attention_maps_equal_transformers(randomise):
    """Of each block and head."""
    theirs = randomise(their_model("distillation", 64, attn_implementation="eager"))
    ours = build_model(our_config("distillation", 64), seed=0).eval()
    load_into(ours, to_our_names(theirs.state_dict()))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(images, output_attentions=True).attentions
        found = ours.forward_intermediates(images, [f"attention.{i}" for i in range(3)])
    for mine, other in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_pooler_is_left_out_and_strangers_are_not(randomise):
    """Files of a whole ViTModel bring a pooler; a tensor that nobody knows is refused."""
    state = their_model("none", 64).state_dict()
    pooler = {"vit.pooler.dense.weight": torch.zeros(2, 2)}
    ours = build_model(our_config("none", 64), seed=0)
    load_into(ours, to_our_names(state | pooler))
    stranger = {"vit.layers.0.attention.gate.weight": torch.zeros(2)}
    with pytest.raises(UserError, match=r"unexpected: layers\.0\.attention\.gate\.weight"):
        load_into(ours, to_our_names(state | stranger))


def test_incomplete_attention_is_refused_by_name():
    """A third of queries, keys and values missing leaves the two others unexpected."""
    state = their_model("none", 64).state_dict()
    del state["vit.layers.1.attention.k_proj.weight"]
    with pytest.raises(UserError, match=r"missing: blocks\.1\.attn\.qkv\.weight"):
        load_into(build_model(our_config("none", 64), seed=0), to_our_names(state))


def test_convnet_has_no_place_in_transformers_layout():
    """Said before a file is written."""
    with pytest.raises(UserError, match="weights of a vision transformer"):
        to_transformers(create_model("convnet_small", num_classes=2).state_dict())
