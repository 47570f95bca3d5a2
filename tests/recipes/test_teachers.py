"""Adapting a network to more or fewer images."""

import pytest

from deit.recipes.small import DataFacts
from deit.recipes.teachers import adapt_teacher, adapted


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
    found = adapt_teacher(facts(count))
    assert (found.probe_epochs, found.recipe.epochs) == (probe_epochs, epochs)
    assert found.recipe.optim.peak_lr(64) == pytest.approx(lr)
    assert found.recipe.schedule.min_lr < lr < found.probe_lr


@pytest.mark.parametrize("count", [0, 1, 7, 100, 10**7])
def test_any_number_of_images_has_a_recipe(count):
    """Bounds hold at both ends, and a batch is never larger than the data asks for."""
    recipe = adapt_teacher(facts(count)).recipe
    assert 8 <= recipe.batch_size <= 64
    assert 0 < recipe.ema.decay < 1


def test_in_one_phase_the_epochs_of_both_are_trained():
    """At the rate of many images: the new layer has to get somewhere."""
    both, one = adapt_teacher(facts(100)), adapted(facts(100))
    assert one.epochs == both.probe_epochs + both.recipe.epochs
    assert one.optim.peak_lr(64) == pytest.approx(1e-4)
    assert one.model.pretrained
