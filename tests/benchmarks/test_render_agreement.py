"""The benchmark of host against device rendering: what it compares and counts."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deit.artifacts import save_model
from deit.data.operations import Operation
from deit.data.preprocess import Preprocess
from deit.model.build import build_model
from deit.model.variants import ConvNetConfig

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "render_agreement.py"


@pytest.fixture(scope="module")
def program():
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("render_agreement", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def photos(tmp_path):
    """A folder of nothing but a few smooth images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, coarse in enumerate(np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3))):
        image = Image.fromarray(coarse.astype(np.uint8)).resize((32, 32))
        image.save(folder / f"{number}.png")
    return folder


@pytest.fixture
def teacher(tmp_path):
    """A network that has learned nothing, but decides."""
    config = ConvNetConfig(img_size=32, num_classes=5, width=8)
    file = tmp_path / "teacher.safetensors"
    save_model(file, build_model(config, 0), config, None, Preprocess(image_size=32))
    return file


def test_views_are_counted_by_what_was_done_to_them(program, photos, teacher, tmp_path):
    """Colour alone gives equal bytes, and with them equal decisions; the kinds are all views."""
    before = torch.get_num_threads()
    words = [str(photos), "--teacher", str(teacher), "--recipe", "cifar", "--views", "128"]
    program.main([*words, "--json", str(tmp_path / "out.json"), "views.op_probability=1"])
    torch.set_num_threads(before)
    told = json.loads((tmp_path / "out.json").read_text())["teacher.safetensors"]
    rows = told["views"]
    assert rows["all"]["views"] == 128
    assert sum(rows[kind]["views"] for kind in ("turned", "slid", "other")) == 128
    assert rows["other"]["equal_bytes"] == rows["other"]["same"] == rows["other"]["views"] > 20
    assert 0 < rows["turned"]["mean_distance"] < 4
    assert told["overrides"] == {"views.op_probability": "1"}


def test_a_view_that_is_turned_and_slid_is_turned(program, photos):
    """Rotation is where the two differ most."""
    recipe = program.override(program.get_recipe("cifar"), {"views.op_probability": 1})
    batch, _ = next(program.loaded(recipe, program.open_images(str(photos)), "device"))
    found = program.kinds(recipe, batch)
    ops, _ = program.plan_operations(recipe.views, recipe.seed, 0, batch.positions.numpy())
    assert set(found) == {"turned", "slid", "other"}
    np.testing.assert_array_equal(found == "turned", (ops == Operation.ROTATE).any(1))
    assert not np.isin(ops[found == "other"], program.KINDS["slid"]).any()
