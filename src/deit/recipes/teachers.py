"""Recipes for teachers that start from a network which others have trained."""

import dataclasses
import math
from typing import NamedTuple

from deit.data.preprocess import PreprocessConfig
from deit.model.variants import ZooConfig
from deit.optim.config import EmaConfig, OptimConfig, ScheduleConfig
from deit.recipes.recipe import Recipe, RunConfig
from deit.recipes.small import DataFacts

_PAPERS_TEACHER = ZooConfig(name="timm:regnety_160.deit_in1k", img_size=224, pretrained=True)
_BATCH = 64
_ONE_PHASE_LR = 1e-4


class Adaptation(NamedTuple):
    """A recipe for fine-tuning all of a network, and how its new last layer is trained before.

    Attributes:
        recipe: the fine-tuning.
        probe_epochs: epochs in which only the last layer learns.
        probe_lr: their peak learning rate for a batch of 64.
    """

    recipe: Recipe
    probe_epochs: int
    probe_lr: float


def adapt_teacher(
    facts: DataFacts,
    model: ZooConfig = _PAPERS_TEACHER,
    preprocess: PreprocessConfig | None = None,
) -> Adaptation:
    """A trained network with a new last layer, fitted to one's own images in two phases.

    First the last layer alone: 20,000 views of the images, at least 1 epoch and at most 40. Then
    everything, at a low rate: 60,000 views, at least 5 epochs and at most 20, at 1e-4 for 10,000
    images and more; with n images fewer, at 1e-4 sqrt(n / 10,000), but not below 2e-5. The fewer
    the images, the closer it stays to what it has learned from others. Views and mixing are the
    student's, as in `deit.recipes.small.folder_teacher`.

    Args:
        facts: how many images there are.
        model: the network, at its own resolution.
        preprocess: its own normalisation; None: that of the paper's teacher.
    """
    count = max(facts.num_images, 1)
    epochs = min(max(60_000 // count, 5), 20)
    batch_size = min(_BATCH, 2 ** int(math.log2(max(count // 4, 8))))
    lr = round(1e-4 * min(max(math.sqrt(count / 10_000), 0.2), 1.0), 7)
    steps = epochs * max(count // batch_size, 1)
    recipe = Recipe(
        name="folder-adapted",
        epochs=epochs,
        batch_size=batch_size,
        model=model,
        preprocess=preprocess or PreprocessConfig(crop_pct=0.95),
        optim=OptimConfig(lr=lr, lr_batch=_BATCH, clip_norm=1.0),
        schedule=ScheduleConfig(warmup_epochs=max(1, epochs // 10), warmup_lr=0.0, min_lr=lr / 100),
        ema=EmaConfig(decay=round(min(1 - 10 / max(steps, 100), 0.999), 3)),
        run=RunConfig(eval_epochs=max(1, epochs // 10), eval_batch_size=_BATCH),
    )
    return Adaptation(recipe, probe_epochs=min(max(20_000 // count, 1), 40), probe_lr=1e-3)


def adapted(facts: DataFacts) -> Recipe:
    """A network that others have trained, with a new last layer, fine-tuned to teach one's classes.

    In one phase: the new layer learns beside all others, for as many epochs as both phases of
    `adapt_teacher` have and at its full rate, since a new layer needs a rate at which it moves.
    """
    recipe, probe_epochs, _ = adapt_teacher(facts)
    return dataclasses.replace(
        recipe,
        epochs=recipe.epochs + probe_epochs,
        optim=dataclasses.replace(recipe.optim, lr=_ONE_PHASE_LR),
    )
