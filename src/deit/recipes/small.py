"""Recipes for small images, small data sets and small machines, and for one's own folder."""

import contextlib
import dataclasses
import math
import statistics
from dataclasses import dataclass

from deit.data.dataset import DataSet, read_size
from deit.data.images import BadImage
from deit.data.plan import ViewConfig
from deit.data.preprocess import PreprocessConfig
from deit.model.variants import named_config
from deit.optim.config import EmaConfig, OptimConfig, ScheduleConfig
from deit.recipes.recipe import Recipe, RunConfig

_GREY = PreprocessConfig(crop_pct=1.0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFacts:
    """What a recipe needs to know of a data set to size itself.

    Attributes:
        num_images: images of the training split.
        num_classes: classes.
        image_size: the median of the images' shorter sides, in pixels.
    """

    num_images: int
    num_classes: int
    image_size: int

    @classmethod
    def of(cls, data: DataSet) -> "DataFacts":
        """The facts of a data set; sizes are those of up to 200 images spread over it.

        Unreadable images are passed over: whoever trains names them.
        """
        sides = []
        for index in range(0, len(data.train), -(-len(data.train) // 200)):
            with contextlib.suppress(BadImage):
                sides.append(min(read_size(data.train, index)))
        return cls(
            num_images=len(data.train),
            num_classes=len(data.classes),
            image_size=statistics.median_low(sides or [1]),
        )


def digits() -> Recipe:
    """A micro DeiT for scikit-learn's 8 x 8 handwritten digits.

    Digits must not be mirrored, and their colours say nothing; what is left of the paper's
    augmentation is a mild resized crop, erasing, mixup and CutMix.
    """
    return Recipe(
        name="digits",
        epochs=60,
        batch_size=50,
        model=named_config("deit_nano_patch4_8"),
        views=ViewConfig(scale=(0.7, 1.0), flip=0.0, policy="none"),
        preprocess=_GREY,
        optim=OptimConfig(lr=3e-3, lr_batch=64, clip_norm=1.0),
        schedule=ScheduleConfig(warmup_epochs=5),
        ema=EmaConfig(decay=0.99),
        run=RunConfig(workers=0, eval_epochs=10),
    )


def digits_teacher() -> Recipe:
    """A residual convnet for the digits, trained with the student's views and mixing."""
    return dataclasses.replace(
        digits(),
        name="digits-teacher",
        model=named_config("convnet_small", img_size=8),
        optim=OptimConfig(lr=2e-3, lr_batch=64),
    )


def cifar() -> Recipe:
    """A micro DeiT for 32-pixel images such as CIFAR's, with the paper's full augmentation."""
    return Recipe(
        name="cifar",
        epochs=100,
        batch_size=128,
        model=named_config("deit_micro_patch4_32"),
        preprocess=PreprocessConfig(crop_pct=1.0),
        optim=OptimConfig(lr=1e-3, lr_batch=128, clip_norm=1.0),
        schedule=ScheduleConfig(warmup_epochs=5),
        ema=EmaConfig(decay=0.999),
        run=RunConfig(eval_epochs=5),
    )


def folder(facts: DataFacts) -> Recipe:
    """For one's own images: model and length follow from how many and how large they are.

    The image size is the largest of 16, 32, 64, 96 and 224 px that the median image reaches, 224 px
    only from 20,000 images on. The length aims at 300,000 views: at least 30 epochs, at most 300.
    """
    size, name = _size_for(facts)
    batch_size = 128 if size < 224 else 256
    batch_size = min(batch_size, 2 ** int(math.log2(max(facts.num_images // 4, 8))))
    epochs = min(max(300_000 // max(facts.num_images, 1), 30), 300)
    return Recipe(
        name="folder",
        epochs=epochs,
        batch_size=batch_size,
        model=named_config(name),
        preprocess=PreprocessConfig(crop_pct=1.0 if size < 224 else 0.875),
        optim=OptimConfig(lr=1e-3 if size < 224 else 5e-4, lr_batch=128, clip_norm=1.0),
        schedule=ScheduleConfig(warmup_epochs=max(1, epochs // 20)),
        ema=EmaConfig(decay=0.999),
        run=RunConfig(eval_epochs=max(1, epochs // 20)),
    )


def folder_teacher(facts: DataFacts) -> Recipe:
    """A convnet for one's own images, at up to 64 px.

    Its views and mixing are the student's, as those of the paper's teachers were: a teacher that
    has not seen mixed images is often wrong on them, and its student learns that
    (docs/experiments.md).
    """
    recipe = folder(facts)
    return dataclasses.replace(
        recipe,
        name="folder-teacher",
        model=named_config("convnet", img_size=min(recipe.model.img_size, 64)),
    )


def _size_for(facts: DataFacts) -> tuple[int, str]:
    """Image size in pixels and the variant that takes it."""
    if facts.image_size >= 224 and facts.num_images >= 20_000:
        return 224, "deit_tiny_patch16_224"
    for size, name in ((96, "deit_mini_patch8_96"), (64, "deit_micro_patch8_64")):
        if facts.image_size >= size:
            return size, name
    if facts.image_size >= 20:
        return 32, "deit_micro_patch4_32"
    return 16, "deit_nano_patch2_16"
