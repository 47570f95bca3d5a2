"""A picture of the views that a recipe trains on, exactly as the model would see them."""

import dataclasses

import torch
from PIL import Image

from deit.data.render_device import to_pixels
from deit.data.sources import DataSet
from deit.programs.step import build_loader, finish_views, model_preprocess
from deit.recipes.recipe import Recipe
from deit.report.gallery import heaviest_targets
from deit.report.sheet import image_sheet


def draw_views(recipe: Recipe, data: DataSet, count: int, epoch: int = 0) -> Image.Image:
    """The first ``count`` views of an epoch with their target weights.

    Args:
        recipe: says how views are made; its batch size limits what can be mixed with what.
        data: the images.
        count: how many views to draw.
        epoch: the epoch, from 0.
    """
    recipe = dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, num_classes=len(data.classes)),
        run=dataclasses.replace(recipe.run, workers=0),
    )
    preprocess = model_preprocess(recipe)
    loader = build_loader(recipe, data, torch.device("cpu"))
    first = epoch * loader.steps_per_epoch
    batches = [
        finish_views(recipe, host, torch.device("cpu"))
        for host in loader.batches(first, first - (-count // recipe.batch_size))
    ]
    images = torch.cat([batch.images for batch in batches])[:count]
    targets = torch.cat([batch.targets for batch in batches])[:count]
    captions = [
        "\n".join(f"{name} {weight:.0%}" for name, weight in row)
        for row in heaviest_targets(targets.numpy(), data.classes.names)
    ]
    return image_sheet(list(to_pixels(images, preprocess)), captions, columns=8)
