"""Adapting a network to more or fewer images."""

import pytest

from deit.recipes.small import DataFacts
from deit.recipes.teachers import adapted


def facts(num_images):
    return DataFacts(num_images=num_images, num_classes=10, image_size=32)


@pytest.mark.parametrize(
    ("count", "probe_epochs", "epochs", "lr"),
    [
        (100, 40, 20, 2e-5),  # both bounded above, the rate below
        (2_500, 8, 20, 5e-5),  # 1e-4 sqrt(1/4)
        (10_000, 2, 6, 1e-4),
        (1_000_000, 1, 5, 1e-4),  # both bounded below
    ],
)
def test_fewer_images_mean_a_longer_probe_and_a_lower_rate(count, probe_epochs, epochs, lr):
    """20,000 views of probing, 60,000 of fine-tuning, within bounds."""
    recipe = adapted(facts(count))
    assert recipe.start.probe_epochs == probe_epochs
    assert recipe.epochs == probe_epochs + epochs
    assert recipe.optim.peak_lr(64) == pytest.approx(lr)
    assert recipe.schedule.min_lr < lr < recipe.start.probe_lr


@pytest.mark.parametrize("count", [0, 1, 7, 100, 10**7])
def test_any_number_of_images_has_a_recipe(count):
    """Bounds hold at both ends, and a batch is never larger than the data asks for."""
    recipe = adapted(facts(count))
    assert 8 <= recipe.batch_size <= 64
    assert 0 < recipe.ema.decay < 1
