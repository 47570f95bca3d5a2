"""The average of the weights against timm's and against its formula."""

import torch
from timm.utils import ModelEmaV2

from deit.optim.ema import Ema


def test_average_equals_timms():
    """Twenty updates of a model with batch norm, whose statistics are averaged too."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    ours, theirs = Ema(model, 0.9), ModelEmaV2(model, 0.9)
    for _ in range(20):
        model(torch.randn(8, 3))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update(model)
        theirs.update(model)
    for name, value in theirs.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(ours.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_average_counts_batches_like_the_model():
    """Whole numbers cannot be averaged; they are copied."""
    model = torch.nn.BatchNorm1d(2)
    ema = Ema(model, 0.99)
    model(torch.randn(4, 2))
    ema.update(model)
    assert ema.model.num_batches_tracked == 1


def test_average_does_not_move_when_the_weights_stand_still():
    """Averaging equal values changes nothing, bit for bit."""
    model = torch.nn.Linear(3, 3)
    ema = Ema(model, 0.999)
    ema.update(model)
    assert torch.equal(ema.model.weight, model.weight)
    assert not ema.model.weight.requires_grad
    assert not ema.model.training
