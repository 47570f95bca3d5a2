"""How good a model is: every image of a split, each head, exact counts.

Accuracies are integer counts divided once, so they do not depend on the batch size or on how many
processes share the work.
"""

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from deit import distributed
from deit.classifier import Classifier
from deit.data.check import find_unreadable
from deit.data.classes import ClassList
from deit.data.images import BadImage
from deit.data.loader import eval_batches
from deit.data.preprocess import Preprocess
from deit.data.sources import DataSet, Source
from deit.errors import UserError
from deit.run.machine import autocast
from deit.tensors import TwoHeads

HEADS = ("class", "distillation", "joint")
"""The decisions that are measured; a model with one head has only the first."""

_UNREADABLE = 2**62
"""The place of the true class where the image could not be decoded: behind all others."""

_UNIT = 2.0**-32
"""Negative log-likelihoods and confidences are kept as whole multiples of this, to add exactly."""


@dataclass(frozen=True, slots=True)
class HeadResult:
    """What one head said of every image.

    Attributes:
        predicted: its decision; the lowest class among equally likely ones. -1 where the image
            could not be decoded and counts as wrong; no `place` is among the first then, and
            ``nll`` is 0 and is not counted.
        place: how many classes it held to be likelier than the true one; of equals the lower class
            counts as likelier. 0 is a right decision.
        nll: negative logarithm of the true class's probability, in nats, to within 2**-33.
    """

    predicted: Int64[np.ndarray, "images"]
    place: Int64[np.ndarray, "images"]
    nll: Float64[np.ndarray, "images"]

    def correct(self, k: int = 1) -> int:
        """On how many images the true class is among the ``k`` likeliest."""
        return int((self.place < k).sum())

    def to_json(self) -> dict[str, float | int]:
        """Fractions from 0 to 1, the mean of nll, and the number of images they are taken over.

        With five classes or fewer, top-5 is 1: the true class is always among all of them. Images
        that could not be decoded are wrong in top-1 and top-5, and not among those of nll.
        """
        count = len(self.place)
        return {
            "top1": self.correct(1) / count,
            "top5": self.correct(5) / count,
            "nll": math.fsum(self.nll) / int((self.place < _UNREADABLE).sum()),
            "count": count,
        }


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image that the model took for something else.

    Attributes:
        sample: its index in the source.
        name: its name.
        label: the true class.
        predicted: the model's class.
        confidence: the probability that the model gave to its class.
    """

    sample: int
    name: str
    label: str
    predicted: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model said of every image of a split.

    Attributes:
        heads: by name (`HEADS`); a model with one head has only "class".
        labels: the true classes.
        samples: indices of the images in the source.
        names: names of the images.
        confidence: the probability that the decision, `decided`, was given.
        classes: the classes that labels and decisions index.
        unreadable: the images that could not be decoded and count as wrong, in their order.
    """

    heads: dict[str, HeadResult]
    labels: Int64[np.ndarray, "images"]
    samples: Int64[np.ndarray, "images"]
    names: Sequence[str]
    confidence: Float64[np.ndarray, "images"]
    classes: ClassList
    unreadable: tuple[BadImage, ...] = ()

    @property
    def decided(self) -> HeadResult:
        """What counts: the joint decision of two heads, or the one head's."""
        return self.heads.get("joint", self.heads["class"])

    def to_json(self) -> dict[str, dict[str, float | int]]:
        """``{"class": {"top1", "top5", "nll", "count"}, "distillation": ..., "joint": ...}``."""
        return {head: result.to_json() for head, result in self.heads.items()}

    def confusion(self) -> Int64[np.ndarray, "classes classes"]:
        """How often each true class (row) was decided to be each class (column).

        Without images that could not be decoded: nothing was decided of them.
        """
        size = len(self.classes)
        decided = self.decided.predicted >= 0
        cells = (self.labels * size + self.decided.predicted)[decided]
        return np.bincount(cells, minlength=size * size).reshape(size, size).astype(np.int64)

    def most_confident_mistakes(self, limit: int) -> list[Mistake]:
        """The wrong decisions, the most confident first."""
        wrong = np.flatnonzero((self.decided.place > 0) & (self.decided.predicted >= 0))
        worst = wrong[np.argsort(-self.confidence[wrong], kind="stable")][:limit]
        return [
            Mistake(
                sample=int(self.samples[row]),
                name=self.names[row],
                label=self.classes.names[self.labels[row]],
                predicted=self.classes.names[self.decided.predicted[row]],
                confidence=float(self.confidence[row]),
            )
            for row in worst.tolist()
        ]

    def write_predictions(self, path: Path) -> None:
        """Write a CSV file: name, label, class, distillation, joint, confidence.

        Classes are given by name; the columns of heads that do not exist are empty, and all
        decisions on an image that could not be decoded.
        """
        names = self.classes.names
        nothing = np.full(len(self.labels), -1)
        predicted = {
            head: self.heads[head].predicted if head in self.heads else nothing for head in HEADS
        }
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "label", *HEADS, "confidence"])
            for row, label in enumerate(self.labels):
                decisions = [
                    names[found] if (found := predicted[head][row]) >= 0 else "" for head in HEADS
                ]
                confidence = f"{self.confidence[row]:.6f}"
                writer.writerow([self.names[row], names[label], *decisions, confidence])


def evaluate(
    model: nn.Module | Classifier,
    data: Source | DataSet,
    *,
    preprocess: Preprocess | None = None,
    batch_size: int = 256,
    workers: int = 0,
    device: torch.device | str | None = None,
    precision: str = "float32",
    limit: int | None = None,
    bad_images: Literal["refuse", "wrong"] = "refuse",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a model on every image of a split.

    Args:
        model: images -> `TwoHeads`; a `Classifier`, a module that `deit.load` gave, or any other.
        data: the images; of a data set the validation split.
        preprocess: what is done to an image first. None: the model's own; for a module that was
            not loaded but built, the paper's, at the model's image size.
        batch_size: images per forward pass; changes nothing but memory and speed, as far as the
            model's arithmetic does not depend on it.
        workers: processes that decode images.
        device: where to compute. None: where the model is; otherwise the model is moved.
        precision: float32, or bfloat16 for autocast of the forward pass.
        limit: only the first so many images.
        bad_images: what to do about images that cannot be decoded: stop at the first, or count
            them as wrong, for which all are decoded once beforehand. Top-1 and top-5 are taken over
            all images either way.
        progress: called with the number of images done and of all (of this process).

    Raises:
        BadImage: names an image that cannot be decoded, unless these count as wrong.
        UserError: when the model's classes are not the data's, when it answers with numbers that
            are not finite, or when no image at all can be decoded.
    """
    source = data.val if isinstance(data, DataSet) else data
    classifier = _as_classifier(model, preprocess, source.classes)
    network = classifier.for_classes(source.classes).model
    device = _device_of(network) if device is None else torch.device(device)
    samples = np.arange(len(source) if limit is None else min(limit, len(source)))
    if not len(samples):
        raise UserError("no images to evaluate on", "one or more", "check the validation split")
    table = torch.zeros((len(samples), 3 * len(HEADS) + 2), dtype=torch.int64)
    done = 0
    unreadable = find_unreadable(source, samples) if bad_images == "wrong" else {}
    if len(unreadable) == len(samples):
        raise UserError(
            f"none of {len(samples)} images can be decoded: {unreadable[0]}",
            "one or more that can",
            "check the data: `deit data check DATA`",
        )
    readable = samples[~np.isin(samples, list(unreadable))]
    batches = eval_batches(
        source,
        classifier.preprocess,
        batch_size,
        workers,
        readable,
        device=device,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
    with torch.inference_mode(), _evaluating(network.to(device)):
        for batch in batches:
            with autocast(device, precision):
                heads = network(batch.images)
            table[batch.samples.cpu()] = _rows(heads, batch.labels.cpu(), classifier.name)
            done += len(batch.labels)
            if progress is not None:
                progress(done, len(readable))
    return _evaluation(distributed.sum_integers(table), source, samples, unreadable)


def log_probabilities(heads: TwoHeads) -> dict[str, Tensor]:
    """Of each head that exists and of their joint decision, float64 on the CPU.

    The joint one is ``log((softmax(cls) + softmax(dist)) / 2)``, computed without leaving the
    logarithms: it is finite where a probability would round to 0.

    >>> heads = TwoHeads(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 800.0]]))
    >>> log_probabilities(heads)["joint"].exp().tolist()
    [[0.25, 0.75]]
    """
    cls = heads.cls.cpu().double().log_softmax(-1)
    if heads.dist is None:
        return {"class": cls}
    dist = heads.dist.cpu().double().log_softmax(-1)
    return {"class": cls, "distillation": dist, "joint": torch.logaddexp(cls, dist) - math.log(2)}


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every part is in the mode that it was in before."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _rows(
    heads: TwoHeads, labels: Int64[Tensor, "batch"], name: str
) -> Int64[Tensor, "batch columns"]:
    """For each image: decision, place and nll of each head, confidence, number of heads."""
    by_head = log_probabilities(heads)
    columns = []
    for logs in by_head.values():
        if not logs.isfinite().all():
            raise UserError(
                f"{name} answers with numbers that are not finite",
                "finite logits",
                "use float32 precision; else the weights are damaged or training diverged",
            )
        of_label = logs.gather(1, labels[:, None])  # [batch, 1]
        lower = torch.arange(logs.shape[1]) < labels[:, None]
        place = ((logs > of_label) | ((logs == of_label) & lower)).sum(1)
        columns += [logs.argmax(1), place, _in_units(-of_label[:, 0])]
    confidence = _in_units(logs.max(1).values.exp())
    zero = torch.zeros_like(labels)
    columns += [zero] * (3 * (len(HEADS) - len(by_head)))
    return torch.stack([*columns, confidence, zero + len(by_head)], dim=1)


def _in_units(values: Tensor) -> Int64[Tensor, "batch"]:
    return (values / _UNIT).round().long()


def _evaluation(
    table: Int64[Tensor, "images columns"],
    source: Source,
    samples: Int64[np.ndarray, "images"],
    unreadable: dict[int, BadImage],
) -> Evaluation:
    columns = table.numpy().T
    lost = np.isin(samples, list(unreadable))
    num_heads = int(columns[-1].max(initial=1))
    heads = {
        head: HeadResult(
            np.where(lost, -1, columns[3 * number]),
            np.where(lost, _UNREADABLE, columns[3 * number + 1]),
            columns[3 * number + 2] * _UNIT,
        )
        for number, head in enumerate(HEADS[:num_heads])
    }
    return Evaluation(
        heads=heads,
        labels=np.asarray(source.labels)[samples],
        samples=samples,
        names=source.names[: len(samples)],
        confidence=columns[-2] * _UNIT,
        classes=source.classes,
        unreadable=tuple(unreadable.values()),
    )


def _as_classifier(
    model: nn.Module | Classifier, preprocess: Preprocess | None, classes: ClassList
) -> Classifier:
    """The model with its preprocessing; a module that names no classes has the data's."""
    if isinstance(model, Classifier):
        return replace(model, preprocess=preprocess or model.preprocess)
    return Classifier(
        name=type(model).__name__,
        model=model,
        preprocess=preprocess or _preprocess_of(model),
        classes=getattr(model, "classes", None),
        num_classes=getattr(model, "num_classes", len(classes)),
    )


def _preprocess_of(model: Any) -> Preprocess:
    told = getattr(model, "preprocess", None)
    if isinstance(told, Preprocess):
        return told
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "img_size"):
        raise UserError(
            f"a {type(model).__name__} that does not tell its preprocessing",
            "preprocess=Preprocess(image_size=...)",
            "give it, or load the model with deit.load",
        )
    if config.in_chans == 1:
        return Preprocess(image_size=config.img_size, channels=1, mean=(0.5,), std=(0.5,))
    return Preprocess(image_size=config.img_size)


def _device_of(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
