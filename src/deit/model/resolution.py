"""Position embeddings for another image size: bicubic resize of the grid (paper, 3 and 6)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from deit.errors import UserError

ResizeMethod = Literal["reference", "timm"]


def resize_pos_embed(
    pos_embed: Float[Tensor, "1 tokens embed"],
    grid_size: int,
    num_learned_tokens: int,
    method: ResizeMethod = "reference",
) -> Float[Tensor, "1 new_tokens embed"]:
    """Position embeddings of a square grid, resized to another; learned tokens' entries are copied.

    Bicubic, because it about keeps the norm of each vector; bilinear shrinks it and costs accuracy
    (paper, section 3). The two methods are the same but for small differences when enlarging,
    and differ clearly when shrinking.

    Args:
        pos_embed: entries of the learned tokens, then of the patches, row by row.
        grid_size: patches along one side of the new grid.
        num_learned_tokens: how many entries come before the patches.
        method: ``reference``: no antialiasing, as the reference code and transformers;
            ``timm``: with antialiasing, as timm.

    Raises:
        UserError: when the patches' entries are no square grid.
    """
    old_grid_size = grid_size_of(pos_embed, num_learned_tokens)
    if old_grid_size == grid_size:
        return pos_embed
    learned, patches = pos_embed[:, :num_learned_tokens], pos_embed[:, num_learned_tokens:]
    grid = patches.transpose(1, 2).reshape(1, -1, old_grid_size, old_grid_size)
    resized = F.interpolate(
        grid.float(),  # [1, embed, row, column]
        size=(grid_size, grid_size),
        mode="bicubic",
        align_corners=False,
        antialias=method == "timm",
    )
    return torch.cat([learned, resized.flatten(2).transpose(1, 2).to(pos_embed.dtype)], dim=1)


def grid_size_of(pos_embed: Float[Tensor, "1 tokens embed"], num_learned_tokens: int) -> int:
    """Patches along one side of the square grid that these position embeddings belong to.

    Raises:
        UserError: when the patches' entries are no square grid.
    """
    num_patches = pos_embed.shape[1] - num_learned_tokens
    grid_size = math.isqrt(max(num_patches, 0))
    if grid_size < 1 or grid_size**2 != num_patches:
        raise UserError(
            f"pos_embed has {pos_embed.shape[1]} entries, {num_learned_tokens} of learned tokens",
            "a square number of patches besides",
            "check that the weights are of a DeiT or ViT for square images with these tokens",
        )
    return grid_size
