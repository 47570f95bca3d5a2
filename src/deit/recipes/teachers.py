"""Recipes for teachers that start from a network which others have trained."""

import math

from deit.data.preprocess import PreprocessConfig
from deit.model.variants import ZooConfig
from deit.optim.config import EmaConfig, OptimConfig, ScheduleConfig
from deit.recipes.recipe import Recipe, RunConfig
from deit.recipes.small import DataFacts
from deit.recipes.start import StartConfig

_PAPERS_TEACHER = ZooConfig(name="timm:regnety_160.deit_in1k", img_size=224, pretrained=True)
_BATCH = 64


def adapted(facts: DataFacts) -> Recipe:
    """A network that others have trained, with a new last layer, fitted to teach one's own classes.

    First the last layer alone: 20,000 views of the images, at least 1 epoch and at most 40. Then
    everything, at a low rate: 60,000 views, at least 5 epochs and at most 20, at 1e-4 for 10,000
    images and more; with n images fewer, at 1e-4 sqrt(n / 10,000), but not below 2e-5. The fewer
    the images, the closer it stays to what it has learned from others. Views and mixing are the
    student's, as in `deit.recipes.small.folder_teacher`.

    The network is the paper's teacher unless another is chosen; its resolution and normalisation
    are its own.
    """
    count = max(facts.num_images, 1)
    epochs = min(max(60_000 // count, 5), 20)
    batch_size = min(_BATCH, 2 ** int(math.log2(max(count // 4, 8))))
    lr = round(1e-4 * min(max(math.sqrt(count / 10_000), 0.2), 1.0), 7)
    steps = epochs * max(count // batch_size, 1)
    probe_epochs = min(max(20_000 // count, 1), 40)
    return Recipe(
        name="folder-adapted",
        epochs=probe_epochs + epochs,
        batch_size=batch_size,
        model=_PAPERS_TEACHER,
        start=StartConfig(probe_epochs=probe_epochs, probe_lr=1e-3),
        preprocess=PreprocessConfig(crop_pct=0.95),
        optim=OptimConfig(lr=lr, lr_batch=_BATCH, clip_norm=1.0),
        schedule=ScheduleConfig(warmup_epochs=max(1, epochs // 10), warmup_lr=0.0, min_lr=lr / 100),
        ema=EmaConfig(decay=round(min(1 - 10 / max(steps, 100), 0.999), 3)),
        run=RunConfig(eval_epochs=max(1, epochs // 10), eval_batch_size=_BATCH),
    )
