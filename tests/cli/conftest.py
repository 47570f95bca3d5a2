"""A model of ten classes that stands where a teacher would be named."""

from pathlib import Path

import pytest

from deit.artifacts import save_model
from deit.data.classes import ClassList
from deit.data.preprocess import Preprocess
from deit.model.build import build_model
from deit.model.variants import named_config


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
