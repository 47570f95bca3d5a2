"""Twenty training steps against an independent loop in plain torch."""

import dataclasses
import math

import pytest
import timm
import torch
import torch.nn.functional as F

from deit.data.loader import TrainLoader
from deit.data.sources import open_data
from deit.distillation.answers import Answers
from deit.distillation.config import DistillationConfig
from deit.distillation.teacher import Teacher
from deit.model.variants import named_config
from deit.optim.config import EmaConfig
from deit.programs.step import ask_teacher, build_parts, prepare_batch, take_step
from deit.recipes.book import get_recipe
from deit.recipes.recipe import Recipe, override

STEPS = 20


def make_recipe(kind: str, token: bool, per_epoch: bool) -> Recipe:
    recipe = override(
        get_recipe("digits"),
        {"data.source": "digits", "schedule.warmup_epochs": 1, "epochs": 10, "batch_size": 40}
        | {"schedule.per_epoch": per_epoch, "run.precision": "float32"},
    )
    model = named_config(
        "deit_nano_patch2_8",
        depth=2,
        embed_dim=32,
        num_classes=10,
        second_token="distillation" if token else "none",
    )
    config = DistillationConfig()
    if kind != "none":
        config = DistillationConfig.of_paper(kind, teacher="given", token=token)
    ema = EmaConfig(decay=0.0)
    return dataclasses.replace(recipe, model=model, distillation=config, ema=ema)


def plain_rate(step: int, recipe: Recipe, steps_per_epoch: int) -> float:
    """The schedule written down once more, for a warm-up of one epoch."""
    peak, low, first = 3e-3 * recipe.batch_size / 64, 1e-5, 1e-6
    if recipe.schedule.per_epoch:
        epoch = max(step // steps_per_epoch - 1, 0)
        if epoch < 1:
            return first
        return low + (peak - low) * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2
    time = step / steps_per_epoch
    if time < 1:
        return first + (peak - first) * time
    return low + (peak - low) * (1 + math.cos(math.pi * (time - 1) / (recipe.epochs - 1))) / 2


def plain_loss(kind, token, logits, targets, teacher_logits):
    """Eq. 2 and Eq. 3 with torch's own functions; ``logits`` are class and second head."""
    label = F.cross_entropy(logits[0], targets)
    if kind == "none":
        return label
    student = logits[1] if token else logits[0]
    if kind == "hard":
        return 0.5 * label + 0.5 * F.cross_entropy(student, teacher_logits.argmax(1))
    divergence = F.kl_div(
        F.log_softmax(student / 3, 1),
        F.log_softmax(teacher_logits / 3, 1),
        reduction="batchmean",
        log_target=True,
    )
    return 0.9 * label + 0.1 * 9 * divergence


def timm_twin(model: torch.nn.Module, token: bool) -> torch.nn.Module:
    """timm's model of the same shape with the same weights."""
    name = "deit_tiny_distilled_patch16_224" if token else "deit_tiny_patch16_224"
    twin = timm.create_model(
        name, img_size=8, patch_size=2, embed_dim=32, depth=2, num_heads=2, num_classes=10
    )
    twin.load_state_dict(model.state_dict())
    if token:
        twin.set_distilled_training(True)
    return twin.double().train()


@pytest.mark.parametrize("per_epoch", [False, True])
@pytest.mark.parametrize(
    ("kind", "token"),
    [("none", False), ("soft", False), ("hard", False), ("soft", True), ("hard", True)],
)
def test_twenty_steps_equal_a_loop_in_plain_torch(kind, token, per_epoch):
    """timm's model, torch's AdamW, torch's losses, in float64; losses and weights to 1e-6."""
    recipe = make_recipe(kind, token, per_epoch)
    data = open_data("digits", images_per_class=20)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10)).double()
    teacher = None
    if kind != "none":
        teacher = Teacher(
            lambda images: network(images.double()),
            name="linear",
            classes=data.classes.names,
            mean=recipe.preprocess.mean,
            std=recipe.preprocess.std,
            image_size=8,
        )
    loader = TrainLoader(
        data.train, recipe.views, recipe.order, image_size=8, seed=0, batch_size=40, workers=0
    )
    pixels = {"mean": recipe.preprocess.mean, "std": recipe.preprocess.std, "group": 64}
    answers = None
    if teacher is not None:
        answers = Answers(config=recipe.distillation, teacher=teacher, stores=(), **pixels)
    parts = build_parts(recipe, loader.steps_per_epoch, torch.device("cpu"), answers)
    parts.model.double()
    twin = timm_twin(parts.model, token)
    free = [p for n, p in twin.named_parameters() if p.ndim <= 1 or n.endswith(("token", "embed"))]
    ids = {id(parameter) for parameter in free}
    decayed = [parameter for parameter in twin.parameters() if id(parameter) not in ids]
    referee = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": free, "weight_decay": 0.0}],
        foreach=False,
    )
    for step, host in enumerate(loader.batches(0, STEPS)):
        batch = prepare_batch(parts, host)
        batch = dataclasses.replace(batch, images=batch.images.double())
        answer = ask_teacher(parts, batch)
        measured = take_step(parts, batch, answer, step, data.train)
        for group in referee.param_groups:
            group["lr"] = plain_rate(step, recipe, loader.steps_per_epoch)
        logits = twin(batch.images)
        logits = logits if token else (logits,)
        loss = plain_loss(kind, token, logits, batch.targets.double(), answer)
        referee.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        referee.step()
        assert measured["loss"] == pytest.approx(loss.item(), abs=1e-6)
    theirs = dict(twin.named_parameters())
    for name, ours in parts.model.named_parameters():
        torch.testing.assert_close(ours, theirs[name], rtol=0, atol=1e-6, msg=name)
