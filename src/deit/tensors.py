"""What travels between the parts: the batches, the two heads and the terms of the loss."""

from dataclasses import dataclass
from typing import NamedTuple

import torch  # noqa: F401  (named in the examples)
from jaxtyping import Float, Int
from torch import Tensor


class TwoHeads(NamedTuple):
    """What a model returns, in training and in evaluation: the logits of its two heads.

    Attributes:
        cls: logits of the class head, ``[batch, classes]``.
        dist: logits of the distillation head, or None for a model with one token.

    >>> heads = TwoHeads(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    >>> heads.joint_probabilities().sum().item()
    1.0
    """

    cls: Float[Tensor, "batch classes"]
    dist: Float[Tensor, "batch classes"] | None = None

    def joint_probabilities(self) -> Float[Tensor, "batch classes"]:
        """The paper's joint decision (section 3, "classification with our approach").

        The softmax outputs of the two heads are added, here divided by two so that rows sum to 1:
        ``(softmax(cls) + softmax(dist)) / 2``; with one head, its softmax. float32. The reference
        code averages logits instead, see `mean_logits` and decision record 0001.
        """
        cls = self.cls.float().softmax(-1)
        return cls if self.dist is None else (cls + self.dist.float().softmax(-1)) / 2

    def mean_logits(self) -> Float[Tensor, "batch classes"]:
        """The joint decision of the reference code, timm and transformers: ``(cls + dist) / 2``."""
        return self.cls if self.dist is None else (self.cls + self.dist) / 2

    def top_k(self, k: int = 5) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
        """The ``k`` likeliest classes of the joint decision: probabilities and class indices."""
        probabilities, classes = self.joint_probabilities().topk(min(k, self.cls.shape[-1]), dim=-1)
        return probabilities, classes


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """One training batch, augmented, normalised and mixed, on the device.

    Attributes:
        images: ``[batch, channels, height, width]``, normalised.
        targets: rows that sum to 1, smoothed and mixed, ``[batch, classes]``.
        positions: the place of each sample in the epoch's global order, ``[batch]``.
        samples: index of each sample's image in the data source, ``[batch]``.
        epoch: the epoch that the positions belong to; one of the bank, where there is one.
    """

    images: Float[Tensor, "batch channels height width"]
    targets: Float[Tensor, "batch classes"]
    positions: Int[Tensor, "batch"]
    samples: Int[Tensor, "batch"]
    epoch: int


@dataclass(frozen=True, slots=True)
class EvalBatch:
    """One evaluation batch: images after the evaluation transform, true classes, their places.

    Attributes:
        images: ``[batch, channels, height, width]``, normalised.
        labels: class indices, ``[batch]``.
        samples: index of each image in the data source, ``[batch]``.
    """

    images: Float[Tensor, "batch channels height width"]
    labels: Int[Tensor, "batch"]
    samples: Int[Tensor, "batch"]


@dataclass(frozen=True, slots=True)
class LossTerms:
    """The training loss, one value per sample, unreduced, float32.

    Attributes:
        label: cross-entropy against the true label, before weighting, ``[batch]``.
        teacher: the term against the teacher, before weighting, ``[batch]``, or None.
        total: what is minimised once the caller takes its mean, ``[batch]``.
    """

    label: Float[Tensor, "batch"]
    teacher: Float[Tensor, "batch"] | None
    total: Float[Tensor, "batch"]
