"""Other ways to ask a teacher, and whether it would clearly do better if it were asked so.

A way is a guess at how the teacher was really meant to be asked: with red and blue exchanged, in
another usual normalisation, at another size. It is compared with the training's own way image by
image, twice: by the decisions that differ (McNemar 1947), and by which way finds the true class
more likely. The decisions of 256 images alone tell little: exchanged colours cost a published
network for CIFAR-10 21 images and win it 4. `deit.measuring.gate` draws the conclusions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom
from torch import Tensor

from deit.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from deit.distillation.teacher import Teacher, convert_pixels
from deit.measuring.examination import Thresholds
from deit.measuring.sample import Sample

Fault = Literal[
    "shifted answers",
    "batch dependence",
    "random answers",
    "exchanged colours",
    "wrong normalisation",
    "wrong image size",
    "permuted classes",
    "random head",
    "near chance",
    "below the baseline",
    "below the accuracy asked for",
    "not finite",
]
"""What a teacher can be refused for."""

_PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_NORMALISATIONS = {
    "as ImageNet's": (IMAGENET_MEAN, IMAGENET_STD),
    "from -1 to 1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "from 0 to 1": _PLAIN,
    "from 0 to 255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}
_SIZES = (1 / 2, 2 / 3, 3 / 2, 2)  # of the size that is told
_ERRORS_LEFT = 0.75  # at another size; test sizes above that of training leave 0.9 of the errors
_SMALLEST = 8  # pixels; below this a picture is no picture


@dataclass(frozen=True, slots=True)
class Way:
    """A way of asking the teacher.

    Attributes:
        fault: what is wrong if this way is the better one.
        cause: "... it would know 93 %", for the message.
        todo: what to do then.
        ask: the student's images -> logits.
        errors_left: the share of its errors that the teacher may have left, asked so; below 1 where
            better by some points is not enough to be held against it.
    """

    fault: Fault
    cause: str
    todo: str
    ask: Callable[[Tensor], Tensor]
    errors_left: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """Another way against the training's, on the same images.

    Attributes:
        way: the other one.
        won: images that only the other way decides rightly.
        lost: images that only the training's way decides rightly.
        likelier: images to whose true class the other way gives a higher probability.
        unlikelier: images to whose true class the training's way does.
        correct: images that the training's way decides rightly.
        count: all images.
    """

    way: Way
    won: int
    lost: int
    likelier: int
    unlikelier: int
    correct: int
    count: int

    @property
    def accuracy(self) -> float:
        """What the teacher would know if it were asked so."""
        return (self.correct + self.won - self.lost) / self.count

    def is_clear(self, thresholds: Thresholds, near_chance: bool) -> bool:
        """Whether the way is so much better that the teacher must have been meant this way.

        Many decisions show it by themselves. Few need the likelihoods beside them.
        """
        errors = self.count - self.correct
        allowed = min(self.way.errors_left, 0.5 if near_chance else 1)
        if errors - self.won + self.lost > allowed * errors:
            return False
        votes = (self.won, self.lost, self.count, thresholds.lead)
        if is_ahead(*votes, thresholds.decisions_alone):
            return True
        likelier = sign_test(self.likelier, self.unlikelier) < thresholds.level
        return likelier and is_ahead(*votes, thresholds.decisions)


def is_ahead(won: int, lost: int, count: int, lead: float, level: float) -> bool:
    """Whether so many images won and lost of ``count`` show a way to decide better.

    It is ahead by the share ``lead`` of all images, and p < ``level`` in McNemar's exact test.

    >>> is_ahead(won=14, lost=0, count=256, lead=0.02, level=1e-4)  # 2**-14 is 6e-5
    True
    >>> is_ahead(won=13, lost=0, count=256, lead=0.02, level=1e-4)
    False
    """
    return won - lost >= lead * count and sign_test(won, lost) < level


def sign_test(won: int, lost: int) -> float:
    """One-sided exact p-value: were both ways equally good, each image would be won by a coin toss.

    >>> sign_test(3, 0)
    0.125
    """
    return float(binom.sf(won - 1, won + lost, 0.5))


def ways_of_asking(teacher: Teacher, preprocess: Preprocess) -> list[Way]:
    """All ways but training's, those that cost least first."""
    mean, std = preprocess.mean, preprocess.std
    ways = []
    if len(mean) == 3 == len(teacher.mean):
        ways.append(
            Way(
                "exchanged colours",
                "with red and blue exchanged",
                "it was trained on BGR images: take one for RGB, or export it with the exchange",
                lambda images: teacher.logits(_exchange_colours(images, mean, std), *_PLAIN),
            )
        )
        usual = _NORMALISATIONS | {"as the student's": (mean, std)}
        known = {(teacher.mean, teacher.std)}
        for name, normalisation in usual.items():
            if normalisation not in known:
                ways.append(_other_normalisation(teacher, name, normalisation, mean, std))
                known.add(normalisation)
    sizes = {round(teacher.image_size * ratio) for ratio in _SIZES} | {preprocess.image_size}
    return ways + [
        _other_size(teacher, size, mean, std)
        for size in sorted(sizes - {teacher.image_size})
        if size >= _SMALLEST
    ]


def contest(way: Way, sample: Sample, thresholds: Thresholds) -> Contest | None:
    """Ask a way, but no longer than it takes to see that it is not the better one.

    Only images that training's way decides wrongly can be won, and only others lost. Both are asked
    in turns, and after each batch the counts are drawn up to the whole sample: a way that has lost
    twice as much as it has won after the first batch, or is not ahead after a later one, is given
    up. Where even winning all could not be clear, it is not asked at all.

    Args:
        way: the way to ask.
        sample: what training's way said; the images asked here are added to its count.
        thresholds: what is clear.

    Returns:
        The outcome on all images; None for a way that was given up, or that the teacher cannot be
        asked in: a model that takes one size only, for example.
    """
    right, labels = sample.right, sample.labels
    errors = int((~right).sum())
    if not is_ahead(errors, 0, len(labels), thresholds.lead, thresholds.decisions):
        return None
    order = _in_turns(right)
    its_right = np.zeros_like(right)
    gains = np.zeros(len(labels))
    before = log_likelihoods(sample.logits, labels)
    for first in range(0, len(order), sample.batch_size):
        chosen = order[first : first + sample.batch_size]
        try:
            logits = way.ask(sample.images[torch.from_numpy(chosen)]).cpu()
        except Exception:
            return None
        sample.asked += len(chosen)
        its_right[chosen] = logits.argmax(-1).numpy() == labels[chosen]
        gains[chosen] = log_likelihoods(logits, labels[chosen]) - before[chosen]
        if _is_behind(its_right, right, order[: first + len(chosen)], patience=first == 0):
            return None
    return Contest(
        way=way,
        won=int((its_right & ~right).sum()),
        lost=int((right & ~its_right).sum()),
        likelier=int((gains > 0).sum()),
        unlikelier=int((gains < 0).sum()),
        correct=len(labels) - errors,
        count=len(labels),
    )


def log_likelihoods(
    logits: Float[Tensor, "images classes"], labels: Int64[np.ndarray, "images"]
) -> Float[np.ndarray, "images"]:
    """The logarithm of the probability that each image's true class was given."""
    likely = logits.double().log_softmax(-1)
    return np.asarray(likely[torch.arange(len(labels)), torch.from_numpy(labels)])


def renamed(
    predicted: Int64[np.ndarray, "images"],
    labels: Int64[np.ndarray, "images"],
    chosen_on: Bool[np.ndarray, "images"],
    names: tuple[str, ...],
) -> tuple[Int64[np.ndarray, "images"], str]:
    """Decisions under the one-to-one renaming of the classes that suits half of the images best.

    It has to be judged on the other half, or a weak teacher's errors would always find a renaming
    that flatters them.

    Returns:
        The decisions for all images; and in words which classes change their names, "" for none.
    """
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (predicted[chosen_on], labels[chosen_on]), 2)
    counts[np.diag_indices_from(counts)] += 1  # of equals, the name it has
    new_names = linear_sum_assignment(counts, maximize=True)[1]
    moved = [f"{names[old]} -> {names[new]}" for old, new in enumerate(new_names) if old != new]
    return new_names[predicted], f"{', '.join(moved[:4])}{', ...' if moved[4:] else ''}"


def _is_behind(
    its_right: Bool[np.ndarray, "images"],
    right: Bool[np.ndarray, "images"],
    asked: Int64[np.ndarray, "asked"],
    *,
    patience: bool,
) -> bool:
    """Whether a way is to be given up: its won and lost images drawn up to the whole sample.

    One lost image is forgiven: among few rightly decided ones it would count for many.
    """
    its_right, plain = its_right[asked], right[asked]
    gain = (its_right & ~plain).sum() * (~right).sum() / max((~plain).sum(), 1)
    loss = max((plain & ~its_right).sum() - 1, 0) * right.sum() / max(plain.sum(), 1)
    return bool((loss / 2 if patience else loss) >= gain)


def _in_turns(right: Bool[np.ndarray, "images"]) -> Int64[np.ndarray, "images"]:
    """Wrongly and rightly decided images in turns, for as long as there are both."""
    place = np.where(right, np.cumsum(right), np.cumsum(~right))
    return np.argsort(2 * place + right, kind="stable")


def _exchange_colours(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return convert_pixels(images, mean, std, *_PLAIN).flip(1)


def _other_normalisation(
    teacher: Teacher,
    name: str,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Way:
    other = teacher.with_normalisation(*normalisation)
    return Way(
        "wrong normalisation",
        f"with pixels normalised {name} instead of by mean {teacher.mean}, std {teacher.std}",
        f"correct mean and std in the JSON file beside the teacher: {_told(*normalisation)}",
        lambda images: other.logits(images, mean, std),
    )


def _told(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    return f'"mean": {[round(x, 6) for x in mean]}, "std": {[round(x, 6) for x in std]}'


def _other_size(
    teacher: Teacher, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Way:
    other = teacher.with_image_size(size)
    return Way(
        "wrong image size",
        f"at {size} pixels instead of {teacher.image_size}",
        f"correct image_size in the JSON file beside the teacher, to {size} or near it",
        lambda images: other.logits(images, mean, std),
        errors_left=_ERRORS_LEFT,
    )
