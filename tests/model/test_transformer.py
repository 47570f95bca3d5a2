"""Attention, MLP, stochastic depth and block against torch's own transformer layer and float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deit.model import transformer
from deit.model.transformer import Attention, Block, add_branch, attend, attention_weights

DEVICE = torch.device("cpu")


def block_and_torchs_layer(embed_dim=48, num_heads=3):
    """A block of ours with random parameters, and torch's pre-norm layer with the same ones."""
    torch.manual_seed(0)
    ours = Block(embed_dim, num_heads, 4 * embed_dim, 0.0, 0.0, 1e-6).double().eval()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    theirs = nn.TransformerEncoderLayer(
        embed_dim, num_heads, 4 * embed_dim, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
    )
    names = {
        "attn.qkv.weight": "self_attn.in_proj_weight",
        "attn.qkv.bias": "self_attn.in_proj_bias",
    }
    stems = {"attn.proj": "self_attn.out_proj", "mlp.fc1": "linear1", "mlp.fc2": "linear2"}
    for name in ours.state_dict():
        stem, kind = name.rsplit(".", 1)
        names.setdefault(name, f"{stems.get(stem, stem)}.{kind}")
    theirs.double().eval()
    theirs.load_state_dict({names[name]: value for name, value in ours.state_dict().items()})
    return ours, theirs


def test_block_is_torchs_pre_norm_layer():
    """Attention, exact GELU, order of norms and residuals, against nn.TransformerEncoderLayer."""
    ours, theirs = block_and_torchs_layer()
    tokens = torch.randn(2, 7, 48, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens), rtol=1e-12, atol=1e-12)


def test_attention_map_is_what_torch_reports():
    """Per head, with rows that sum to 1, against nn.MultiheadAttention's own weights."""
    ours, theirs = block_and_torchs_layer()
    tokens = torch.randn(2, 7, 48, dtype=torch.float64)
    with torch.no_grad():
        normed = theirs.norm1(tokens)
        _, expected = theirs.self_attn(normed, normed, normed, average_attn_weights=False)
        torch.testing.assert_close(ours.attention_map(tokens), expected)
    torch.testing.assert_close(expected.sum(-1), torch.ones(2, 3, 7, dtype=torch.float64))


@pytest.mark.parametrize("num_tokens", [5, 65, 197, 198])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)],  # 2 to 3 units of each
)
def test_both_ways_of_attention_agree_with_float64(monkeypatch, dtype, tolerance, num_tokens):
    """Which way is taken is a matter of speed alone, in either direction of the choice."""
    generator = torch.Generator().manual_seed(num_tokens)
    parts = torch.randn(3, 2, 3, num_tokens, 64, generator=generator).to(dtype)
    query, key, value = parts.double()
    expected = ((query @ key.mT) / 8).softmax(-1) @ value
    for fused in (True, False):
        monkeypatch.setattr(transformer, "fused_attention_is_faster", lambda *_, way=fused: way)
        result = attend(*parts)
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("dtype", "calls"), [(torch.float32, 1), (torch.float64, 1), (torch.bfloat16, 0)]
)
def test_bfloat16_on_a_cpu_avoids_fused_attention(monkeypatch, dtype, calls):
    """There it takes two to four times as long in training as products and a softmax."""
    counted = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *args: counted.append(1) or fused(*args)
    )
    attend(*torch.zeros(3, 1, 1, 4, 8, dtype=dtype))
    assert len(counted) == calls
    assert transformer.fused_attention_is_faster(torch.device("cuda"), dtype)


def test_bfloat16_gradients_agree_both_ways(monkeypatch):
    """Training may switch between the two without another result, up to bfloat16's rounding."""
    torch.manual_seed(0)
    attention = Attention(64, 2, 0.0).bfloat16()
    tokens = torch.randn(2, 33, 64).bfloat16()
    gradients = []
    for fused in (True, False):
        monkeypatch.setattr(transformer, "fused_attention_is_faster", lambda *_, way=fused: way)
        attention.zero_grad()
        attention(tokens).float().square().sum().backward()
        gradients.append(attention.qkv.weight.grad.float())
    scale = gradients[0].abs().max().item()
    torch.testing.assert_close(*gradients, rtol=0.05, atol=0.02 * scale)


def test_attention_weights_are_a_softmax_over_keys():
    """Rows over queries, columns over keys: a key that outshines all takes every row."""
    query = torch.ones(1, 1, 4, 2)
    key = torch.zeros(1, 1, 4, 2)
    key[0, 0, 2] = 100.0
    expected = torch.zeros(1, 1, 4, 4)
    expected[..., 2] = 1.0
    torch.testing.assert_close(attention_weights(query, key), expected)


def test_dropped_branch_is_absent_and_kept_one_scaled():
    """By arithmetic: rate 0.2 keeps at 1 / 0.8."""
    tokens, branch = torch.full((3, 2, 2), 10.0), torch.ones(3, 2, 2)
    result = add_branch(tokens, branch, torch.tensor([1.0, 0.0, 1.0]), 0.2)
    assert result[:, 0, 0].tolist() == [11.25, 10.0, 11.25]
    assert torch.equal(add_branch(tokens, branch, None, 0.2), tokens + branch)


def test_kept_branch_is_scaled_in_the_residual_streams_precision():
    """Under autocast the branch is bfloat16, in which 1 / 0.9 is off by 0.3 %; the sum is not."""
    tokens, branch = torch.zeros(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bfloat16)
    result = add_branch(tokens, branch, torch.ones(1), 0.1)
    assert result.dtype == torch.float32
    assert result.item() == pytest.approx(1 / 0.9, rel=1e-6)


def test_bfloat16_model_stays_bfloat16_with_float32_masks():
    """Masks arrive as float32 whatever the model's precision."""
    block = Block(8, 2, 16, 0.0, 0.1, 1e-6).bfloat16()
    tokens = torch.randn(2, 3, 8).bfloat16()
    assert block(tokens, torch.ones(2, 2)).dtype == torch.bfloat16
