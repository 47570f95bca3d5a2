"""The probe of fine-tuning: first epochs in which only the heads learn.

All of it is a function of the step's number, so that a resumed run needs to remember nothing.
"""

import torch
from torch import nn

from deit.model.adapt import head_names
from deit.optim.schedule import learning_rate
from deit.recipes.recipe import Recipe


def is_probing(recipe: Recipe, step: int, steps_per_epoch: int) -> bool:
    """Whether a step, counted from 0, belongs to the probe."""
    return step < recipe.start.probe_epochs * steps_per_epoch


def step_learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step: the probe's own, then warm-up and schedule from their start."""
    if is_probing(recipe, step, steps_per_epoch):
        return recipe.start.probe_lr
    probe = recipe.start.probe_epochs
    return learning_rate(
        step - probe * steps_per_epoch,
        peak_lr=recipe.optim.peak_lr(recipe.batch_size),
        config=recipe.schedule,
        steps_per_epoch=steps_per_epoch,
        epochs=recipe.epochs - probe,
    )


def set_training(model: nn.Module, optimizer: torch.optim.Optimizer, probing: bool) -> None:
    """Training mode and gradients for what learns in this step, nothing of both for the rest.

    A parameter without a gradient is passed over by the optimizer: no step, no decay, no moments.

    Args:
        model: the network.
        optimizer: holds the parameters that are trained at all.
        probing: only the heads learn; without it all do.
    """
    model.train(not probing)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.requires_grad_(not probing)
    if probing:
        for name in head_names(model):
            model.get_submodule(name).train().requires_grad_(True)
