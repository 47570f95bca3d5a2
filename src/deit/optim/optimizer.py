"""AdamW or SGD with the reference's two groups of parameters; its state under readable names."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from deit.optim.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer over two groups: parameters with weight decay and parameters without.

    Without decay: vectors (biases, LayerNorm, BatchNorm) and the names in the model's
    ``no_weight_decay()``. The reference decays `dist_token` by an oversight; here it stands beside
    `cls_token` (decision record 0008). Fused kernels are used where torch has them. The learning
    rate is set before each step by `set_learning_rate`.
    """
    exempt: set[str] = getattr(model, "no_weight_decay", set)()
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (free if parameter.ndim <= 1 or name in exempt else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        momentum = config.momentum
        return torch.optim.SGD(groups, lr=config.lr, momentum=momentum, nesterov=momentum > 0)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as tensors named ``<state>.<parameter>``, as a checkpoint keeps it."""
    return {
        f"{key}.{name}": torch.as_tensor(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def load_optimizer_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave, bit for bit."""
    parameters = dict(model.named_parameters())
    for full_name, tensor in tensors.items():
        key, _, name = full_name.partition(".")
        parameter = parameters[name]
        device = parameter.device
        optimizer.state[parameter][key] = tensor.detach().clone().to(device)
