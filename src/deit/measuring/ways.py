"""Other ways to ask a teacher, and whether it would clearly do better if it were asked so.

A way is a guess at how the teacher was really meant to be asked: with red and blue exchanged, in
another usual normalisation, at another size. It is compared with the training's own way, image by
image, on the images that the two decide differently (McNemar 1947). `deit.measuring.gate` draws the
conclusions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int64
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom
from torch import Tensor

from deit.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from deit.distillation.teacher import Teacher, convert_pixels

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
_SMALLEST = 8  # pixels; below this a picture is no picture


@dataclass(frozen=True, slots=True)
class Way:
    """A way of asking the teacher.

    Attributes:
        fault: what is wrong if this way is the better one.
        cause: "... it would know 93 %", for the message.
        todo: what to do then.
        ask: the student's images -> logits.
        must_halve_errors: better by some points is not enough to be held against the teacher.
    """

    fault: Fault
    cause: str
    todo: str
    ask: Callable[[Tensor], Tensor]
    must_halve_errors: bool = False


@dataclass(frozen=True, slots=True)
class Contest:
    """Another way against the training's, on the same images.

    Attributes:
        way: the other one.
        won: images that only the other way decides rightly.
        lost: images that only the training's way decides rightly.
        correct: images that the training's way decides rightly.
        count: all images.
    """

    way: Way
    won: int
    lost: int
    correct: int
    count: int

    @property
    def accuracy(self) -> float:
        """What the teacher would know if it were asked so."""
        return (self.correct + self.won - self.lost) / self.count

    @property
    def halves_errors(self) -> bool:
        """Whether it would make at most half as many errors."""
        errors = self.count - self.correct
        return 2 * (errors - self.won + self.lost) <= errors

    def is_clear(self, lead: float, level: float) -> bool:
        """Whether the way is ahead by ``lead`` and p < ``level`` in McNemar's exact test."""
        return is_ahead(self.won, self.lost, self.count, lead, level)


def is_ahead(won: int, lost: int, count: int, lead: float, level: float) -> bool:
    """Whether so many images won and lost of ``count`` show a way to be better.

    One-sided exact test: were both ways equally good, an image that they decide differently would
    be won or lost with probability 1/2 each.

    >>> is_ahead(won=14, lost=0, count=256, lead=0.02, level=1e-4)  # 2**-14 is 6e-5
    True
    >>> is_ahead(won=13, lost=0, count=256, lead=0.02, level=1e-4)
    False
    """
    if won - lost < lead * count:
        return False
    return bool(binom.sf(won - 1, won + lost, 0.5) < level)


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


def contest(
    way: Way,
    images: Tensor,
    labels: Int64[np.ndarray, "images"],
    right: Bool[np.ndarray, "images"],
    batch_size: int,
    lead: float,
    level: float,
) -> tuple[Contest | None, int]:
    """Ask a way, but no longer than it takes to see that it is not the better one.

    Only images that training's way decides wrongly can be won, and only others lost. Both are asked
    in turns, and after each batch the counts are drawn up to the whole sample: a way that has lost
    twice as much as it has won after the first batch, or is not ahead after a later one, is given
    up. Where even winning all could not be clear, it is not asked at all.

    Args:
        way: the way to ask.
        images: the student's, of the whole sample.
        labels: the true classes.
        right: which images training's way decides rightly.
        batch_size: images per question.
        lead, level: as in `is_ahead`.

    Returns:
        The outcome on all images, or None for a way that was given up; and how many images it was
        asked about. None also for a way that the teacher cannot be asked in at all: a model that
        takes one size only, for example.
    """
    errors = int((~right).sum())
    if not is_ahead(errors, 0, len(labels), lead, level):
        return None, 0
    order = _in_turns(right)
    won = lost = asked_wrong = asked = 0
    for chosen in np.split(order, range(batch_size, len(order), batch_size)):
        try:
            predicted = way.ask(images[torch.from_numpy(chosen)]).argmax(-1).cpu().numpy()
        except Exception:
            return None, asked
        its_right = predicted == labels[chosen]
        won += int((its_right & ~right[chosen]).sum())
        lost += int((~its_right & right[chosen]).sum())
        asked += len(chosen)
        asked_wrong += int((~right[chosen]).sum())
        gain = won * errors / max(asked_wrong, 1)
        loss = lost * (len(labels) - errors) / max(asked - asked_wrong, 1)
        if (loss if asked > len(chosen) else loss / 2) >= gain:
            return None, asked
    return Contest(way, won, lost, len(labels) - errors, len(labels)), asked


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
        must_halve_errors=True,
    )
