"""Where a run starts: from a model that was trained before instead of from random parameters."""

from dataclasses import dataclass, fields
from typing import Literal

from deit.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class StartConfig:
    """The starting point of fine-tuning, and the probe of its heads.

    A setting that cannot act raises, unless it is left at its default.
    """

    model: str = ""
    """Run folder, weights file, timm:NAME or torchvision:NAME whose weights the run starts from;
    empty: random parameters. A resumed run has all it needs in its checkpoint."""
    weights: Literal["best", "ema", "last"] = "best"
    """Which weights of a run folder: of its best evaluation, the average, the last. Of others'
    training checkpoints, ema reads the moving average."""
    heads: Literal["auto", "keep", "new"] = "auto"
    """auto: classes that the model knows by name keep their row of each head, others get a new one.
    keep: the same, but a class that it does not know is refused. new: all rows are new."""
    probe_epochs: int = 0
    """First epochs in which only the heads learn: all else is frozen and in evaluation mode, so
    that BatchNorm's statistics stay. Warm-up and schedule begin after them. Also for a network that
    starts from published weights (model.pretrained, model.weights_file)."""
    probe_lr: float = 1e-3
    """Learning rate of those epochs, constant and not scaled by the batch."""

    def __post_init__(self) -> None:
        if self.probe_epochs < 0:
            raise UserError(
                f"recipe.start.probe_epochs = {self.probe_epochs}", "from 0", "correct the value"
            )
        if not 0 < self.probe_lr < float("inf"):
            raise UserError(
                f"recipe.start.probe_lr = {self.probe_lr}", "above 0", "correct the value"
            )
        if not self.model:
            for name in ("weights", "heads"):
                self._require_default(name, "start.model empty", "name a start.model")
        if not self.probe_epochs:
            self._require_default(
                "probe_lr", "start.probe_epochs = 0", "set start.probe_epochs from 1"
            )

    def _require_default(self, name: str, condition: str, todo: str) -> None:
        default = {field.name: field.default for field in fields(self)}[name]
        value = getattr(self, name)
        if value != default:
            raise UserError(
                f"recipe.start.{name} = {value!r}",
                f"{default!r} with {condition}, where it cannot act",
                f"leave out start.{name}, or {todo}",
            )
