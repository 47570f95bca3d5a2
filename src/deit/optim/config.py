"""The fields of a recipe that steer optimizer, learning rate and weight average; no torch here."""

from dataclasses import dataclass, fields
from typing import Literal

from deit.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """Which optimizer, how fast, how much decay (Table 9 of the paper).

    A setting of the other optimizer raises, unless it is left at its default.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW in all the paper's recipes; SGD with momentum for the ablation of Table 8."""
    lr: float = 5e-4
    """Peak learning rate for a batch of `lr_batch` images; scaled in proportion to the batch."""
    lr_batch: int = 512
    """The batch that `lr` is stated for (the paper: lr x batch / 512)."""
    weight_decay: float = 0.05
    """Decoupled weight decay, not applied to biases, norms, tokens and position embeddings."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the first and second moment."""
    eps: float = 1e-8
    """AdamW's term in the denominator."""
    momentum: float = 0.9
    """SGD's momentum (Nesterov); 0 is SGD without."""
    clip_norm: float | None = None
    """Largest global gradient norm; none in the paper."""
    accumulate: int = 1
    """Micro-batches per step: splits each batch to save memory, changes no view and no mixing."""

    def __post_init__(self) -> None:
        _require(self.lr > 0, f"optim.lr = {self.lr}", "above 0")
        _require(self.lr_batch >= 1, f"optim.lr_batch = {self.lr_batch}", "from 1")
        _require(self.weight_decay >= 0, f"optim.weight_decay = {self.weight_decay}", "from 0")
        _require(
            all(0 <= beta < 1 for beta in self.betas), f"optim.betas = {self.betas}", "0 up to 1"
        )
        _require(0 <= self.momentum < 1, f"optim.momentum = {self.momentum}", "0 up to 1")
        _require(
            self.clip_norm is None or self.clip_norm > 0,
            f"optim.clip_norm = {self.clip_norm}",
            "above 0, or none",
        )
        _require(self.accumulate >= 1, f"optim.accumulate = {self.accumulate}", "from 1")
        for name in {"adamw": ("momentum",), "sgd": ("betas", "eps")}[self.optimizer]:
            self._require_default(name)

    def _require_default(self, name: str) -> None:
        default = {field.name: field.default for field in fields(self)}[name]
        value = getattr(self, name)
        if value != default:
            raise UserError(
                f"recipe.optim.{name} = {value!r}",
                f"{default!r} with optim.optimizer = {self.optimizer}, where it cannot act",
                f"leave out optim.{name}, or choose another optimizer",
            )

    def peak_lr(self, batch_size: int) -> float:
        """The learning rate at its peak: ``lr * batch_size / lr_batch``."""
        return self.lr * batch_size / self.lr_batch


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Linear warm-up, then a cosine to `min_lr`, or the peak for good."""

    shape: Literal["cosine", "constant"] = "cosine"
    """What follows the warm-up: a cosine from the peak to `min_lr`, or the peak itself."""
    warmup_epochs: float = 5.0
    """Length of the warm-up in epochs."""
    warmup_lr: float = 1e-6
    """Learning rate of the first step; not scaled by the batch."""
    min_lr: float = 1e-5
    """Learning rate at the end of the cosine; not scaled by the batch."""
    per_epoch: bool = False
    """True: the reference's steps, constant within an epoch, one epoch late, the warm-up laid over
    the cosine (decision record 0007). False: a smooth function of the step."""

    def __post_init__(self) -> None:
        _require(
            self.warmup_epochs >= 0, f"schedule.warmup_epochs = {self.warmup_epochs}", "from 0"
        )
        _require(self.warmup_lr >= 0, f"schedule.warmup_lr = {self.warmup_lr}", "from 0")
        _require(self.min_lr >= 0, f"schedule.min_lr = {self.min_lr}", "from 0")
        default = {field.name: field.default for field in fields(self)}["min_lr"]
        _require(
            self.shape == "cosine" or self.min_lr == default,
            f"schedule.min_lr = {self.min_lr} with schedule.shape = {self.shape}",
            f"{default}, the default, where it cannot act",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EmaConfig:
    """An exponential moving average of the weights, evaluated beside the raw weights."""

    decay: float = 0.99996
    """Share of the average that stays at each step (half-life 17,300 steps); 0 turns it off."""

    def __post_init__(self) -> None:
        _require(0 <= self.decay < 1, f"ema.decay = {self.decay}", "0 up to 1, without 1")


def _require(holds: bool, given: str, allowed: str) -> None:
    if not holds:
        raise UserError(f"recipe.{given}", allowed, "correct the value")
