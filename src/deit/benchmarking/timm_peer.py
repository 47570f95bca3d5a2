"""timm's way to distil the same student: its `TokenDistillationTask`, its optimizer, its outputs.

Its loss is ``task_loss_weight CE(cls, y) + (1 - task_loss_weight) CE(dist, argmax Z_t)`` as means
over the batch. With a weight of one half it is Eq. 3 of the paper, which is `compute_loss` of kind
hard through the token with ``weight`` = 1 - task_loss_weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deit.benchmarking.lesson import Lesson
from deit.distillation.loss import compute_loss
from deit.errors import RunError, UserError
from deit.model.variants import VisionTransformerConfig
from deit.recipes.recipe import Recipe
from deit.run.machine import autocast
from deit.tensors import TwoHeads

TOLERANCE = 1e-4
"""How far float32 logits and losses may lie apart: absolutely for the student's logits, which are
below 1 at the start, and in proportion to the largest value for the teacher's logits and the loss.
The order of additions differs, no more."""

_COMPARED = 4  # images that are computed in float32 by both


@dataclass(slots=True)
class TimmPeer:
    """timm's student, task and optimizer.

    Attributes:
        task: timm's `TokenDistillationTask`.
        optimizer: of its student alone.
        recipe: says in which precision it computes.
    """

    task: nn.Module
    optimizer: torch.optim.Optimizer
    recipe: Recipe

    def take_step(self, lesson: Lesson) -> None:
        """Forward, loss, backward, update, in the order of timm's own training script."""
        images = lesson.batch.images
        with autocast(images.device, self.recipe.run.precision):
            loss = self.task(images, lesson.labels)["loss"]
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def build_peer(
    recipe: Recipe, lesson: Lesson, weights: dict[str, Tensor], device: torch.device
) -> TimmPeer:
    """timm's side of a recipe, from the same initial weights.

    Raises:
        UserError: when the installed timm has no such task.
    """
    try:
        from timm.task.token_distillation import TokenDistillationTask
    except ImportError as error:
        raise UserError(
            f"the installed timm cannot be compared with: {error}",
            "a version with timm.task.TokenDistillationTask, for example 1.0.31",
            "pip install --upgrade timm",
        ) from error
    from timm.optim import create_optimizer_v2

    assert isinstance(recipe.model, VisionTransformerConfig)
    student = build_timm_student(recipe.model, recipe.preprocess.mean, recipe.preprocess.std)
    student.load_state_dict(weights)
    task = TokenDistillationTask(
        student_model=student.to(device),
        teacher_model=lesson.network,
        criterion=nn.CrossEntropyLoss(),
        distill_type="hard",
        task_loss_weight=1 - recipe.distillation.weight,
        device=device,
        verbose=False,
    )
    optimizer = create_optimizer_v2(
        student,
        opt=recipe.optim.optimizer,
        lr=recipe.schedule.warmup_lr,
        weight_decay=recipe.optim.weight_decay,
        betas=recipe.optim.betas,
        fused=True,  # not timm's default; ours has it, and the optimizer is not what is compared
    )
    return TimmPeer(task.train(), optimizer, recipe)


def build_timm_student(
    config: VisionTransformerConfig, mean: Sequence[float], std: Sequence[float]
) -> nn.Module:
    """timm's distilled DeiT of this shape, whether or not timm has a name for it."""
    from timm.models.deit import VisionTransformerDistilled

    student: nn.Module = VisionTransformerDistilled(
        img_size=config.img_size,
        patch_size=config.patch_size,
        in_chans=config.in_chans,
        num_classes=config.num_classes,
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        drop_path_rate=config.drop_path_rate,
    )
    student.pretrained_cfg = {"mean": tuple(mean), "std": tuple(std)}  # type: ignore[assignment]
    return student


def compare_outputs(student: nn.Module, peer: TimmPeer, lesson: Lesson) -> dict[str, float]:
    """Refuse to time sides that do not compute the same; how far apart they are.

    In float32 and without stochastic depth, on the first images of the batch: the student's logits,
    the teacher's logits and decisions, and the loss. Then in the precision of the benchmark, on the
    whole batch: the teacher's decisions, ours, timm's and those on the disk.

    Raises:
        RunError: names what differs.
    """
    apart = _compare_in_float32(student, peer, lesson)
    online = lesson.online.on(lesson.batch).argmax(-1)
    with torch.no_grad(), autocast(online.device, peer.recipe.run.precision):
        theirs = _ask_timms_teacher(peer, lesson.batch.images).argmax(-1)
    _require_equal("the teacher's decisions here and in timm", online, theirs)
    _require_equal("decisions asked and stored", online, lesson.stored.on(lesson.batch))
    return apart | {"images": len(online), "distinct_decisions": len(set(online.tolist()))}


@torch.no_grad()
def _compare_in_float32(student: nn.Module, peer: TimmPeer, lesson: Lesson) -> dict[str, float]:
    recipe = peer.recipe
    images, labels = lesson.batch.images[:_COMPARED], lesson.labels[:_COMPARED]
    ours: TwoHeads = student.eval()(images)
    task: Any = peer.task.eval()
    task.trainable_module.training = True  # gives both heads; its blocks still drop nothing
    theirs = TwoHeads(*task.trainable_module(images))
    result = task(images, labels)
    said = lesson.teacher.logits(images, recipe.preprocess.mean, recipe.preprocess.std)
    heard = _ask_timms_teacher(peer, images)
    targets = lesson.batch.targets[:_COMPARED]
    loss = compute_loss(ours, targets, said.argmax(-1), recipe.distillation).total.mean()
    student.train()
    task.train()
    assert ours.dist is not None
    assert theirs.dist is not None
    _require_equal("the teacher's decisions here and in timm", said.argmax(-1), heard.argmax(-1))
    return {
        "class_logits": _require_near("the student's class logits", ours.cls, theirs.cls, 1.0),
        "distillation_logits": _require_near(
            "the student's distillation logits", ours.dist, theirs.dist, 1.0
        ),
        "teacher_logits": _require_near(
            "the teacher's logits", said, heard, heard.abs().max().item()
        ),
        "loss": _require_near("the loss", loss, result["loss"], loss.item()),
    }


def _ask_timms_teacher(peer: TimmPeer, images: Tensor) -> Tensor:
    """What timm's task would hear of its teacher."""
    task: Any = peer.task
    logits: Tensor = task.teacher(
        task.teacher.normalize_input(images, task.student_mean, task.student_std)
    )
    return logits


def _require_near(what: str, ours: Tensor, theirs: Tensor, scale: float) -> float:
    """The largest difference."""
    apart = (ours - theirs).abs().max().item()
    if not apart <= TOLERANCE * scale:  # a difference that is no number is refused, too
        raise RunError(
            f"{what}: up to {apart:.3g} apart from timm's, {TOLERANCE * scale:.3g} is allowed\n"
            "  nothing was timed: speeds of different computations do not compare"
        )
    return apart


def _require_equal(what: str, ours: Tensor, theirs: Tensor) -> None:
    differing = int((ours != theirs).sum())
    if differing:
        raise RunError(
            f"{what}: {differing} of {len(ours)} differ\n"
            "  nothing was timed: speeds of different computations do not compare"
        )
