"""What training on a prepared store changes: views of the original and of the store, compared."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from deit.data.dataset import DataSet, Source
from deit.data.images import BadImage, Pixels, decode_image
from deit.data.plan import ViewPlan, crop_box, plan_views
from deit.data.render import render_view
from deit.data.shrinking import ShrinkConfig, shrink_image
from deit.programs.prepare_data import sample_images
from deit.programs.step import model_preprocess
from deit.recipes.recipe import Recipe

_VIEWS = 3  # of each sampled image


def compare_views(
    recipe: Recipe, data: DataSet, config: ShrinkConfig, images: int = 64
) -> dict[str, Any]:
    """The mean absolute difference of pixels, in grey levels of 255, on a sample of images.

    The crops are planned relative to the size of an image, so both show the same part of it. Views
    are those of the recipe, operations included, before normalisation.

    Args:
        recipe: says how views are made, and of which size.
        data: the original.
        config: how the store makes images smaller.
        images: how many of each split are looked at.

    Returns:
        Plain values: ``training`` and ``evaluation``, the differences; ``enlarged_before`` and
        ``enlarged_after``, the shares of training crops that have fewer pixels than the view along
        a side and are enlarged; and what was looked at. Shares and differences are None without a
        usable image.
    """
    size = recipe.model.img_size
    training, enlarged = [], []
    for row, (original, stored) in enumerate(_pairs(data.train, config, images)):
        positions = np.arange(row * _VIEWS, (row + 1) * _VIEWS)
        plan = plan_views(recipe.views, size, recipe.seed_of_views, 0, positions)
        for view in range(_VIEWS):
            both = [render_view(p, plan, view, recipe.views, size) for p in (original, stored)]
            training.append(_difference(*both))
            enlarged.append([_is_enlarged(p, plan, view, size) for p in (original, stored)])
    transform = model_preprocess(recipe).apply
    evaluation = [
        _difference(transform(original), transform(stored))
        for original, stored in _pairs(data.val, config, images)
    ]
    before, after = np.mean(enlarged, axis=0).tolist() if enlarged else (None, None)
    return {
        "recipe": recipe.name,
        "image_size": size,
        "training_views": len(training),
        "evaluation_views": len(evaluation),
        "training": float(np.mean(training)) if training else None,
        "evaluation": float(np.mean(evaluation)) if evaluation else None,
        "enlarged_before": before,
        "enlarged_after": after,
    }


def _pairs(source: Source, config: ShrinkConfig, count: int) -> Iterator[tuple[Pixels, Pixels]]:
    """Sampled images as they are, and as the store has them."""
    for index in sample_images(source, count).tolist():
        try:
            original = source.read(index)
            stored = decode_image(shrink_image(source, index, config)[0], source.names[index])
        except BadImage:
            continue  # they are named elsewhere, and are in no store
        yield original, stored


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours.astype(np.int16) - theirs.astype(np.int16)).mean())


def _is_enlarged(pixels: Pixels, plan: ViewPlan, row: int, size: int) -> bool:
    height, width, _ = pixels.shape
    _, _, box_width, box_height = crop_box(plan, row, width, height)
    return min(box_width, box_height) < size
