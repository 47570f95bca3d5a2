"""What a run refuses before it begins, when it saves, and what it says of itself afterwards."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from deit.data.sources import open_data
from deit.errors import UserError
from deit.programs import train as module
from deit.programs.dry_run import dry_run
from deit.programs.prepare import fingerprint
from deit.programs.step import checkpoint_steps, evaluation_steps
from deit.programs.train import train
from deit.recipes.book import get_recipe
from deit.recipes.recipe import distilled, override
from deit.run.checkpoint import list_checkpoints


@pytest.fixture
def photos(tmp_path):
    """Two classes of six training and two validation images of 8 pixels."""
    noise = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for name in ("ant", "bee"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def recipe(photos):
    """Six epochs of three steps of a small convnet."""
    words = {"data.source": str(photos), "epochs": 6, "batch_size": 4, "run.workers": 0}
    words |= {"run.device": "cpu", "run.precision": "float32", "run.eval_epochs": 4}
    recipe = override(get_recipe("digits-teacher"), words)
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, width=8))


def test_it_is_saved_where_it_is_evaluated_and_every_so_many_steps(recipe, tmp_path, monkeypatch):
    """After epochs 4 and 6, three steps each, and every 5 steps between."""
    steps = []
    save = module.save_checkpoint

    def keep(folder, checkpoint, number):
        steps.append(checkpoint.step)
        return save(folder, checkpoint, number)

    monkeypatch.setattr(module, "save_checkpoint", keep)
    recipe = override(recipe, {"run.checkpoint_steps": 5})
    train(recipe, tmp_path / "run")
    assert steps == [5, 10, 12, 15, 18]
    assert set(steps) == checkpoint_steps(recipe, 3)
    assert evaluation_steps(recipe, 3) == {12, 18}
    assert checkpoint_steps(override(recipe, {"run.checkpoint_steps": 0}), 3) == {12, 18}


def test_resume_with_another_image_is_refused_before_the_teacher_is_loaded(
    recipe, photos, tmp_path, monkeypatch
):
    """A renamed training image, then one more validation image."""
    train(recipe, tmp_path / "run", stop_step=1)
    monkeypatch.setattr(module, "load_teacher", None)  # calling it would raise
    (photos / "train/ant/0.png").rename(photos / "train/ant/zero.png")
    with pytest.raises(UserError, match="train: as many images"):
        train(recipe, tmp_path / "run", resume=True)
    (photos / "val/ant/9.png").write_bytes((photos / "val/ant/0.png").read_bytes())
    with pytest.raises(UserError, match="val: 4 images then, 5 now"):
        train(recipe, tmp_path / "run", resume=True)


def test_fingerprint_tells_labels_and_names_apart(photos):
    """The same names under other classes are other data; the same data has the same sum."""
    before = fingerprint(open_data(str(photos)))
    assert fingerprint(open_data(str(photos))) == before
    (photos / "train/ant/0.png").rename(photos / "train/bee/00.png")
    after = fingerprint(open_data(str(photos)))
    assert before["train"]["sha256"] != after["train"]["sha256"]
    assert before["val"] == after["val"]


def test_result_names_what_was_left_out_and_a_resume_keeps_the_time(recipe, photos, tmp_path):
    """Seconds go on from the checkpoint's, also when a finished run is resumed."""
    (photos / "train/ant/broken.png").write_bytes(b"no image")
    recipe = override(recipe, {"data.bad_images": "leave-out"})
    train(recipe, tmp_path / "run", stop_step=2)
    (saved,) = list_checkpoints(tmp_path / "run/checkpoints")
    seconds = json.loads((saved / "state.json").read_text())["seconds"]
    assert train(recipe, tmp_path / "run", resume=True).seconds > seconds > 0
    newest = list_checkpoints(tmp_path / "run/checkpoints")[-1]
    seconds = json.loads((newest / "state.json").read_text())["seconds"]
    predictions = (tmp_path / "run/predictions.csv").read_bytes()
    again = train(recipe, tmp_path / "run", resume=True)
    assert again.seconds > seconds
    assert (tmp_path / "run/predictions.csv").read_bytes() == predictions
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert [set(image) for image in result["bad_images"]] == [{"name", "reason"}]
    assert result["bad_images"][0]["name"].endswith("broken.png")
    assert (result["step"], result["epoch"]) == (18, 6.0)


def test_cheap_complaints_come_before_the_images_are_read(recipe, tmp_path, monkeypatch):
    """Device, class count and a teacher that is not there."""
    monkeypatch.setattr(module, "check_data", None)
    for field, value in (("run.device", "gpu"), ("model.num_classes", 7)):
        with pytest.raises(UserError, match=str(value)):
            train(override(recipe, {field: value}), tmp_path / "run")
    taught = distilled(recipe, str(tmp_path / "nobody"), "soft", token=False)
    with pytest.raises(UserError, match="nobody"):
        train(taught, tmp_path / "run")


def test_dry_run_estimates_the_whole_run(recipe):
    """Steps are counted; times are positive and the total holds at least the steps."""
    measured = dry_run(recipe, lambda _text: None)
    assert measured.total_steps == 18
    assert min(measured.evaluation_seconds, measured.save_seconds) > 0
    assert measured.total_seconds > 18 * measured.step_seconds
