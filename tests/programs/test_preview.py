"""A preview shows what training sees, and says what was done."""

import dataclasses

import numpy as np
import pytest
import torch

from deit.data.render_device import to_pixels
from deit.data.sources import open_data
from deit.errors import UserError
from deit.programs.preview import draw_sheet, draw_views, write_preview
from deit.programs.step import build_loader, finish_views, model_preprocess
from deit.recipes.book import get_recipe
from deit.recipes.recipe import Recipe, override


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


def recipe(**changes: object) -> Recipe:
    """The digits' recipe with operations, groups that do not divide the batch, and no workers."""
    told = {"views.policy": "rand-augment", "mix.group": 16, "batch_size": 50, "run.workers": 0}
    return override(get_recipe("digits"), {"model.num_classes": 10} | told | changes)


def trained_on(settings: Recipe, data, step: int):
    """Pixels, targets and samples of a batch of training."""
    cpu = torch.device("cpu")
    (host,) = build_loader(settings, data, cpu).batches(step, step + 1)
    batch = finish_views(settings, host, cpu)
    return to_pixels(batch.images, model_preprocess(settings)), batch.targets.numpy(), batch.samples


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_preview_is_the_training_batch_bit_for_bit(digits, epoch):
    """Two batches, their last groups smaller, erased and mixed as in training."""
    settings = recipe()
    views = draw_views(settings, digits, 100, epoch)
    per_epoch = len(digits.train) // settings.batch_size
    for number in range(2):
        pixels, targets, samples = trained_on(settings, digits, epoch * per_epoch + number)
        shown = views[50 * number : 50 * number + 50]
        np.testing.assert_array_equal(np.stack([view.pixels for view in shown]), pixels)
        assert [view.sample for view in shown] == samples.tolist()
        for view, row in zip(shown, targets, strict=True):
            for name, weight in view.targets:
                assert weight == pytest.approx(row[digits.classes.index(name)])


def test_views_of_one_class_are_those_of_the_whole_preview(digits):
    """The same pictures in the same order, without the others."""
    settings = recipe()
    everything = draw_views(settings, digits, 200)
    three = [view for view in everything if digits.train.labels[view.sample] == 3]
    only = draw_views(settings, digits, len(three), label="3")
    assert [view.sample for view in only] == [view.sample for view in three]
    for one, other in zip(only, three, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.words == other.words


def test_an_unknown_class_is_named(digits):
    """With those that there are."""
    with pytest.raises(UserError, match="no class is called seven"):
        draw_views(recipe(), digits, 4, label="seven")


def test_without_mixing_there_is_no_partner(digits):
    """A whole target, smoothing apart; the words end with the view's own."""
    for view in draw_views(recipe(**{"mix.mixup": 0, "mix.cutmix": 0}), digits, 20):
        assert view.partner is None
        assert len(view.targets) == 1
        assert not any("mix" in words.lower() for words in view.words)


def test_the_partner_is_what_the_other_target_says(digits):
    """Mixed with an image of another class, a view has that class as its second target."""
    names = digits.classes.names
    for view in draw_views(recipe(), digits, 64):
        assert view.partner is not None
        true = {names[digits.train.labels[sample]] for sample in (view.sample, view.partner)}
        assert {name for name, _ in view.targets} <= true


def test_more_views_than_an_epoch_has_are_the_epoch(digits):
    """It ends there."""
    few = open_data("digits", images_per_class=6)
    assert len(draw_views(recipe(), few, 1000)) == 50


def test_a_page_names_everything(digits, tmp_path):
    """Sources, words and settings, and pictures of view, source and partner."""
    settings = dataclasses.replace(recipe())
    views = draw_views(settings, digits, 5)
    page = write_preview(tmp_path / "p.html", settings, digits, views, "digits").read_text()
    assert page.count("<figure>") == 5
    assert page.count("<img") == 15
    for view in views:
        assert digits.train.names[view.sample] in page
        for words in view.words:
            assert words in page
    assert "default-src 'none'" in page


def test_a_sheet_has_a_place_for_every_view(digits):
    """Three rows for 17."""
    assert draw_sheet(draw_views(recipe(), digits, 17)).height > 3 * 96
