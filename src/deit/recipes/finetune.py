"""Recipes of fine-tuning: a model trained before goes on, larger, on other classes, or both.

The paper's at 384 pixels (sections 3 to 6), a gentle one for one's own runs, and the adaptation of
a convnet to another resolution. Stochastic depth is off in all of them: the reference's fine-tuning
was run in evaluation mode, which drops nothing (until its commit d64e7e9 of July 2022).
"""

import dataclasses

from deit.data.mix_plan import MixConfig
from deit.data.order import OrderConfig
from deit.data.plan import ViewConfig
from deit.distillation.config import DistillationConfig
from deit.model.variants import VisionTransformerConfig, named_config
from deit.optim.config import EmaConfig, OptimConfig, ScheduleConfig
from deit.recipes.paper import TEACHER
from deit.recipes.recipe import ModelConfig, Recipe, RunConfig, distilled, second_token
from deit.recipes.start import StartConfig

_BASE = "timm:deit_base_patch16_224.fb_in1k"
_BASE_DISTILLED = "timm:deit_base_distilled_patch16_224.fb_in1k"


def gentle(
    base: Recipe | None = None,
    *,
    network: ModelConfig | None = None,
    start: str = _BASE,
    other_classes: bool = False,
    other_size: bool = False,
    epochs: int | None = None,
) -> Recipe:
    """One's own run, or any model, goes on for a tenth of its epochs at a small constant rate.

    Views, mixing and normalisation stay the run's own. The rate is a hundredth of the run's, as the
    paper's 5e-6 is of its 5e-4, after a warm-up of a fifth (the reference: 5 of 30 epochs); a tenth
    where the image size or the classes change, which small networks need to recover in so few
    epochs (docs/experiments.md). Neither decay (1e-8 in the reference) nor stochastic depth. For
    other classes the new heads first learn alone, in a third of the epochs, at the run's peak rate.
    Labels only: see `labels_only`.

    Args:
        base: the recipe that the model was trained with; None: the paper's for DeiT-B.
        network: the network of the start; None: the recipe's.
        start: what to start from.
        other_classes: whether any row of the heads will be new.
        other_size: whether the image size changes.
        epochs: the length; None: a tenth of the run's, at least 3.
    """
    base = base or _full_augmentation("finetune", "deit_base_patch16_224")
    network = network or base.model
    epochs = epochs or max(3, round(base.epochs / 10))
    probe = round(epochs / 3) if other_classes else 0
    peak = base.optim.peak_lr(base.batch_size)
    lr = _rounded(peak / (10 if other_classes or other_size else 100))
    return dataclasses.replace(
        base,
        name="finetune",
        epochs=epochs,
        model=without_stochastic_depth(network),
        order=dataclasses.replace(base.order, bank_epochs=0),
        start=_start(start, probe, peak),
        distillation=labels_only(network),
        optim=dataclasses.replace(base.optim, lr=lr, lr_batch=base.batch_size, weight_decay=1e-8),
        schedule=ScheduleConfig(
            shape="constant",
            warmup_epochs=round((epochs - probe) / 5, 2),
            warmup_lr=min(1e-6, _rounded(lr / 5)),
        ),
        run=_anywhere(base.run, eval_epochs=max(1, epochs // 10)),
    )


def labels_only(network: ModelConfig) -> DistillationConfig:
    """The loss of fine-tuning without a teacher: the true label, for both heads of two.

    The reference then trains the class head alone and still averages the other one in.
    """
    if second_token(network) == "none":
        return DistillationConfig()
    return DistillationConfig(kind="label")


def paper_384() -> Recipe:
    """DeiT-B from 224 to 384 pixels as the paper's text says: 25 epochs (section 6).

    Batch 512, AdamW at a constant 5e-6 after five epochs of warm-up, the full augmentation of
    Table 9 (section 3). Decay, warm-up and batch are the reference README's, since the paper gives
    none.
    """
    return dataclasses.replace(
        _full_augmentation("finetune/paper", "deit_base_patch16_384"),
        epochs=25,
        batch_size=512,
        start=StartConfig(model=_BASE, heads="keep"),
        optim=OptimConfig(lr=5e-6, lr_batch=512, weight_decay=1e-8),
        schedule=ScheduleConfig(shape="constant", warmup_epochs=5, warmup_lr=1e-6),
    )


def paper_384_distilled() -> Recipe:
    """DeiT-B with its teacher at 384 pixels: true label and teacher's label (section 4).

    The reference code raises NotImplementedError here. The teacher is asked at 384 pixels too, as
    it is in the paper; name one that was adapted to them by finetune/fixres for all of its method.
    """
    recipe = distilled(paper_384(), TEACHER)
    return dataclasses.replace(
        recipe,
        name="finetune/paper-distilled",
        model=named_config("deit_base_distilled_patch16_384"),
        start=StartConfig(model=_BASE_DISTILLED, heads="keep"),
        distillation=dataclasses.replace(recipe.distillation, teacher_size=384),
    )


def readme_384() -> Recipe:
    """DeiT-B from 224 to 384 pixels with the command of the reference's README: 30 epochs.

    Batch 512, 5e-6 down to 5e-6, that is constant, after five epochs of warm-up from 1e-6, decay
    1e-8, and the reference's steps of the rate (decision record 0007).
    """
    return dataclasses.replace(
        paper_384(),
        name="finetune/readme",
        epochs=30,
        schedule=ScheduleConfig(warmup_epochs=5, warmup_lr=1e-6, min_lr=5e-6, per_epoch=True),
    )


def fixres(base: Recipe | None = None, crop_pct: float = 0.875) -> Recipe:
    """A convnet adapted to another resolution by its last layer alone (FixRes; paper, section 4).

    Touvron et al. (arXiv 1906.06423) fine-tune the classifier, and with it the last BatchNorm, at
    the resolution of testing on crops as in testing: here the classifier only, in evaluation mode.
    A crop of testing keeps the share ``crop_pct`` of the shorter side: the square of that of a
    square image's area, three quarters as much of an image of 4:3. A view is a square of an area
    between the two, mirrored as in the run, and nothing else. Length and rate (the peak of the
    run's; 1e-4 for published networks) are ours.

    Args:
        base: the recipe that the network was trained with; None: one for ImageNet.
        crop_pct: of the network's evaluation transform.
    """
    run = RunConfig(workers=8, log_steps=50, check_images="header")
    area = crop_pct**2
    rate = _rounded(base.optim.peak_lr(base.batch_size)) if base else 1e-4
    return Recipe(
        name="finetune/fixres",
        epochs=5,
        batch_size=min(256, base.batch_size) if base else 256,
        model=named_config(TEACHER, img_size=384),
        start=StartConfig(model=TEACHER, heads="keep", probe_epochs=5, probe_lr=rate),
        views=ViewConfig(
            scale=(round(0.75 * area, 2), round(area, 2)),
            ratio=(1.0, 1.0),
            flip=base.views.flip if base else 0.5,
            policy="none",
            erase=0.0,
        ),
        mix=MixConfig(mixup=0.0, cutmix=0.0, smoothing=0.0),
        optim=OptimConfig(weight_decay=0.0),
        schedule=ScheduleConfig(warmup_epochs=0),
        ema=EmaConfig(decay=0.0),
        run=_anywhere(base.run, eval_epochs=1) if base else run,
    )


def without_stochastic_depth(model: ModelConfig) -> ModelConfig:
    """The same network with every block always kept."""
    if isinstance(model, VisionTransformerConfig):
        return dataclasses.replace(model, drop_path_rate=0.0)
    return model


def resized(model: ModelConfig, img_size: int) -> ModelConfig:
    """The same network for images of another size, and named after it where it named its own.

    >>> resized(named_config("deit_tiny_patch16_224"), 160).name
    'deit_tiny_patch16_160'
    """
    stem, _, size = model.name.rpartition("_")
    name = f"{stem}_{img_size}" if size == str(model.img_size) and model.kind != "zoo" else None
    return dataclasses.replace(model, img_size=img_size, name=name or model.name)


def _full_augmentation(name: str, model: str) -> Recipe:
    """Table 9's views, mixing and repeats, which fine-tuning keeps (section 3).

    No average of the weights: after fine-tuning it brings nothing (Table 8).
    """
    return Recipe(
        name=name,
        model=named_config(model),
        order=OrderConfig(repeats=3),
        ema=EmaConfig(decay=0.0),
        run=RunConfig(workers=8, log_steps=50, check_images="header"),
    )


def _anywhere(run: RunConfig, eval_epochs: int) -> RunConfig:
    """How the earlier run was carried out, without what its machine decided."""
    return dataclasses.replace(run, device="auto", precision="auto", eval_epochs=eval_epochs)


def _start(model: str, probe_epochs: int, peak: float) -> StartConfig:
    if not probe_epochs:
        return StartConfig(model=model)
    return StartConfig(model=model, probe_epochs=probe_epochs, probe_lr=_rounded(peak))


def _rounded(rate: float) -> float:
    """Two digits: a rate that a person can read in a recipe."""
    return float(f"{rate:.2g}")
