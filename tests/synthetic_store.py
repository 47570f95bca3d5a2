"""A label store with decisions that a test makes up, on views that are real."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from deit.data.sources import DataSet, open_data
from deit.distillation.label_rows import RowFormat
from deit.distillation.label_store import LabelStore, StoreHeader
from deit.programs.labels import epoch_length, identify
from deit.programs.prepare import resolve
from deit.programs.step import build_loader
from deit.recipes.book import get_recipe
from deit.recipes.recipe import Recipe, distilled, override, save_recipe

Decide = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""Epoch, positions and images to decisions."""


def digits_recipe(**changes: object) -> Recipe:
    """Four epochs of 200 digits in batches of 50, without mixing; fields as ``mix__mixup``."""
    fields = {"data.source": "digits", "data.images_per_class": 20, "epochs": 4, "batch_size": 50}
    fields |= {"mix.mixup": 0, "mix.cutmix": 0, "schedule.warmup_epochs": 0}
    fields |= {"run.precision": "float32"}
    fields |= {name.replace("__", "."): value for name, value in changes.items()}
    recipe = distilled(override(get_recipe("digits"), fields), "made-up", "hard", token=True)
    return dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, device="cpu"))


def write_store(path: Path, recipe: Recipe, decide: Decide) -> DataSet:
    """Fill a store for every epoch of a recipe; where a decision is below 0 it stays unfilled."""
    data = open_data(recipe.data.source, images_per_class=recipe.data.images_per_class)
    recipe = resolve(recipe, data)
    length = epoch_length(recipe, data)
    header = StoreHeader(
        classes=data.classes.names,
        positions=length,
        rows=RowFormat(num_classes=len(data.classes)),
        identity=identify(recipe, data),
        made_with={},
        examination={"teacher": "made up", "accuracy": 0.75, "count": 4},
    )
    store = LabelStore.create(path, header)
    save_recipe(path / "recipe.yaml", recipe)
    loader, positions = build_loader(recipe, data, torch.device("cpu")), np.arange(length)
    for epoch in range(recipe.epochs):
        decisions = decide(epoch, positions, loader.samples_at(epoch, positions))
        told = decisions >= 0
        rows = header.rows.empty(int(told.sum()))
        rows["label"] = decisions[told]
        if told.any():
            store.write(epoch, positions[told], rows)
    store.flush()
    return data
