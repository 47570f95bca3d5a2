"""Initial parameters against the arithmetic of the reference's distributions (paper.md, 1.1)."""

import math

import pytest
import torch

from deit.model.build import build_model
from deit.model.variants import named_config


@pytest.fixture(scope="module")
def state():
    config = named_config("deit_small_distilled_patch16_224", num_classes=1000)
    return build_model(config, seed=0).state_dict()


def normal_names(state):
    """Everything that the reference draws from its normal of standard deviation 0.02."""
    learned = ["cls_token", "dist_token", "pos_embed"]
    return [n for n in state if n in learned or (state[n].ndim == 2 and n.endswith("weight"))]


def test_normal_parameters_have_mean_zero_and_deviation_two_hundredths(state):
    """Each of the 53 within 4.5 standard errors; all together to a ten-thousandth."""
    names = normal_names(state)
    assert len(names) == 3 + 12 * 4 + 2
    for name in names:
        values, count = state[name], state[name].numel()
        assert abs(values.mean().item()) < 4.5 * 0.02 / math.sqrt(count), name
        assert abs(values.std().item() / 0.02 - 1) < 4.5 / math.sqrt(2 * count), name
    everything = torch.cat([state[name].flatten() for name in names])
    assert everything.std().item() == pytest.approx(0.02, rel=1e-3)


def test_normal_parameters_are_not_truncated_nor_heavy_tailed(state):
    """Shares beyond 2 and 3 deviations as of a normal; none beyond 6 of 21 million draws."""
    sizes = torch.cat([state[name].flatten() for name in normal_names(state)]).abs() / 0.02
    for bound in (1, 2, 3):
        expected = math.erfc(bound / math.sqrt(2))
        assert (sizes > bound).double().mean().item() == pytest.approx(expected, rel=0.02)
    assert 4.5 < sizes.max() < 7


def test_patch_projection_keeps_torchs_default(state):
    """Uniform within 1 / sqrt(3 x 16 x 16), weight and bias; not the linear layers' normal."""
    bound = 1 / math.sqrt(3 * 16 * 16)
    for kind in ("weight", "bias"):
        values = state[f"patch_embed.proj.{kind}"]
        assert values.abs().max() <= bound
        assert values.abs().max() > 0.98 * bound
        error = 5 / math.sqrt(values.numel())
        assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=error)


def test_biases_are_zero_and_norms_the_identity(state):
    """All of them."""
    for name, value in state.items():
        if "norm" in name and name.endswith("weight"):
            assert (value == 1).all(), name
        elif name.endswith("bias") and name != "patch_embed.proj.bias":
            assert (value == 0).all(), name


def test_learned_tokens_start_apart(state):
    """Almost orthogonal, as section 4 finds them even after training (cosine 0.06)."""
    cosine = torch.cosine_similarity(state["cls_token"], state["dist_token"], dim=-1)
    assert abs(cosine.item()) < 4 / math.sqrt(384)
    assert not torch.equal(state["head.weight"], state["head_dist.weight"])
