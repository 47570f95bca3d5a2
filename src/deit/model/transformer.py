"""The transformer's parts: attention, MLP, stochastic depth and their block (paper, section 3)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Block(nn.Module):
    """A pre-norm transformer block: two residual branches, each behind a LayerNorm.

    ``x = x + Attention(LayerNorm(x))``, then ``x = x + Mlp(LayerNorm(x))``.

    Args:
        embed_dim: width D of a token.
        num_heads: attention heads; must divide ``embed_dim``.
        mlp_dim: hidden width of the MLP.
        drop_rate: dropout after the attention's projection and after both layers of the MLP.
        drop_path_rate: how often stochastic depth drops a branch of this block.
        layer_norm_eps: epsilon of both LayerNorms.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        mlp_dim: int,
        drop_rate: float,
        drop_path_rate: float,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.drop_path_rate = drop_path_rate
        self.norm1 = nn.LayerNorm(embed_dim, eps=layer_norm_eps)
        self.attn = Attention(embed_dim, num_heads, drop_rate)
        self.norm2 = nn.LayerNorm(embed_dim, eps=layer_norm_eps)
        self.mlp = Mlp(embed_dim, mlp_dim, drop_rate)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens embed"],
        keep: Float[Tensor, "batch 2"] | None = None,
    ) -> Float[Tensor, "batch tokens embed"]:
        """The tokens after this block.

        Args:
            tokens: the sequence.
            keep: 1 where a sample keeps its attention branch (column 0) or its MLP branch
                (column 1), 0 where it drops it; None keeps all, unscaled.
        """
        keep_attention, keep_mlp = (None, None) if keep is None else keep.unbind(1)
        branch = self.attn(self.norm1(tokens))
        tokens = add_branch(tokens, branch, keep_attention, self.drop_path_rate)
        branch = self.mlp(self.norm2(tokens))
        return add_branch(tokens, branch, keep_mlp, self.drop_path_rate)

    def attention_map(
        self, tokens: Float[Tensor, "batch tokens embed"]
    ) -> Float[Tensor, "batch heads tokens tokens"]:
        """Which share of its output each token takes from each other one; rows sum to 1."""
        return self.attn.attention_map(self.norm1(tokens))


def add_branch(
    tokens: Float[Tensor, "batch tokens embed"],
    branch: Float[Tensor, "batch tokens embed"],
    keep: Float[Tensor, "batch"] | None,
    drop_rate: float,
) -> Float[Tensor, "batch tokens embed"]:
    """The residual sum, with stochastic depth where ``keep`` is given.

    ``tokens + branch * keep / (1 - drop_rate)``: without the branch for samples that drop it,
    scaled up for those that keep it, so that the expected value is the whole branch (Huang et al.,
    "Deep networks with stochastic depth", ECCV 2016, in timm's scaled form).
    """
    if keep is None:
        return tokens + branch
    scale = (keep / (1.0 - drop_rate)).to(tokens.dtype)  # float32 under autocast, unlike the branch
    return tokens + branch * scale[:, None, None]


class Attention(nn.Module):
    """Multi-head self-attention (paper, section 3, Eq. 1).

    ``softmax(Q K^T / sqrt(d)) V`` in each of the heads, d being the head's width, then a linear
    projection of the joined heads.
    """

    def __init__(self, embed_dim: int, num_heads: int, drop_rate: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.proj_drop = nn.Dropout(drop_rate)

    def forward(
        self, tokens: Float[Tensor, "batch tokens embed"]
    ) -> Float[Tensor, "batch tokens embed"]:
        """Each token's mixture of all tokens."""
        query, key, value = self._queries_keys_values(tokens)
        mixed = attend(query, key, value).transpose(1, 2)  # [batch, tokens, heads, head_dim]
        projected: Tensor = self.proj_drop(self.proj(mixed.flatten(2)))
        return projected

    def attention_map(
        self, tokens: Float[Tensor, "batch tokens embed"]
    ) -> Float[Tensor, "batch heads tokens tokens"]:
        """The softmax alone."""
        query, key, _ = self._queries_keys_values(tokens)
        return attention_weights(query, key)

    def _queries_keys_values(
        self, tokens: Float[Tensor, "batch tokens embed"]
    ) -> tuple[
        Float[Tensor, "batch heads tokens head_dim"],
        Float[Tensor, "batch heads tokens head_dim"],
        Float[Tensor, "batch heads tokens head_dim"],
    ]:
        parts = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # [batch, heads, tokens, dim]
        return query, key, value


def attend(
    query: Float[Tensor, "batch heads tokens head_dim"],
    key: Float[Tensor, "batch heads tokens head_dim"],
    value: Float[Tensor, "batch heads tokens head_dim"],
) -> Float[Tensor, "batch heads tokens head_dim"]:
    """``softmax(Q K^T / sqrt(d)) V`` by whichever of two ways is the faster here."""
    if fused_attention_is_faster(query.device, query.dtype):
        return F.scaled_dot_product_attention(query, key, value)
    return torch.matmul(attention_weights(query, key), value)


def fused_attention_is_faster(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch's fused attention beats two batched products and a softmax.

    It does, but for bfloat16 on a CPU. There, one thread of a CPU with AVX-512 and torch 2.15 took,
    in milliseconds (batch 8; heads x head width; forward, then forward and backward together):

        tokens        float32 fused   products    bfloat16 fused   products
        65   4 x 32     0.5,  1.8     0.5,  1.6      0.7,  5.5     0.4,  1.3
        198  3 x 64     3.9, 19.8     5.9, 23.5      4.3, 17.6     2.7,  6.8
        578  3 x 64    28.4,  100    63.1,  104     31.0,  114    26.2, 74.1

    The number of tokens does not change the choice.
    """
    return not (device.type == "cpu" and dtype == torch.bfloat16)


def attention_weights(
    query: Float[Tensor, "batch heads tokens head_dim"],
    key: Float[Tensor, "batch heads tokens head_dim"],
) -> Float[Tensor, "batch heads tokens tokens"]:
    """``softmax(Q K^T / sqrt(d))``: rows sum to 1."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-2, -1))
    return scores.softmax(-1)  # torch adds up in float32 whatever the input


class Mlp(nn.Module):
    """Two linear layers with an exact (erf) GELU between them, for each token by itself."""

    def __init__(self, embed_dim: int, mlp_dim: int, drop_rate: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, mlp_dim)
        self.fc2 = nn.Linear(mlp_dim, embed_dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(
        self, tokens: Float[Tensor, "batch tokens embed"]
    ) -> Float[Tensor, "batch tokens embed"]:
        """``W2 GELU(W1 x + b1) + b2``."""
        hidden = self.drop(F.gelu(self.fc1(tokens)))
        out: Tensor = self.drop(self.fc2(hidden))
        return out
