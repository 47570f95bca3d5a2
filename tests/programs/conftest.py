"""A teacher that was trained once, and a recipe in which everything random is on."""

import dataclasses
from pathlib import Path

import pytest

from deit.data.plan import ViewConfig
from deit.model.variants import named_config
from deit.optim.config import EmaConfig, OptimConfig, ScheduleConfig
from deit.programs.train import train
from deit.recipes.book import get_recipe
from deit.recipes.recipe import Recipe, distilled, override

SHORT = {"data.source": "digits", "data.images_per_class": "20", "run.precision": "float32"}


@pytest.fixture(scope="session")
def teacher_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a convnet that has learned the digits well enough to teach."""
    recipe = override(get_recipe("digits-teacher"), SHORT | {"epochs": "40", "mix.probability": 0})
    model = dataclasses.replace(recipe.model, width=8)
    return train(
        dataclasses.replace(recipe, model=model), tmp_path_factory.mktemp("t") / "run"
    ).path


@pytest.fixture
def busy_recipe(teacher_run: Path) -> Recipe:
    """Distillation with mixing, erasing, RandAugment, dropped layers, dropout: all that is random.

    Three epochs of four steps.
    """
    recipe = override(get_recipe("digits"), SHORT)
    model = named_config(
        "deit_nano_patch4_8", depth=2, embed_dim=32, drop_path_rate=0.2, drop_rate=0.1
    )
    recipe = dataclasses.replace(
        recipe,
        epochs=3,
        batch_size=50,
        model=model,
        views=ViewConfig(flip=0.0),
        optim=OptimConfig(lr=1e-3, lr_batch=50, clip_norm=1.0, accumulate=2),
        schedule=ScheduleConfig(warmup_epochs=1),
        ema=EmaConfig(decay=0.9),
    )
    return distilled(recipe, str(teacher_run), "hard", token=True)
