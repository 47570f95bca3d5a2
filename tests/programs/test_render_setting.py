"""Where views are rendered: a setting of the run that is resolved, kept and part of its labels."""

import dataclasses

import numpy as np
import pytest
import torch

from deit.data.sources import open_data
from deit.errors import UserError
from deit.programs.prepare import resolve
from deit.programs.preview import draw_sheet, draw_views
from deit.programs.record import record_labels
from deit.programs.step import build_loader, finish_views
from deit.programs.train import train
from deit.programs.verify import verify_labels
from deit.recipes.recipe import Recipe, load_recipe, override
from deit.run.machine import resolve_render

from .test_labels import from_store
from .test_resume import assert_same_tensors, final_tensors

CPU = torch.device("cpu")


@pytest.fixture
def device_recipe(busy_recipe: Recipe) -> Recipe:
    """All that is random, and views of which most have an operation."""
    views = dataclasses.replace(busy_recipe.views, op_probability=1.0)
    return override(dataclasses.replace(busy_recipe, views=views), {"run.render": "device"})


def test_auto_is_the_device_where_that_is_a_gpu(busy_recipe):
    """The run folder keeps what was taken."""
    assert resolve_render("auto", torch.device("cuda", 1)) == "device"
    assert resolve_render("auto", torch.device("mps")) == "host"
    data = open_data("digits", images_per_class=20)
    assert resolve(busy_recipe, data).run.render == "host"
    asked = override(busy_recipe, {"run.render": "device"})
    assert resolve(asked, data).run.render == "device"


def test_a_device_without_double_precision_is_refused():
    """Before anything is rendered there."""
    with pytest.raises(UserError, match="render = device on mps"):
        resolve_render("device", torch.device("mps"))


@pytest.mark.parametrize("workers", [0, 2])
def test_run_rendered_on_the_device_resumes_bit_for_bit(device_recipe, tmp_path, workers):
    """Stopped after three steps and again after seven, with and without loader workers."""
    whole = train(device_recipe, tmp_path / "whole").path
    assert load_recipe(whole / "recipe.yaml").run.render == "device"
    recipe = override(device_recipe, {"run.workers": workers})
    train(recipe, tmp_path / "run", stop_step=3)
    train(recipe, tmp_path / "run", resume=True, stop_step=7)
    train(recipe, tmp_path / "run", resume=True)
    assert_same_tensors(final_tensors(tmp_path / "run"), final_tensors(whole))


def test_a_run_goes_on_with_the_renderer_it_was_started_with(device_recipe, tmp_path):
    """Another would be another run."""
    train(device_recipe, tmp_path / "run", stop_step=1)
    with pytest.raises(UserError, match=r"recipe\.run\.render"):
        train(override(device_recipe, {"run.render": "auto"}), tmp_path / "run", resume=True)


def test_labels_stored_with_device_rendering_train_as_the_teacher_asked(device_recipe, tmp_path):
    """The run that reads is the run that asks; the store is sound."""
    store = record_labels(device_recipe, tmp_path / "store").path
    online = train(device_recipe, tmp_path / "online").path
    stored = train(from_store(device_recipe, store), tmp_path / "stored").path
    assert_same_tensors(final_tensors(stored), final_tensors(online))
    verified = verify_labels(store, views=10_000)
    assert (verified.views, verified.equal) == (600, 600)


@pytest.mark.parametrize("render", ["host", "device"])
def test_labels_of_one_renderer_are_refused_with_the_other(device_recipe, tmp_path, render):
    """With the way out: the store's own renderer."""
    other = {"host": "device", "device": "host"}[render]
    made = override(device_recipe, {"run.render": other})
    store = record_labels(made, tmp_path / "store").path
    recipe = override(from_store(device_recipe, store), {"run.render": render})
    with pytest.raises(UserError) as refusal:
        train(recipe, tmp_path / "run")
    assert "renderer: " in str(refusal.value)
    assert f"run.render={other}" in refusal.value.todo
    assert not (tmp_path / "run").exists()


def test_the_setting_decides_what_the_host_leaves_to_do(device_recipe):
    """Finished batches are the same to a few grey levels; before that they are not."""
    data = open_data("digits", images_per_class=20)
    images = {}
    for render in ("host", "device"):
        recipe = override(device_recipe, {"run.render": render, "model.num_classes": 10})
        (host,) = build_loader(recipe, data, CPU).batches(0, 1)
        images[render] = host.images, finish_views(recipe, host, CPU).images
    assert not torch.equal(images["host"][0], images["device"][0])
    distance = (images["host"][1] - images["device"][1]).abs()
    assert distance.mean() < 0.05  # of a standard deviation, about 60 grey levels


def test_preview_shows_the_views_of_both_renderers(device_recipe):
    """A sheet of the same pictures."""
    data = open_data("digits", images_per_class=20)
    sheets = [
        np.asarray(draw_sheet(draw_views(override(device_recipe, {"run.render": render}), data, 8)))
        for render in ("host", "device")
    ]
    assert np.abs(sheets[0].astype(int) - sheets[1]).mean() < 3
    assert sheets[0].std() > 10
