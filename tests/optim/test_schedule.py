"""The learning rate against timm's scheduler as the reference drives it, and against arithmetic."""

import itertools
import math

import pytest
import torch
from timm.scheduler import CosineLRScheduler

from deit.optim.config import ScheduleConfig
from deit.optim.schedule import learning_rate

PAPER = {"peak_lr": 1e-3, "steps_per_epoch": 7, "epochs": 300}


def reference_rates(epochs: int) -> list[float]:
    """Rates of each epoch when `scheduler.step(epoch)` is called after the epoch, as there."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    scheduler = CosineLRScheduler(
        optimizer, t_initial=epochs, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6
    )
    rates = []
    for epoch in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(epoch)
    return rates


def test_per_epoch_equals_what_the_reference_executes_at_every_step():
    """All 2,100 steps of a 300-epoch run, timm's scheduler being the referee."""
    config = ScheduleConfig(per_epoch=True)
    ours = [learning_rate(step, config=config, **PAPER) for step in range(2100)]
    theirs = [rate for rate in reference_rates(300) for _ in range(7)]
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_per_epoch_has_the_two_slow_epochs_and_the_lower_peak():
    """The figures that were read off the reference's runs."""
    config = ScheduleConfig(per_epoch=True)
    rates = [learning_rate(7 * epoch, config=config, **PAPER) for epoch in range(300)]
    assert rates[:2] == [1e-6, 1e-6]
    assert rates[2:6] == pytest.approx([2.008e-4, 4.006e-4, 6.004e-4, 8.002e-4])
    assert max(rates) == pytest.approx(9.99e-4, abs=5e-7)


def test_smooth_schedule_equals_its_formula_at_every_step():
    """Warm-up to the peak, then half a cosine from the peak to the minimum."""
    config = ScheduleConfig(warmup_epochs=2, warmup_lr=1e-6, min_lr=1e-5)
    for step in range(70):
        time = step / 7
        if time < 2:
            expected = 1e-6 + (1e-3 - 1e-6) * time / 2
        else:
            expected = 1e-5 + (1e-3 - 1e-5) * 0.5 * (1 + math.cos(math.pi * (time - 2) / 8))
        rate = learning_rate(step, peak_lr=1e-3, config=config, steps_per_epoch=7, epochs=10)
        assert rate == pytest.approx(expected, rel=1e-12)


def test_smooth_schedule_reaches_its_peak_once_and_never_leaves_its_bounds():
    """No jump where the warm-up ends."""
    config = ScheduleConfig(warmup_epochs=2)
    rates = [
        learning_rate(step, peak_lr=1e-3, config=config, steps_per_epoch=50, epochs=10)
        for step in range(500)
    ]
    assert max(rates) == rates[100] == 1e-3
    assert min(rates[100:]) >= 1e-5
    assert max(abs(a - b) for a, b in itertools.pairwise(rates)) < 1.2e-5


@pytest.mark.parametrize("per_epoch", [True, False])
def test_no_warmup_starts_at_the_peak(per_epoch):
    """A warm-up of no length divides by nothing."""
    config = ScheduleConfig(warmup_epochs=0, per_epoch=per_epoch)
    assert learning_rate(0, peak_lr=1e-3, config=config, steps_per_epoch=5, epochs=3) == 1e-3
