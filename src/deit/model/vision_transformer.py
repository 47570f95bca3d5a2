"""The vision transformer of the paper: patches, learned tokens, blocks and two heads (3, 4)."""

import math
from collections.abc import Collection
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deit.errors import UserError, did_you_mean
from deit.model.transformer import Block
from deit.model.variants import VisionTransformerConfig, require_classes
from deit.tensors import TwoHeads


class VisionTransformer(nn.Module):
    """DeiT, with or without a second token; its parameters carry the reference's names.

    The sequence is ``[class token, second token, patch 0, patch 1, ...]``, patches row by row.
    Each of its places, the learned tokens' too, has a position embedding of its own. The class
    head reads token 0 and the second head token 1, both after the last LayerNorm.

    Args:
        config: the shape; its ``num_classes`` must be set.

    Parameters are drawn from torch's global generator, as any torch module does;
    `deit.model.build.build_model` makes a model whose parameters depend on a seed alone.

    Raises:
        UserError: when the number of classes is still 0.

    >>> config = VisionTransformerConfig(img_size=32, num_classes=10, second_token="distillation")
    >>> heads = VisionTransformer(config)(torch.zeros(2, 3, 32, 32))
    >>> heads.cls.shape, heads.dist.shape
    (torch.Size([2, 10]), torch.Size([2, 10]))
    """

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        require_classes(config)
        self.config = config
        embed_dim = config.embed_dim
        has_second = config.second_token != "none"
        self.patch_embed = PatchEmbed(config.in_chans, embed_dim, config.patch_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.dist_token = nn.Parameter(torch.empty(1, 1, embed_dim)) if has_second else None
        self.pos_embed = nn.Parameter(torch.empty(1, config.num_tokens, embed_dim))
        self.pos_drop = nn.Dropout(config.drop_rate)
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                config.num_heads,
                config.mlp_dim,
                config.drop_rate,
                drop_path_rate,
                config.layer_norm_eps,
            )
            for drop_path_rate in config.drop_path_rates
        )
        self.norm = nn.LayerNorm(embed_dim, eps=config.layer_norm_eps)
        self.head = nn.Linear(embed_dim, config.num_classes)
        self.head_dist = nn.Linear(embed_dim, config.num_classes) if has_second else None
        self.init_weights()

    def forward(
        self,
        images: Float[Tensor, "batch channels height width"],
        keep: Float[Tensor, "batch depth 2"] | None = None,
    ) -> TwoHeads:
        """The logits of both heads, in training and in evaluation.

        Args:
            images: normalised images of the configuration's size.
            keep: stochastic depth, decided outside: 1 where a sample keeps a block's attention
                branch (last index 0) or MLP branch (1), else 0. When it is given, it acts,
                in training or not. When it is None, a model in training draws for itself from
                torch's global generator, and a model in evaluation drops nothing.

        Raises:
            UserError: for images of another size or number of channels.
        """
        return self.forward_head(self.forward_features(images, keep))

    def forward_features(
        self,
        images: Float[Tensor, "batch channels height width"],
        keep: Float[Tensor, "batch depth 2"] | None = None,
    ) -> Float[Tensor, "batch tokens embed"]:
        """All tokens after the last block and LayerNorm, the learned ones first."""
        if keep is None and self.training and self.config.drop_path_rate > 0:
            keep = self.draw_keep(len(images))
        tokens = self.embed(images)
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, None if keep is None else keep[:, index])
        normalised: Tensor = self.norm(tokens)
        return normalised

    def forward_head(self, tokens: Float[Tensor, "batch tokens embed"]) -> TwoHeads:
        """The logits, from what `forward_features` gives."""
        dist = None if self.head_dist is None else self.head_dist(tokens[:, 1])
        return TwoHeads(self.head(tokens[:, 0]), dist)

    def embed(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch tokens embed"]:
        """The sequence that enters the first block."""
        self._require_images(images)
        patches = self.patch_embed(images)
        learned = [token.expand(len(images), -1, -1) for token in self.learned_tokens()]
        tokens: Tensor = self.pos_drop(torch.cat([*learned, patches], dim=1) + self.pos_embed)
        return tokens

    def learned_tokens(self) -> tuple[Float[Tensor, "1 1 embed"], ...]:
        """The class token and, if there is one, the second, without their position embeddings."""
        return (self.cls_token,) if self.dist_token is None else (self.cls_token, self.dist_token)

    def draw_keep(self, batch_size: int) -> Float[Tensor, "batch depth 2"]:
        """A random ``keep`` from torch's global generator: 0 with each block's drop rate."""
        drop_rates = torch.tensor(self.config.drop_path_rates, device=self.pos_embed.device)
        draws = torch.rand(batch_size, self.config.depth, 2, device=self.pos_embed.device)
        return (draws >= drop_rates[:, None]).float()

    def forward_intermediates(
        self, images: Float[Tensor, "batch channels height width"], names: Collection[str]
    ) -> dict[str, Float[Tensor, "..."]]:
        """What happens inside, by name, without hooks and without stochastic depth.

        Args:
            images: as for `forward`.
            names: any of `intermediate_names`: ``tokens.0``, what enters the first block, up to
                ``tokens.<depth>``, what leaves the last, before the last LayerNorm
                ``[batch, tokens, embed]``; and ``attention.0`` up to ``attention.<depth - 1>``,
                each block's attention weights ``[batch, heads, tokens, tokens]``.

        Raises:
            UserError: for an unknown name.
        """
        known = self.intermediate_names()
        for name in names:
            if name not in known:
                raise UserError(
                    f"no intermediate is called {name!r}",
                    f"{known[0]} to {known[self.config.depth]}, {known[-1]} and below",
                    did_you_mean(name, known),
                )
        found = {}
        tokens = self.embed(images)
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            if f"tokens.{index}" in names:
                found[f"tokens.{index}"] = tokens
            if f"attention.{index}" in names:
                found[f"attention.{index}"] = block.attention_map(tokens)
            tokens = block(tokens)
        if f"tokens.{self.config.depth}" in names:
            found[f"tokens.{self.config.depth}"] = tokens
        return found

    def intermediate_names(self) -> tuple[str, ...]:
        """Every name that `forward_intermediates` knows."""
        depth = self.config.depth
        return (
            *(f"tokens.{index}" for index in range(depth + 1)),
            *(f"attention.{index}" for index in range(depth)),
        )

    @property
    def num_classes(self) -> int:
        """Outputs of each head."""
        return self.config.num_classes

    def no_weight_decay(self) -> set[str]:
        """Names of parameters to leave out of weight decay, besides biases and LayerNorms.

        timm's set. The reference's optimiser lacked ``dist_token`` in it, and so decayed it.
        """
        names = {"pos_embed", "cls_token", "dist_token"}
        return names & dict(self.named_parameters()).keys()

    def reset_classifier(self, num_classes: int, seed: int = 0) -> None:
        """Replace the heads by new ones, drawn from ``seed``, for another set of classes.

        Raises:
            UserError: when ``num_classes`` is below 1.
        """
        config = replace(self.config, num_classes=num_classes)
        require_classes(config)
        generator = torch.Generator().manual_seed(seed)
        self.config = config
        self.head = _new_head(self.head, num_classes, generator)
        if self.head_dist is not None:
            self.head_dist = _new_head(self.head_dist, num_classes, generator)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draw all parameters anew, as the reference does.

        Linear weights, learned tokens and position embeddings from N(0, 0.02^2); biases 0;
        LayerNorms 1 and 0; the patch projection keeps PyTorch's default, uniform within
        ``1 / sqrt(fan in)``. The reference's normal is truncated, but at -2 and 2, a hundred
        standard deviations, which no normal draw reaches; its inverse error function does so once
        in 2^24 draws, and then gives a weight of exactly -2. Ours has no such outliers.

        Args:
            generator: where the draws come from; None: torch's global generator.
        """
        _init_patch_projection(self.patch_embed.proj, generator)
        for parameter in (*self.learned_tokens(), self.pos_embed):
            parameter.normal_(std=0.02, generator=generator)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _init_linear(module, generator)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def _require_images(self, images: Float[Tensor, "batch channels height width"]) -> None:
        config = self.config
        if images.shape[1:] != (config.in_chans, config.img_size, config.img_size):
            channels, height, width = images.shape[1:]
            raise UserError(
                f"images of {channels} channels and {height} x {width} px for {config.name}",
                f"{config.in_chans} channels and {config.img_size} x {config.img_size} px",
                "resize the images, or load the weights into a model with this img_size",
            )


class PatchEmbed(nn.Module):
    """Cut images into square patches and project each to a token: one strided convolution."""

    def __init__(self, in_chans: int, embed_dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch patches embed"]:
        """One token per patch, row by row."""
        grid: Tensor = self.proj(images)  # [batch, embed, row, column]
        return grid.flatten(2).transpose(1, 2)


def _new_head(old: nn.Linear, num_classes: int, generator: torch.Generator | None) -> nn.Linear:
    with torch.device("meta"):
        head = nn.Linear(old.in_features, num_classes)
    head.to_empty(device="cpu")  # drawn there, so that all devices get the same numbers
    _init_linear(head, generator)
    return head.to(device=old.weight.device, dtype=old.weight.dtype)


@torch.no_grad()
def _init_linear(linear: nn.Linear, generator: torch.Generator | None) -> None:
    linear.weight.normal_(std=0.02, generator=generator)
    linear.bias.zero_()


def _init_patch_projection(proj: nn.Conv2d, generator: torch.Generator | None) -> None:
    assert proj.bias is not None
    bound = 1 / math.sqrt(proj.in_channels * proj.kernel_size[0] * proj.kernel_size[1])
    proj.weight.uniform_(-bound, bound, generator=generator)
    proj.bias.uniform_(-bound, bound, generator=generator)
