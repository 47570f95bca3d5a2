"""Position embeddings for another image size, against torch's interpolation and timm's function."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed

from deit.errors import UserError
from deit.model.resolution import grid_size_of, resize_pos_embed

SIZES = [(14, 24), (14, 10), (4, 12), (8, 1), (7, 14)]


@pytest.mark.parametrize("num_learned", [1, 2])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_reference_way_is_bicubic_without_antialiasing(old, new, num_learned):
    """The reference reshapes to a grid, calls F.interpolate and copies the learned tokens."""
    pos_embed = torch.randn(1, num_learned + old * old, 12)
    grid = pos_embed[0, num_learned:].T.reshape(1, 12, old, old)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    expected = torch.cat([pos_embed[0, :num_learned], grid.reshape(12, new * new).T])[None]
    assert torch.equal(resize_pos_embed(pos_embed, new, num_learned), expected)


@pytest.mark.parametrize("num_learned", [1, 2])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_timms_way_is_timms(old, new, num_learned):
    """Antialiasing, as timm's resample_abs_pos_embed does by default."""
    pos_embed = torch.randn(1, num_learned + old * old, 12)
    expected = resample_abs_pos_embed(pos_embed, [new, new], num_prefix_tokens=num_learned)
    assert torch.equal(resize_pos_embed(pos_embed, new, num_learned, "timm"), expected)


def test_the_two_ways_differ_when_shrinking():
    """Otherwise the choice would be without effect, and these tests too."""
    pos_embed = torch.randn(1, 1 + 14 * 14, 12)
    reference, timm = (resize_pos_embed(pos_embed, 7, 1, way) for way in ("reference", "timm"))
    assert (reference - timm).abs().max() > 0.1


def test_same_grid_is_the_same_tensor():
    """No interpolation, not even one that should change nothing."""
    pos_embed = torch.randn(1, 2 + 14 * 14, 12)
    assert resize_pos_embed(pos_embed, 14, 2) is pos_embed


def test_precision_is_kept():
    """Half-precision weights are interpolated in float32 and returned as they were."""
    pos_embed = torch.randn(1, 1 + 4 * 4, 8).half()
    resized = resize_pos_embed(pos_embed, 6, 1)
    assert resized.dtype == torch.float16
    torch.testing.assert_close(resized, resize_pos_embed(pos_embed.float(), 6, 1).half())


def test_bicubic_about_keeps_the_norm():
    """Section 3 of the paper chooses bicubic for this; bilinear shrinks white noise far more."""
    pos_embed = torch.randn(1, 1 + 14 * 14, 64, generator=torch.Generator().manual_seed(0))
    resized = resize_pos_embed(pos_embed, 24, 1)[:, 1:]
    grid = pos_embed[:, 1:].mT.reshape(1, 64, 14, 14)
    bilinear = F.interpolate(grid, size=(24, 24), mode="bilinear", align_corners=False)
    before = pos_embed[:, 1:].norm(dim=-1).mean()
    loss = 1 - resized.norm(dim=-1).mean() / before
    assert loss < 0.5 * (1 - bilinear.norm(dim=1).mean() / before)


@pytest.mark.parametrize("num_tokens", [1, 3, 198])
def test_patches_that_are_no_square_are_refused(num_tokens):
    """Such as a distilled model's embeddings taken for a plain one's."""
    with pytest.raises(UserError, match=f"pos_embed has {num_tokens} entries, 1 of learned"):
        grid_size_of(torch.zeros(1, num_tokens, 4), 1)
