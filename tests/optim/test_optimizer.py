"""Which parameters decay, and that the optimizer's state survives being written down."""

import pytest
import timm
import torch
from timm.optim import param_groups_weight_decay

from deit.errors import UserError
from deit.model.build import create_model
from deit.optim.config import OptimConfig
from deit.optim.optimizer import (
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)


def names_of(group, model) -> set[str]:
    by_identity = {id(parameter): name for name, parameter in model.named_parameters()}
    return {by_identity[id(parameter)] for parameter in group["params"]}


def test_decay_groups_equal_those_of_timm():
    """timm exempts vectors and the model's own list, which holds both tokens and the positions."""
    ours = create_model("deit_tiny_distilled_patch16_224", depth=2)
    theirs = timm.create_model("deit_tiny_distilled_patch16_224", depth=2)
    free, decayed = param_groups_weight_decay(
        theirs, 0.05, no_weight_decay_list=theirs.no_weight_decay()
    )
    groups = build_optimizer(ours, OptimConfig()).param_groups
    assert names_of(groups[0], ours) == names_of(decayed, theirs)
    assert names_of(groups[1], ours) == names_of(free, theirs)
    assert (groups[0]["weight_decay"], groups[1]["weight_decay"]) == (0.05, 0.0)


def test_tokens_and_positions_do_not_decay():
    """The reference decays dist_token by an oversight; ours stands beside cls_token."""
    model = create_model("deit_tiny_distilled_patch16_224", depth=1)
    free = names_of(build_optimizer(model, OptimConfig()).param_groups[1], model)
    assert {"cls_token", "dist_token", "pos_embed"} <= free


def test_restored_optimizer_takes_bitwise_the_same_step():
    """AdamW and SGD, written as named tensors and read back into a fresh optimizer."""
    for kind in ("adamw", "sgd"):
        config = OptimConfig(optimizer=kind)
        results = []
        for interrupted in (False, True):
            torch.manual_seed(0)
            model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
            inputs = torch.randn(3, 5, 4)
            optimizer = build_optimizer(model, config)
            for step in range(3):
                if interrupted and step == 2:
                    saved = optimizer_tensors(model, optimizer)
                    optimizer = build_optimizer(model, config)
                    load_optimizer_tensors(model, optimizer, saved)
                set_learning_rate(optimizer, 0.1)
                optimizer.zero_grad()
                model(inputs[step]).square().mean().backward()
                optimizer.step()
            results.append(model.state_dict())
        assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_adamw_equals_torchs_plain_adamw():
    """The fused kernel against the single-tensor implementation in float64."""
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Linear(6, 3).double() for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    optimizer = build_optimizer(ours, OptimConfig(weight_decay=0.1))
    groups = [
        {"params": [theirs.weight], "weight_decay": 0.1},
        {"params": [theirs.bias], "weight_decay": 0.0},
    ]
    referee = torch.optim.AdamW(groups, lr=0.01, foreach=False, fused=False)
    for _ in range(5):
        inputs = torch.randn(7, 6, dtype=torch.float64)
        for model, method in ((ours, optimizer), (theirs, referee)):
            set_learning_rate(method, 0.01)
            method.zero_grad()
            model(inputs).square().sum().backward()
            method.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-12, atol=1e-12)


def test_sgd_without_momentum_takes_the_plain_step():
    """w - lr * gradient, where torch refuses Nesterov."""
    model = torch.nn.Linear(2, 1, bias=False)
    before = model.weight.detach().clone()
    optimizer = build_optimizer(model, OptimConfig(optimizer="sgd", momentum=0, weight_decay=0))
    set_learning_rate(optimizer, 0.5)
    model(torch.tensor([[1.0, 2.0]])).sum().backward()
    optimizer.step()
    assert torch.equal(model.weight, before - 0.5 * torch.tensor([[1.0, 2.0]]))


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "momentum": 0.5},
        {"optimizer": "sgd", "betas": (0.8, 0.9)},
        {"optimizer": "sgd", "eps": 1e-6},
    ],
)
def test_settings_of_the_other_optimizer_are_refused(settings):
    """They could not act."""
    with pytest.raises(UserError, match=r"cannot act"):
        OptimConfig(**settings)
