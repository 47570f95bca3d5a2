"""The recipe: everything that decides what a run computes, as one frozen value."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deit import config
from deit.data.mix_plan import MixConfig
from deit.data.order import OrderConfig
from deit.data.plan import ViewConfig
from deit.data.preprocess import PreprocessConfig
from deit.data.sources import DataConfig
from deit.distillation.config import DistillationConfig
from deit.errors import UserError
from deit.model.variants import (
    ConvNetConfig,
    SecondToken,
    VisionTransformerConfig,
    ZooConfig,
)
from deit.optim.config import EmaConfig, OptimConfig, ScheduleConfig
from deit.recipes.start import StartConfig

ModelConfig = VisionTransformerConfig | ConvNetConfig | ZooConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """How a run is carried out: machine, precision, how often it saves, measures and reports."""

    device: str = "auto"
    """auto (CUDA, else CPU), cpu, cuda, cuda:1, mps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Autocast of the forward pass; auto takes bfloat16 where the machine computes in it. The run
    folder keeps what was taken."""
    render: Literal["auto", "host", "device"] = "auto"
    """Where views get their flips and operations: host, one by one beside the training; device,
    all of a batch together; auto takes the device where that is a CUDA GPU. Cutting and resizing
    is always the host's. The run folder keeps what was taken."""
    workers: int = 2
    """Processes that render views beside the training process; 0 renders in it. Changes nothing
    that is computed."""
    compile: bool = False
    """Compile the model with torch.compile: slow first step, faster later ones on a GPU."""
    eval_batch_size: int = 256
    """Images per step of evaluation."""
    eval_epochs: int = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    log_steps: int = 10
    """Steps between lines in metrics.jsonl."""
    checkpoint_steps: int = 0
    """Steps between checkpoints beside those at each evaluation; 0 for none."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay on the disk."""
    check_images: Literal["decode", "header", "none"] = "decode"
    """How the images are checked before training: decoded whole, by their header, not at all."""

    def __post_init__(self) -> None:
        for name, least in (
            ("workers", 0),
            ("eval_batch_size", 1),
            ("eval_epochs", 1),
            ("log_steps", 1),
            ("checkpoint_steps", 0),
            ("keep_checkpoints", 1),
        ):
            value = getattr(self, name)
            if value < least:
                raise UserError(
                    f"recipe.run.{name} = {value}", f"from {least}", "correct the value"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A whole run as a value. Two runs of one recipe on one machine are bitwise equal.

    Combinations that cannot act are refused where the recipe is built; nothing is ignored.

    Raises:
        UserError: names the fields that contradict each other and what to do.
    """

    name: str = ""
    """What the run is called: part of the default folder name."""
    seed: int = 0
    """Decides the initial weights, the order, every view, every mix and every dropped layer."""
    view_seed: int | None = None
    """Decides order, views and mixing where it is given, so that students of several seeds see the
    same views and can share one label store; none takes the seed."""
    epochs: int = 300
    """Passes over as many views as the training split has images."""
    batch_size: int = 1024
    """Images per step over all processes and micro-batches."""
    model: ModelConfig = field(default_factory=VisionTransformerConfig)
    """The network."""
    start: StartConfig = field(default_factory=StartConfig)
    """The model to start from, for fine-tuning."""
    data: DataConfig = field(default_factory=DataConfig)
    """The images."""
    order: OrderConfig = field(default_factory=OrderConfig)
    """Order of an epoch, repeated augmentation."""
    views: ViewConfig = field(default_factory=ViewConfig)
    """Augmentation of single images."""
    mix: MixConfig = field(default_factory=MixConfig)
    """Mixup, CutMix, label smoothing."""
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    """Normalisation, and the transform of evaluation."""
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    """The teacher and the loss against it."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Learning rate."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    """Average of the weights."""
    run: RunConfig = field(default_factory=RunConfig)
    """Machine and bookkeeping."""

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, f"epochs = {self.epochs}", "from 1", "set --epochs")
        _require(self.batch_size >= 1, f"batch_size = {self.batch_size}", "from 1", "--batch-size")
        _require(0 <= self.seed < 2**32, f"seed = {self.seed}", "0 to 4294967295", "set --seed")
        _require(
            0 <= self.seed_of_views < 2**32,
            f"view_seed = {self.view_seed}",
            "0 to 4294967295, or none",
            "set --view-seed",
        )
        _require(
            self.order.bank_epochs <= self.epochs,
            f"order.bank_epochs = {self.order.bank_epochs} with epochs = {self.epochs}",
            "at most the number of epochs",
            "leave it out: no views are used twice",
        )
        _require(
            self.batch_size % self.optim.accumulate == 0,
            f"optim.accumulate = {self.optim.accumulate} with batch_size = {self.batch_size}",
            "a divisor of the batch size",
            "change one of the two",
        )
        _require(
            self.schedule.warmup_epochs <= self.epochs,
            f"schedule.warmup_epochs = {self.schedule.warmup_epochs} with epochs = {self.epochs}",
            "at most the number of epochs",
            "shorten the warm-up with --schedule.warmup_epochs",
        )
        self._check_start()
        self._check_distillation()

    @property
    def seed_of_views(self) -> int:
        """The seed of order, views and mixing."""
        return self.seed if self.view_seed is None else self.view_seed

    def _check_start(self) -> None:
        start, left = self.start, self.epochs - self.start.probe_epochs
        published = isinstance(self.model, ZooConfig) and self.model.is_trained
        _require(
            not start.probe_epochs or bool(start.model) or published,
            f"start.probe_epochs = {start.probe_epochs} with a network that starts at random",
            "0 where start.model is empty and the network has no published weights",
            "name a start.model, or set start.probe_epochs=0",
        )
        _require(
            left >= 0,
            f"start.probe_epochs = {start.probe_epochs} with epochs = {self.epochs}",
            "at most the number of epochs",
            "shorten the probe, or raise --epochs",
        )
        _require(
            not start.probe_epochs or self.schedule.warmup_epochs <= left,
            f"schedule.warmup_epochs = {self.schedule.warmup_epochs} with start.probe_epochs = "
            f"{start.probe_epochs} of {self.epochs} epochs",
            f"at most the {left} epochs after the probe",
            "shorten the warm-up with --schedule.warmup_epochs",
        )
        _require(
            left > 0 or self.optim.lr == OptimConfig().lr,
            f"optim.lr = {self.optim.lr} with a probe in all {self.epochs} epochs",
            f"{OptimConfig().lr}, the default, where it cannot act",
            "set start.probe_lr instead, or fewer start.probe_epochs",
        )
        _require(
            not (start.model and published),
            f"published weights of model.name with start.model = {start.model}",
            "one starting point",
            "leave one of the two out",
        )

    def _check_distillation(self) -> None:
        second = second_token(self.model)
        distillation = self.distillation
        uses_token = distillation.kind != "none" and distillation.token
        _require(
            not uses_token or second != "none",
            f"distillation.kind = {distillation.kind} through the token, with a model of one token",
            "a model with model.second_token = distillation, or distillation.token = false",
            "take a distilled model, or distil through the class token",
        )
        _require(
            uses_token or second == "none",
            f"model.second_token = {second} with distillation.kind = {distillation.kind} and "
            f"distillation.token = {str(distillation.token).lower()}",
            "a second token that some loss trains",
            "set distillation.kind, or model.second_token = none",
        )
        on_labels = ("class", "distillation") if self.start.model else ("class",)
        _require(
            second in on_labels if distillation.kind == "label" else second != "class",
            f"distillation.kind = {distillation.kind} with model.second_token = {second}",
            "kind label belongs to second_token class (two class tokens, section 4 of the paper), "
            "or to a distilled model that is fine-tuned without a teacher (start.model)",
            "change one of the two",
        )


def second_token(model: ModelConfig) -> SecondToken:
    """The second token of a model: none, distillation or class."""
    return model.second_token if isinstance(model, VisionTransformerConfig) else "none"


def plain(recipe: Recipe) -> Recipe:
    """The same recipe without a teacher: one token, the true labels alone."""
    return dataclasses.replace(
        recipe,
        model=with_second_token(recipe.model, "none"),
        distillation=DistillationConfig(),
    )


def distilled(
    recipe: Recipe,
    teacher: str,
    kind: Literal["soft", "hard"] = "hard",
    token: bool = True,
) -> Recipe:
    """The same recipe with a teacher, in one of the paper's ways.

    Args:
        recipe: plain or distilled.
        teacher: the teacher's name, as `deit distill --teacher` takes it.
        kind: hard labels (Eq. 3) or soft ones (Eq. 2), with the paper's weight and temperature.
        token: through a distillation token (section 3), or on the class token alone.
    """
    return dataclasses.replace(
        recipe,
        model=with_second_token(recipe.model, "distillation" if token else "none"),
        distillation=DistillationConfig.of_paper(kind, teacher=teacher, token=token),
    )


def with_second_token(model: ModelConfig, second: SecondToken) -> ModelConfig:
    """The same network with another second token.

    Raises:
        UserError: for a network that has no tokens.
    """
    if isinstance(model, VisionTransformerConfig):
        return dataclasses.replace(model, second_token=second)
    if second == "none":
        return model
    raise UserError(
        f"recipe.model.kind = {model.kind} with a distillation token",
        "a vision transformer",
        "distil it through its one head: distillation.token = false",
    )


def save_recipe(path: Path, recipe: Recipe) -> None:
    """Write the resolved recipe as YAML; `load_recipe` gives an equal value back."""
    path.write_text(config.to_yaml(recipe), encoding="utf-8")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe that `save_recipe` wrote, or one written by hand."""
    return config.from_plain(Recipe, config.read_yaml(path))


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A copy with dotted fields changed: ``override(recipe, {"optim.lr": 1e-3})``."""
    return config.override(recipe, changes)


def _require(holds: bool, given: str, allowed: str, todo: str) -> None:
    if not holds:
        raise UserError(f"recipe.{given}", allowed, todo)
