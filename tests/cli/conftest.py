"""A model of ten classes that stands where a teacher would be named."""

import dataclasses
from pathlib import Path

import pytest

from deit.artifacts import save_model
from deit.data.classes import ClassList
from deit.data.preprocess import Preprocess
from deit.model.build import build_model
from deit.model.variants import named_config
from deit.programs.train import train
from deit.recipes.book import get_recipe
from deit.recipes.recipe import override


@pytest.fixture
def teacher_of_ten(tmp_path: Path) -> Path:
    """Weights of an untrained convnet for ten classes called 0 to 9."""
    config = named_config("convnet_small", num_classes=10, width=4)
    target = tmp_path / "weights"
    target.mkdir()
    classes = ClassList(tuple("0123456789"))
    path = target / "ten.safetensors"
    save_model(path, build_model(config, 0), config, classes, Preprocess(image_size=16))
    return path


@pytest.fixture(scope="session")
def good_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small convnet that has learned the digits."""
    recipe = override(get_recipe("digits-teacher"), {"data.source": "digits", "epochs": 6})
    recipe = override(recipe, {"schedule.warmup_epochs": 0, "mix.probability": 0})
    model = named_config("convnet_small", img_size=8, width=8)
    recipe = dataclasses.replace(recipe, model=model)
    return train(recipe, tmp_path_factory.mktemp("teacher") / "run").path
