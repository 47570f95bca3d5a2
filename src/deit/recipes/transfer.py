"""Recipes of transfer to other data (paper, section 5.4, Table 7).

The paper gives no settings for these runs. They come from answers of its authors on GitHub, which
each docstring names (deit is facebookresearch/deit, dino is facebookresearch/dino). What an answer
leaves open is as in Table 9. All start from DeiT-B at 224 pixels; `deit finetune RUN DATA --recipe
NAME` starts from another model. Rates are those of the whole batch of 768, unscaled.
"""

import dataclasses

from deit.data.mix_plan import MixConfig
from deit.data.order import OrderConfig
from deit.data.plan import ViewConfig
from deit.model.variants import named_config
from deit.optim.config import EmaConfig, OptimConfig, ScheduleConfig
from deit.recipes.recipe import Recipe, RunConfig
from deit.recipes.start import StartConfig

BATCH = 768


def cifar10() -> Recipe:
    """CIFAR-10 from ImageNet: SGD at 0.01, decay 1e-4, 1000 epochs (deit #45).

    No erasing, no stochastic depth, the rest as on ImageNet; images are enlarged to 224 pixels.
    """
    return _with_sgd("transfer/cifar10")


def cars() -> Recipe:
    """Stanford Cars from ImageNet: as CIFAR-10, SGD at 0.01 for 1000 epochs (deit #45)."""
    return _with_sgd("transfer/cars")


def cifar10_adamw() -> Recipe:
    """CIFAR-10 from ImageNet with AdamW at 7.5e-6, decay 0.05, 1000 epochs (dino #81).

    RandAugment, mixup 0.8, CutMix 1, label smoothing, repeated augmentation, stochastic depth 0.1.
    """
    return _with_adamw("transfer/cifar10-adamw", lr=7.5e-6, epochs=1000)


def cifar100() -> Recipe:
    """CIFAR-100 from ImageNet: as CIFAR-10 with AdamW, at 5e-6 (dino #144)."""
    return _with_adamw("transfer/cifar100", lr=5e-6, epochs=1000)


def inat() -> Recipe:
    """iNaturalist 2018 or 2019 from ImageNet: AdamW at 7.5e-5, 360 epochs (deit #105, #141).

    Decay 0.05, label smoothing 0.1, mixup and CutMix, stochastic depth 0.1, erasing 0.1.
    """
    recipe = _with_adamw("transfer/inat", lr=7.5e-5, epochs=360)
    return dataclasses.replace(recipe, views=ViewConfig(erase=0.1))


def _with_sgd(name: str) -> Recipe:
    return dataclasses.replace(
        _from_imagenet(name, epochs=1000, drop_path_rate=0.0),
        views=ViewConfig(erase=0.0),
        optim=OptimConfig(optimizer="sgd", lr=0.01, lr_batch=BATCH, weight_decay=1e-4),
    )


def _with_adamw(name: str, lr: float, epochs: int) -> Recipe:
    return dataclasses.replace(
        _from_imagenet(name, epochs=epochs, drop_path_rate=0.1),
        optim=OptimConfig(lr=lr, lr_batch=BATCH, weight_decay=0.05),
        schedule=ScheduleConfig(min_lr=min(1e-5, lr / 10)),
    )


def _from_imagenet(name: str, epochs: int, drop_path_rate: float) -> Recipe:
    return Recipe(
        name=name,
        epochs=epochs,
        batch_size=BATCH,
        model=named_config("deit_base_patch16_224", drop_path_rate=drop_path_rate),
        start=StartConfig(model="timm:deit_base_patch16_224.fb_in1k"),
        order=OrderConfig(repeats=3),
        mix=MixConfig(),
        ema=EmaConfig(decay=0.0),
        run=RunConfig(workers=8, log_steps=50, eval_epochs=10, check_images="header"),
    )
