"""What a prepared store changes is measured on the views of the recipe itself."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from deit.data.images import decode_image
from deit.data.plan import ViewConfig
from deit.data.preprocess import PreprocessConfig
from deit.data.shrinking import ShrinkConfig, shrink_image
from deit.data.sources import open_data
from deit.programs.prepared_views import compare_views
from deit.programs.step import model_preprocess
from deit.recipes.book import get_recipe
from deit.recipes.recipe import Recipe
from photo_folder import write_photos


@pytest.fixture
def photos(tmp_path: Path) -> str:
    counts = {"train/cat": 6, "train/dog": 6, "val/cat": 3, "val/dog": 3}
    return str(write_photos(tmp_path, counts, (90, 60)))


def recipe_of_8_pixels(**views: object) -> Recipe:
    """Plain views, and an evaluation that looks at the middle 8 of 10 pixels."""
    recipe = get_recipe("digits")
    return dataclasses.replace(
        recipe,
        views=ViewConfig(policy="none", **views),
        preprocess=PreprocessConfig(crop_pct=0.8),
    )


def test_a_store_of_larger_size_changes_nothing(photos: str) -> None:
    """Its images are the files themselves."""
    found = compare_views(recipe_of_8_pixels(), open_data(photos), ShrinkConfig(size=100))
    assert (found["training"], found["evaluation"]) == (0, 0)
    assert found["enlarged_before"] == found["enlarged_after"]


def test_the_difference_in_evaluation_is_that_of_pixels(photos: str) -> None:
    """By the evaluation transform of the recipe, on all six images."""
    recipe, data, config = recipe_of_8_pixels(), open_data(photos), ShrinkConfig(size=16)
    transform = model_preprocess(recipe).apply
    differences = []
    for index in range(6):
        stored = decode_image(shrink_image(data.val, index, config)[0], "stored")
        ours, theirs = (transform(pixels) for pixels in (stored, data.val.read(index)))
        differences.append(np.abs(ours.astype(float) - theirs).mean())
    found = compare_views(recipe, data, config)
    assert found["evaluation"] == pytest.approx(np.mean(differences), abs=1e-12)
    assert found["evaluation_views"] == 6
    assert found["evaluation"] > 0


def test_a_smaller_store_differs_more_and_enlarges_more(photos: str) -> None:
    """Crops of 8 to 100 % of 60 pixels are hardly ever below 8 pixels; of 9 they often are."""
    recipe, data = recipe_of_8_pixels(), open_data(photos)
    found = [compare_views(recipe, data, ShrinkConfig(size=size)) for size in (40, 20, 9)]
    assert found[0]["training"] < found[1]["training"] < found[2]["training"]
    shares = [figures["enlarged_after"] for figures in found]
    assert found[0]["enlarged_before"] <= shares[0] <= shares[1] < shares[2]
    assert found[0]["training_views"] == 12 * 3


@pytest.mark.parametrize(("size", "share"), [(7, 1.0), (8, 0.0)])
def test_a_crop_is_enlarged_where_it_has_fewer_pixels_than_the_view(
    size: int, share: float, photos: str
) -> None:
    """Crops of the whole image, for views of 8 pixels."""
    recipe = recipe_of_8_pixels(crop="resize")
    found = compare_views(recipe, open_data(photos), ShrinkConfig(size=size))
    assert (found["enlarged_before"], found["enlarged_after"]) == (0.0, share)


def test_bad_images_are_no_part_of_the_sample(photos: str, tmp_path: Path) -> None:
    (tmp_path / "val/cat/0.jpg").write_bytes(b"no image")
    found = compare_views(recipe_of_8_pixels(), open_data(photos), ShrinkConfig(size=16))
    assert found["evaluation_views"] == 5
