"""A model with what belongs to it: its class names and what is done to an image first."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deit.data.classes import ClassList
from deit.data.preprocess import Preprocess
from deit.data.spellings import Match, match_classes
from deit.errors import UserError
from deit.tensors import TwoHeads


@dataclass(frozen=True, slots=True)
class Classifier:
    """A model that can be asked about an image.

    Attributes:
        name: how it is called in messages.
        model: images after ``preprocess`` -> `TwoHeads`.
        preprocess: what is done to an image first.
        classes: its classes in the order of its logits; None where nothing tells them.
        num_classes: how many.
        notes: what had to be assumed, one sentence each, for the user.
    """

    name: str
    model: nn.Module
    preprocess: Preprocess
    classes: ClassList | None
    num_classes: int
    notes: tuple[str, ...] = ()

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> TwoHeads:
        """The logits of its heads, for images that went through ``preprocess``."""
        heads: TwoHeads = self.model(images)
        return heads

    def match(self, classes: ClassList) -> Match:
        """Which of this model's classes each of ``classes`` is, by name.

        Known names decide (`deit.data.spellings`); the model may know more classes than the data.
        Without names the count must agree, and the order is taken to be the same.

        Raises:
            UserError: when the model does not know a class, cannot tell which is meant, or has
                another number of nameless ones.
        """
        if self.classes is not None:
            return match_classes(classes.names, self.classes, self.name)
        if self.num_classes != len(classes):
            beside = Path(self.name).with_suffix(".json")
            name_them = (
                f'name them in the order of its logits: {{"classes": [...]}} in {beside}; or '
            )
            raise UserError(
                f"{self.name} has {self.num_classes} classes without names, the data has "
                f"{len(classes)}",
                "as many as the data has, or names to find the data's among",
                (name_them if self.name.endswith(".onnx") else "")
                + "take a model of these classes; `deit teacher DATA` trains one",
            )
        return Match(tuple(range(len(classes))))

    def for_classes(self, classes: ClassList) -> "Classifier":
        """The same model with its logits in the order of ``classes``; see `match`."""
        match = self.match(classes)
        kept = in_order(match.places, self.num_classes)
        return dataclasses.replace(
            self,
            model=self.model if kept else Reordered(self.model, match.places),
            classes=classes,
            num_classes=len(classes),
            notes=self.notes + match.notes(self.name),
        )


class Reordered(nn.Module):
    """A model whose logits are put into another order, or of which only some are kept."""

    def __init__(self, model: nn.Module, order: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.order: Tensor
        self.register_buffer("order", torch.tensor(order, dtype=torch.int64))

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> TwoHeads:
        """The chosen logits of both heads."""
        cls, dist = self.model(images)
        return TwoHeads(cls[:, self.order], None if dist is None else dist[:, self.order])


def in_order(order: Sequence[int], num_classes: int) -> bool:
    """Whether an order keeps every logit in its place.

    >>> in_order((0, 1), 2), in_order((1, 0), 2), in_order((0, 1), 3)
    (True, False, False)
    """
    return tuple(order) == tuple(range(num_classes))
