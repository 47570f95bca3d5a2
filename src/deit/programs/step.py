"""One training step, everything that a step changes, and how that is measured.

A step is a function of its number: the batch it gets, the mixing, the dropped layers, the learning
rate and even dropout's seed follow from (recipe, step). What it changes stands in `Parts`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deit import randomness
from deit.data.loader import TrainLoader
from deit.data.plan import keep_masks
from deit.data.preprocess import Preprocess
from deit.data.render_device import HostBatch, finish_batch
from deit.data.sources import DataSet, Source
from deit.distillation.answers import Answers
from deit.distillation.loss import compute_loss
from deit.errors import RunError
from deit.measuring.evaluate import Evaluation, evaluate
from deit.model.build import build_model
from deit.optim.ema import Ema
from deit.optim.optimizer import (
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)
from deit.programs.probe import is_probing, set_training, step_learning_rate
from deit.recipes.recipe import Recipe
from deit.run.checkpoint import Checkpoint
from deit.run.machine import autocast, resolve_render
from deit.tensors import TrainBatch, TwoHeads

ALONE = 2000
"""Up to so many validation images are read in the training process itself: an evaluation starts its
own worker processes, and for so few that takes longer than the decoding that it would save."""


@dataclass(slots=True)
class Parts:
    """What a run is made of while it goes on.

    Attributes:
        recipe: the resolved recipe.
        steps_per_epoch: how many steps make an epoch.
        device: where the model is.
        model: the network, with its plain parameter names.
        forward: the same network as it is called, compiled if the recipe says so.
        optimizer: its optimizer.
        ema: the average of its weights, or None.
        answers: the frozen teacher, or what is stored of it, or None.
        best: the best evaluation so far: weights, epoch, step, top1.
    """

    recipe: Recipe
    steps_per_epoch: int
    device: torch.device
    model: nn.Module
    forward: Callable[..., TwoHeads]
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    answers: Answers | None
    best: dict[str, Any] = field(default_factory=dict)


def build_parts(
    recipe: Recipe,
    steps_per_epoch: int,
    device: torch.device,
    answers: Answers | None,
    start: nn.Module | None = None,
) -> Parts:
    """Model, optimizer and average as they are before step 0; a function of seed and ``start``."""
    model = (start or build_model(recipe.model, recipe.seed)).to(device)
    return Parts(
        recipe=recipe,
        steps_per_epoch=steps_per_epoch,
        device=device,
        model=model,
        forward=torch.compile(model) if recipe.run.compile else model,
        optimizer=build_optimizer(model, recipe.optim),
        ema=Ema(model, recipe.ema.decay) if recipe.ema.decay > 0 else None,
        answers=answers,
    )


def build_loader(recipe: Recipe, data: DataSet, device: torch.device) -> TrainLoader:
    """The training views of a recipe, from any step on; `finish_views` finishes them."""
    return TrainLoader(
        data.train,
        recipe.views,
        recipe.order,
        image_size=recipe.model.img_size,
        seed=recipe.seed_of_views,
        batch_size=recipe.batch_size,
        workers=recipe.run.workers,
        pin_memory=device.type == "cuda",
        render=resolve_render(recipe.run.render, device),
    )


def evaluation_steps(recipe: Recipe, steps_per_epoch: int) -> set[int]:
    """The numbers of finished steps after which the model is evaluated, the last among them."""
    every = recipe.run.eval_epochs * steps_per_epoch
    total = recipe.epochs * steps_per_epoch
    return {*range(every, total + 1, every), total}


def checkpoint_steps(recipe: Recipe, steps_per_epoch: int) -> set[int]:
    """The numbers of finished steps after which a checkpoint is saved, unless a stop adds one."""
    every, total = recipe.run.checkpoint_steps, recipe.epochs * steps_per_epoch
    between = set(range(every, total + 1, every)) if every else set()
    return evaluation_steps(recipe, steps_per_epoch) | between


def prepare_batch(parts: Parts, host: HostBatch) -> TrainBatch:
    """The batch of a run on its device; see `finish_views`."""
    return finish_views(parts.recipe, host, parts.device)


def finish_views(recipe: Recipe, host: HostBatch, device: torch.device) -> TrainBatch:
    """A recipe's batch on a device: rendered, normalised, erased, mixed, with its target rows."""
    return finish_batch(
        host,
        views=recipe.views,
        mix=recipe.mix,
        preprocess=model_preprocess(recipe),
        num_classes=recipe.model.num_classes,
        seed=recipe.seed_of_views,
        device=device,
    )


def model_preprocess(recipe: Recipe) -> Preprocess:
    """The evaluation transform that belongs to the recipe's model."""
    return Preprocess.build(
        recipe.preprocess, image_size=recipe.model.img_size, channels=recipe.model.in_chans
    )


def evaluate_model(
    parts: Parts,
    model: nn.Module,
    data: DataSet,
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """The accuracy of a model of this run on the validation split, or on its first images."""
    recipe = parts.recipe
    return evaluate(
        model,
        data.val,
        preprocess=model_preprocess(recipe),
        batch_size=recipe.run.eval_batch_size,
        workers=recipe.run.workers if len(data.val) > ALONE else 0,
        device=parts.device,
        precision=recipe.run.precision,
        limit=limit,
        progress=progress,
    )


def ask_teacher(parts: Parts, batch: TrainBatch) -> Tensor | None:
    """The teacher's word on exactly the pixels that the student sees; see `Answers.on`."""
    return None if parts.answers is None else parts.answers.on(batch)


def take_step(
    parts: Parts, batch: TrainBatch, answer: Tensor | None, step: int, source: Source
) -> dict[str, float]:
    """Forward, backward, update; micro-batches add up to the gradient of the batch's mean loss.

    Args:
        parts: what the step changes.
        batch: the prepared batch.
        answer: what `ask_teacher` gave.
        step: the step's number, from 0.
        source: the training images, to name them when the loss is not finite.

    Returns:
        loss, its label and teacher terms, gradient norm and learning rate.

    Raises:
        RunError: when the loss or the gradient is not finite; nothing was updated.
    """
    recipe = parts.recipe
    lr = step_learning_rate(recipe, step, parts.steps_per_epoch)
    set_learning_rate(parts.optimizer, lr)
    probing = is_probing(recipe, step, parts.steps_per_epoch)
    set_training(parts.model, parts.optimizer, probing)
    with _dropout_seed(recipe.seed, step, parts.device):
        sums = _backward(parts, batch, answer, step // parts.steps_per_epoch, drops=not probing)
    norm = torch.nn.utils.clip_grad_norm_(
        parts.model.parameters(), recipe.optim.clip_norm or float("inf")
    )
    measured = {name: total / len(batch.images) for name, total in sums.items()}
    measured |= {"grad_norm": norm.item(), "lr": lr}
    if not (np.isfinite(measured["loss"]) and np.isfinite(measured["grad_norm"])):
        raise _not_finite(parts, batch, step, measured, source)
    parts.optimizer.step()
    parts.optimizer.zero_grad(set_to_none=True)
    if parts.ema is not None:
        parts.ema.update(parts.model)
    return measured


def capture(
    parts: Parts, step: int, evaluations: dict[str, Any], seconds: float = 0.0
) -> Checkpoint:
    """Everything that the next steps depend on; random states are not among it, there are none.

    Args:
        parts: what the steps changed.
        step: number of finished steps.
        evaluations: the last evaluation.
        seconds: time that the run has taken so far, over all its parts.
    """
    tensors = {f"model.{name}": value for name, value in parts.model.state_dict().items()}
    if parts.ema is not None:
        tensors |= {f"ema.{name}": value for name, value in parts.ema.model.state_dict().items()}
    optimizer = optimizer_tensors(parts.model, parts.optimizer)
    tensors |= {f"optimizer.{name}": value for name, value in optimizer.items()}
    state = {"best": parts.best, "evaluations": evaluations, "seconds": seconds}
    return Checkpoint(step, tensors, state)


def restore(parts: Parts, checkpoint: Checkpoint) -> None:
    """Put a captured state back, bit for bit."""
    parts.model.load_state_dict(_with_prefix(checkpoint.tensors, "model."))
    if parts.ema is not None:
        parts.ema.model.load_state_dict(_with_prefix(checkpoint.tensors, "ema."))
    load_optimizer_tensors(
        parts.model, parts.optimizer, _with_prefix(checkpoint.tensors, "optimizer.")
    )
    parts.best = checkpoint.state["best"]


def _backward(
    parts: Parts, batch: TrainBatch, answer: Tensor | None, epoch: int, drops: bool
) -> dict[str, float]:
    """Gradients of the batch's mean loss, micro-batch by micro-batch; the summed loss terms."""
    recipe = parts.recipe
    size = len(batch.images)
    keep = _keep(recipe, batch, epoch, parts.device) if drops else None
    sums = {"loss": 0.0, "loss_label": 0.0}
    if recipe.distillation.kind != "none":
        sums["loss_teacher"] = 0.0
    for micro in torch.arange(size, device=parts.device).chunk(recipe.optim.accumulate):
        part = slice(int(micro[0]), int(micro[-1]) + 1)
        with autocast(parts.device, recipe.run.precision):
            heads = parts.forward(batch.images[part], None if keep is None else keep[part])
        says = None if answer is None else answer[part]
        terms = compute_loss(heads, batch.targets[part], says, recipe.distillation)
        (terms.total.sum() / size).backward()  # type: ignore[no-untyped-call]
        sums["loss"] += terms.total.sum().item()
        sums["loss_label"] += terms.label.sum().item()
        if terms.teacher is not None:
            sums["loss_teacher"] += terms.teacher.sum().item()
    return sums


def _keep(recipe: Recipe, batch: TrainBatch, epoch: int, device: torch.device) -> Tensor | None:
    """Which residual branches each sample keeps, ``[batch, depth, 2]``; None without any drop.

    Those of the epoch itself, even where a bank shows earlier views.
    """
    rates = recipe.model.drop_path_rates
    if not any(rates):
        return None
    masks = keep_masks(recipe.seed, epoch, batch.positions.cpu().numpy(), rates)
    return torch.from_numpy(masks).to(device)


@contextmanager
def _dropout_seed(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators for this step, and leave them afterwards as they were.

    Only dropout inside a model draws from them, and so it too is a function of the step.
    """
    place = np.array([step], dtype=np.int64)
    word = randomness.random_bits(seed, 0, place, randomness.Stream.DROPOUT, 1)[0, 0]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(word))
        yield


def _not_finite(
    parts: Parts, batch: TrainBatch, step: int, measured: dict[str, float], source: Source
) -> RunError:
    weights = torch.linalg.vector_norm(
        torch.stack(
            [torch.linalg.vector_norm(p.detach().float()) for p in parts.model.parameters()]
        )
    )
    names = "\n  ".join(source.names[index] for index in batch.samples.tolist())
    return RunError(
        f"step {step} (epoch {batch.epoch}): the loss is not finite: "
        + ", ".join(f"{name} {value:.6g}" for name, value in measured.items())
        + f", weight norm {weights.item():.6g}\n"
        "  nothing was updated; the last checkpoint is whole. Lower optim.lr, set optim.clip_norm "
        "to 1, or use run.precision = float32, in a new run.\n"
        f"the images of the batch:\n  {names}"
    )


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
