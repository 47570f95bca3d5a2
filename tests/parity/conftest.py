"""What the comparisons of models share."""

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture(scope="session")
def randomise() -> Callable[[nn.Module], nn.Module]:
    """Give every parameter of a model, biases, norms and tokens too, a random value.

    Weights of products are scaled to keep activations near 1, so that logits are of the size of a
    trained model's and no part of the model is without effect.
    """

    def give_random_values(model: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                is_norm = parameter.ndim == 1 and name.endswith("weight")
                fan_in = parameter[0].numel() if "proj" in name or parameter.ndim == 2 else 4
                parameter.normal_(std=0.3 if is_norm else fan_in**-0.5, generator=generator)
                parameter.add_(1.0 if is_norm else 0.0)
        return model

    return give_random_values
