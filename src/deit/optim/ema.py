"""An exponential moving average of a model's weights, kept as a model that can be evaluated."""

import copy

import torch
from torch import Tensor, nn


class Ema:
    """The average ``average = decay * average + (1 - decay) * weights``, updated after every step.

    The reference tracks the same average but never evaluates it (decision record 0006). It starts
    at the initial weights, as the reference's does, and takes in buffers such as BatchNorm's
    statistics too; whole numbers are copied.

    Args:
        model: the model to follow; a copy of it holds the average.
        decay: the share that stays, 0 up to 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        averages: list[Tensor] = []
        weights: list[Tensor] = []
        for average, weight in zip(
            self.model.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if average.is_floating_point():
                averages.append(average)
                weights.append(weight)
            else:
                average.copy_(weight)
        torch._foreach_lerp_(averages, weights, 1 - self.decay)
