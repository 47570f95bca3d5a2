"""A run's folder is never overwritten, and resumed only as the run that it is."""

import dataclasses

import pytest

from deit.errors import UserError
from deit.recipes.book import get_recipe
from deit.run import folder


def test_created_run_gives_its_recipe_back(tmp_path):
    """What was written is what is read."""
    recipe = get_recipe("digits")
    folder.create(tmp_path / "run", recipe, {"python": "3"})
    assert folder.open_run(tmp_path / "run")[1] == recipe


def test_existing_folder_is_refused_with_the_way_on(tmp_path):
    """A run in it can be resumed; anything else needs another name."""
    folder.create(tmp_path / "run", get_recipe("digits"), {})
    with pytest.raises(UserError, match="--resume"):
        folder.check_new(tmp_path / "run")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        folder.check_new(tmp_path / "file")


def test_folder_without_a_run_cannot_be_resumed(tmp_path):
    """The message names the folder."""
    with pytest.raises(UserError, match="holds no run"):
        folder.open_run(tmp_path)


def test_changed_recipe_is_refused_with_every_difference(tmp_path):
    """Old and new value of each field stand in the message."""
    old = get_recipe("digits")
    new = dataclasses.replace(old, seed=1, epochs=61)
    with pytest.raises(UserError) as caught:
        folder.check_same_recipe(old, new, tmp_path)
    assert "seed: 0 -> 1" in str(caught.value)
    assert "epochs: 60 -> 61" in str(caught.value)


def test_fields_that_decide_nothing_may_change_on_resume(tmp_path):
    """Workers and logging."""
    old = get_recipe("digits")
    run = dataclasses.replace(old.run, workers=7, log_steps=3)
    folder.check_same_recipe(old, dataclasses.replace(old, run=run), tmp_path)


def test_default_name_holds_recipe_data_and_time():
    """And only characters that are safe in every file system."""
    recipe = get_recipe("paper/deit-tiny")
    data = dataclasses.replace(recipe.data, source="/photos/my pets")
    name = folder.default_folder(dataclasses.replace(recipe, data=data)).name
    assert name.startswith("paper-deit-tiny-my-pets-2")


def test_changed_data_is_refused_with_what_differs(tmp_path):
    """Classes, counts and contents, each in its words; the same data passes."""
    split = {"images": 3, "sha256": "a"}
    data = {"classes": ["ant", "bee"], "train": split, "val": split, "left_out": []}
    folder.create(tmp_path / "run", get_recipe("digits"), {}, data)
    folder.check_same_data(tmp_path / "run", data)
    other = {
        "classes": ["ant", "cat"],
        "train": split | {"images": 4},
        "val": split | {"sha256": "b"},
        "left_out": ["x.jpg"],
    }
    with pytest.raises(UserError) as caught:
        folder.check_same_data(tmp_path / "run", other)
    for text in ("bee", "cat", "train: 3 images then, 4 now", "val: as many", "x.jpg"):
        assert text in str(caught.value)


def test_run_without_its_data_record_is_refused(tmp_path):
    """Whether the data is the same cannot be known then."""
    folder.create(tmp_path / "run", get_recipe("digits"), {})
    (tmp_path / "run" / "data.json").unlink()
    with pytest.raises(UserError, match=r"data\.json"):
        folder.check_same_data(tmp_path / "run", {"classes": []})
