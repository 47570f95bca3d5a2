"""The gate before distillation: a teacher is measured before it may teach.

A teacher that was wired up wrongly, with its classes in another order, another normalisation or its
colours exchanged, would spoil a run without a word. So it is asked about validation images, by the
very path that training takes, and it is refused when

* its accuracy is near chance: not above ``chance + (1 - chance) / 10``, or not above chance in a
  binomial test at 1e-6. Chance is what always answering the sample's commonest class would reach;
* it would clearly do better if it were asked in another way: with red and blue exchanged, in
  another usual normalisation, with its classes renamed one to one, or at half or double its image
  size. Clearly is two points or more, and p < 1e-6 in McNemar's exact test on the images that the
  two ways decide differently (McNemar 1947). Another size must also halve its errors, because
  many networks do a little better above the size that they were trained at (Touvron et al. 2019).
  Of several ways the best is named; near chance, only one that halves the errors;
* its accuracy is below ``distillation.min_teacher_accuracy``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom
from torch import Tensor

from deit.data.loader import eval_batches
from deit.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from deit.data.sources import Source
from deit.distillation.config import DistillationConfig
from deit.distillation.teacher import Teacher, convert_pixels
from deit.errors import UserError
from deit.randomness import permutation

LEVEL = 1e-6
"""Significance level of both tests: one false alarm in a million healthy teachers and ways."""

MARGIN = 0.1
"""Share of the way from chance to 100 % that a teacher must have gone."""

LEAD = 0.02
"""Accuracy by which another way of asking must be ahead to be held against the teacher."""

_TRIAL = 100  # images after which a way that is not ahead is given up
_PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_NORMALISATIONS = {
    "ImageNet's": (IMAGENET_MEAN, IMAGENET_STD),
    "from -1 to 1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "from 0 to 1": _PLAIN,
    "from 0 to 255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}


@dataclass(frozen=True, slots=True)
class Examination:
    """What the teacher knew.

    Attributes:
        teacher: its name.
        correct: how many of the images it decided rightly.
        count: how many images it was asked about.
        chance: the accuracy of always answering the commonest class of the sample.
        notes: what had to be assumed about it, and what the sample could not show.
    """

    teacher: str
    correct: int
    count: int
    chance: float
    notes: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float:
        """Share of right decisions."""
        return self.correct / self.count

    @property
    def is_near_chance(self) -> bool:
        """Whether it fails the first rule of this module.

        Where so few images were asked that not even a perfect teacher could pass the test, the
        margin alone decides.
        """
        if self.accuracy <= self.chance + MARGIN * (1 - self.chance):
            return True
        p = float(binom.sf(self.correct - 1, self.count, self.chance))
        return self.can_be_tested and p >= LEVEL

    @property
    def can_be_tested(self) -> bool:
        """Whether a perfect teacher would pass the test on this sample."""
        return self.chance**self.count < LEVEL

    def to_json(self) -> dict[str, Any]:
        """For a run's record."""
        return {
            "teacher": self.teacher,
            "correct": self.correct,
            "count": self.count,
            "accuracy": self.accuracy,
            "chance": self.chance,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [
            f"teacher {self.teacher}: {self.accuracy:.2%} of {self.count:,} validation images "
            f"(chance {self.chance:.2%})"
        ]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def check_teacher(
    teacher: Teacher,
    source: Source,
    config: DistillationConfig,
    preprocess: Preprocess,
    *,
    num_images: int = 1000,
    batch_size: int = 50,
    workers: int = 0,
) -> Examination:
    """Measure a teacher as the student will ask it, and refuse one that cannot teach.

    Args:
        teacher: with its classes in the order of the source's.
        source: validation images.
        config: says the least accuracy.
        preprocess: the student's: the teacher sees the student's pixels.
        num_images: how many images at most, as evenly from all classes as there are.
        batch_size: images per question.
        workers: processes that decode images.

    Raises:
        UserError: with the accuracy seen, the likely cause and what to do.
    """
    samples = spread_samples(source.labels, num_images)
    labels = np.asarray(source.labels)[samples]
    ways = _ways_of_asking(teacher, preprocess)
    batches = eval_batches(
        source, preprocess, batch_size, workers, samples, device=_device_of(teacher)
    )
    for batch in batches:
        _ask(ways, batch.images, batch.labels.cpu().numpy(), teacher.name)
    plain, *others = ways
    examination = Examination(
        teacher=teacher.name,
        correct=int(plain.right.sum()),
        count=len(samples),
        chance=float(np.bincount(labels).max() / len(labels)),
        notes=teacher.notes,
    )
    others += _renamed(plain, labels, source.classes.names)
    causes = [way for way in others if way.is_clearly_better(plain, examination.is_near_chance)]
    if causes:
        raise _miswired(examination, max(causes, key=lambda way: way.right.mean()))
    if examination.is_near_chance:
        raise _near_chance(examination)
    if examination.accuracy < config.min_teacher_accuracy:
        raise UserError(
            str(examination),
            f"distillation.min_teacher_accuracy = {config.min_teacher_accuracy:.2%} or more",
            "take a better teacher, or ask for less",
        )
    if not examination.can_be_tested:
        few = f"{examination.count} images are too few to tell it from chance with certainty"
        return replace(examination, notes=(*examination.notes, few))
    return examination


def spread_samples(
    labels: Int64[np.ndarray, "images"], num_images: int
) -> Int64[np.ndarray, "samples"]:
    """Images of every class in turns: one of each class, a second of each, and so on.

    Always the same ones, but drawn at random, because neighbouring files are often alike, and each
    turn in an order of its own: answers that belong to a neighbouring image are to be wrong, with
    no renaming that makes them right.

    >>> samples = spread_samples(np.array([0, 0, 0, 0, 0, 0, 1, 1]), num_images=4)
    >>> sorted(np.array([0, 0, 0, 0, 0, 0, 1, 1])[samples].tolist())
    [0, 0, 1, 1]
    """
    drawn = permutation(0, 0, len(labels))
    order = np.lexsort((permutation(0, 1, len(labels)), turns(labels[drawn])))
    return drawn[order][:num_images]


def turns(labels: Int64[np.ndarray, "images"]) -> Int64[np.ndarray, "images"]:
    """For every image, how many of its class come before it.

    >>> turns(np.array([0, 1, 0, 0, 1]))
    array([0, 0, 1, 2, 1])
    """
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    places = np.empty(len(labels), dtype=np.int64)
    places[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places


@dataclass(slots=True)
class _Way:
    """A way of asking the teacher, and which images it decided rightly so far."""

    cause: str
    todo: str
    ask: Callable[[Tensor], Tensor]
    must_halve_errors: bool = False
    predicted: Int64[np.ndarray, "asked"] = field(
        default_factory=lambda: np.empty(0, dtype=np.int64)
    )
    right: Bool[np.ndarray, "asked"] = field(default_factory=lambda: np.empty(0, dtype=bool))

    def is_clearly_better(self, plain: "_Way", must_halve_errors: bool) -> bool:
        """Whether the teacher would do so much better that it must have been meant this way."""
        halves_errors = 2 * (~self.right).sum() <= (~plain.right).sum()
        if (self.must_halve_errors or must_halve_errors) and not halves_errors:
            return False
        return _is_better(self.right, plain.right)


def _ways_of_asking(teacher: Teacher, preprocess: Preprocess) -> list[_Way]:
    """As training will, and all others; the first is training's."""
    mean, std = preprocess.mean, preprocess.std
    ways = [_Way("", "", lambda images: teacher.logits(images, mean, std))]
    if len(mean) == 3 == len(teacher.mean):
        ways.append(
            _Way(
                "with red and blue exchanged",
                "it was trained on BGR images: take one for RGB, or export it with the exchange",
                lambda images: teacher.logits(_exchange_colours(images, mean, std), *_PLAIN),
            )
        )
        ways += [
            _other_normalisation(teacher, name, mean, std)
            for name, (its_mean, its_std) in _NORMALISATIONS.items()
            if (its_mean, its_std) != (teacher.mean, teacher.std)
        ]
    ways += [
        _other_size(teacher, size, mean, std)
        for size in (teacher.image_size // 2, teacher.image_size * 2)
        if size >= 8
    ]
    return ways


def _exchange_colours(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return convert_pixels(images, mean, std, *_PLAIN).flip(1)


def _other_normalisation(
    teacher: Teacher, name: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> _Way:
    other = teacher.with_normalisation(*_NORMALISATIONS[name])
    return _Way(
        f"with pixels normalised {name} instead of by mean {teacher.mean}, std {teacher.std}",
        "correct mean and std in the JSON file beside the teacher",
        lambda images: other.logits(images, mean, std),
    )


def _other_size(
    teacher: Teacher, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> _Way:
    other = teacher.with_image_size(size)
    return _Way(
        f"at {size} pixels instead of {teacher.image_size}",
        "correct image_size in the JSON file beside the teacher",
        lambda images: other.logits(images, mean, std),
        must_halve_errors=True,
    )


def _ask(ways: list[_Way], images: Tensor, labels: Int64[np.ndarray, "batch"], name: str) -> None:
    """One batch in every way; ways that fail or are not ahead after the trial are given up."""
    plain = ways[0]
    for way in list(ways):
        try:
            logits = way.ask(images)
        except Exception:
            if way is plain:
                raise
            ways.remove(way)  # a model of fixed size, for example: no other way to ask it
            continue
        if way is plain and not logits.isfinite().all():
            raise UserError(
                f"teacher {name} answers with numbers that are not finite",
                "finite logits",
                "check its weights, and its precision",
            )
        predicted = logits.argmax(-1).cpu().numpy()
        way.predicted = np.concatenate([way.predicted, predicted])
        way.right = np.concatenate([way.right, predicted == labels])
        if way is not plain and len(way.right) >= _TRIAL and way.right.sum() <= plain.right.sum():
            ways.remove(way)


def _is_better(other: Bool[np.ndarray, "images"], plain: Bool[np.ndarray, "images"]) -> bool:
    """Whether another way's right decisions are clearly ahead: `LEAD`, and McNemar at `LEVEL`."""
    won, lost = int((other & ~plain).sum()), int((plain & ~other).sum())
    if won - lost < LEAD * len(plain):
        return False
    return bool(binom.sf(won - 1, won + lost, 0.5) < LEVEL)


def _renamed(
    plain: _Way, labels: Int64[np.ndarray, "images"], names: tuple[str, ...]
) -> list[_Way]:
    """The best one-to-one renaming of the teacher's classes, if it holds what it promises.

    Chosen on every other image of each class and judged on the rest, or a weak teacher's errors
    would always find a renaming that flatters them.
    """
    chosen_on = turns(labels) % 2 == 0
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (plain.predicted[chosen_on], labels[chosen_on]), 2)
    counts[np.diag_indices_from(counts)] += 1  # of equals, the name it has
    renamed = linear_sum_assignment(counts, maximize=True)[1]
    right = renamed[plain.predicted] == labels
    if not _is_better(right[~chosen_on], plain.right[~chosen_on]):
        return []
    examples = [f"{names[old]} -> {names[new]}" for old, new in enumerate(renamed) if old != new]
    cause = f"with its classes renamed ({', '.join(examples[:4])}{', ...' if examples[4:] else ''})"
    todo = "its classes stand in another order: name them in the JSON file beside it"
    return [_Way(cause, todo, plain.ask, predicted=renamed[plain.predicted], right=right)]


def _miswired(examination: Examination, cause: _Way) -> UserError:
    return UserError(
        f"{examination}\n  {cause.cause} it would know {cause.right.mean():.2%}",
        "a teacher that is asked as it was trained",
        cause.todo,
    )


def _near_chance(examination: Examination) -> UserError:
    least = examination.chance + MARGIN * (1 - examination.chance)
    return UserError(
        f"{examination}\n  that is too near chance to teach: it was trained too shortly, its "
        "classes stand in another order, its normalisation or image size is another, or its last "
        f"layer was never trained; {examination.count} images may also be too few to tell",
        f"clearly above chance: more than {least:.2%}, and p < {LEVEL:g} in a binomial test (here "
        f"{binom.sf(examination.correct - 1, examination.count, examination.chance):.1g})",
        "train it longer; check it with `deit evaluate TEACHER DATA`",
    )


def _device_of(teacher: Teacher) -> torch.device:
    parameter = next(teacher.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
