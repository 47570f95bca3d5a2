"""Images that are bad before a run, and one that turns bad while it runs."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deit.data.dataset import DataSet
from deit.data.images import BadImage
from deit.data.sources import open_data
from deit.errors import UserError
from deit.model.variants import named_config
from deit.programs.train import train
from deit.recipes.book import get_recipe
from deit.recipes.recipe import Recipe, override
from deit.run.checkpoint import load_newest


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty training and eight validation images of two classes, 8 x 8 pixels."""
    random = np.random.default_rng(3)
    for split, count in (("train", 20), ("val", 4)):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return tmp_path / "photos"


@pytest.fixture
def recipe(photos: Path) -> Recipe:
    """Three epochs of four steps."""
    changes = {"data.source": str(photos), "epochs": 3, "batch_size": 10, "run.workers": 0}
    changes |= {"run.precision": "float32", "run.device": "cpu", "schedule.warmup_epochs": 1}
    short = override(get_recipe("digits"), changes)
    model = named_config("deit_nano_patch4_8", depth=1, embed_dim=16)
    return dataclasses.replace(short, model=model)


class Spoiled:
    """A source in which a file is cut off at the so-manieth reading of any image: that very one."""

    def __init__(self, source, root: Path, reading: int) -> None:
        self.classes, self.labels, self.names = source.classes, source.labels, source.names
        self.source, self.root, self.left = source, root, reading
        self.whole = b""

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> np.ndarray:
        self.left -= 1
        if self.left == 0:
            self.path = self.root / self.names[index]
            self.whole = self.path.read_bytes()
            self.path.write_bytes(self.whole[:50])
        return self.source.read(index)


def final(path: Path) -> dict[str, torch.Tensor]:
    checkpoint, _ = load_newest(path / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.step == 12
    return checkpoint.tensors


def test_a_file_that_turns_bad_stops_the_run_by_name_and_the_run_goes_on(
    recipe: Recipe, photos: Path, tmp_path: Path
) -> None:
    """In the third epoch; once it is mended the run ends in the weights of one never stopped."""
    data = open_data(str(photos))
    spoiled = Spoiled(data.train, photos, reading=85)
    with pytest.raises(BadImage) as met:
        train(recipe, tmp_path / "run", data=DataSet(spoiled, data.val, data.notes))
    assert photos / met.value.name == spoiled.path
    assert "cannot be decoded" in met.value.reason
    with pytest.raises(UserError, match=met.value.name):  # it is not passed over on the way back
        train(recipe, tmp_path / "run", resume=True)
    spoiled.path.write_bytes(spoiled.whole)
    train(recipe, tmp_path / "run", resume=True)
    train(recipe, tmp_path / "whole")
    ours, theirs = final(tmp_path / "run"), final(tmp_path / "whole")
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def test_a_run_cannot_change_to_fewer_images(recipe: Recipe, photos: Path, tmp_path: Path) -> None:
    """To resume without the bad image would be another run: order and epochs would shift."""
    train(recipe, tmp_path / "run", stop_step=5)
    (photos / "train/cat/07.png").write_bytes(b"")
    without = override(recipe, {"data.bad_images": "leave-out"})
    with pytest.raises(UserError, match=r"bad_images|left_out"):
        train(without, tmp_path / "run", resume=True)


def test_what_is_left_out_is_reported(recipe: Recipe, photos: Path, tmp_path: Path) -> None:
    """On the way, in the result, in the data's identity and on the report's page."""
    (photos / "train/cat/07.png").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"train/cat/07\.png.*(.|\n)*leave-out"):
        train(recipe, tmp_path / "run")
    without = override(recipe, {"data.bad_images": "leave-out"})
    path = train(without, tmp_path / "run").path
    result = json.loads((path / "result.json").read_text())
    assert [bad["name"] for bad in result["bad_images"]] == ["train/cat/07.png"]
    assert "1 images that cannot be used are left out: train/cat/07.png" in result["notes"][-1]
    assert "train/cat/07.png" in (path / "data.json").read_text()


def test_images_above_the_limit_are_refused_with_the_limit_to_raise(
    recipe: Recipe, tmp_path: Path
) -> None:
    """Nothing is to be mended."""
    with pytest.raises(UserError) as refused:
        train(override(recipe, {"data.max_pixels": 10}), tmp_path / "run")
    assert refused.value.todo.startswith("raise the limit, data.max_pixels")
    assert refused.value.todo.endswith("--data.bad_images leave-out")
