"""The gate before distillation: a teacher is measured before it may teach.

A teacher that was wired up wrongly, with its classes in another order, another normalisation or its
colours exchanged, would spoil a run without a word. So it is asked about 256 validation images, by
the very path that training takes, and it is refused when

* its answer to an image is not that image's alone (`deit.measuring.same_answers`): up to 64 images
  are asked about again among other neighbours, and 9 of 10 answers must be the same up to
  rounding. Answers that have moved with a neighbour are shifted; others come from a batch norm in
  training mode, or from chance;
* it would clearly do better if it were asked in another way (`deit.measuring.ways`): with red and
  blue exchanged, in another usual normalisation, or at another image size. Clearly is two points or
  more of accuracy, and either p < 1e-4 in McNemar's exact test, or p < 0.02 there and p < 1e-6 in a
  sign test of which way gives the true class the higher probability. Another size must also spare
  it a quarter of its errors, because many networks do a little better above the size that they were
  trained at (Touvron et al. 2019). Of several ways the best is named; near chance, only one that
  halves the errors;
* it would clearly do better if its classes were renamed one to one: two points, and p < 1e-4 in
  McNemar's test on the half of the images that the renaming was not chosen on. Where class means of
  its own logits are clearly better still, its last layer was never trained;
* its accuracy is near chance: not above ``chance + (1 - chance) / 10``, or not above chance in a
  binomial test at 1e-6. Chance is what always answering the sample's commonest class would reach;
* its accuracy is below ``distillation.min_teacher_accuracy``; or, where that is left at 0, not half
  as far above chance as class means of 8 x 8 pixels on the same images, which any student will
  pass. One that is clearly below these, but not so far, may teach with a note that says so.

A teacher with fewer than 6 errors in 256 is asked in no other way, as none could be clear. What
the thresholds stop and let pass is measured in docs/experiments.md by ``benchmarks/gate_roc.py``;
what 256 images can show is in docs/decisions/0014-the-gate-before-distillation.md.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool
from scipy.stats import binom

from deit.data.preprocess import Preprocess
from deit.data.sources import Source
from deit.distillation.config import DistillationConfig
from deit.distillation.teacher import Teacher
from deit.errors import UserError
from deit.measuring.examination import DEFAULT, Examination, Thresholds
from deit.measuring.same_answers import TOLERANCE, TOLERANCE_HALF, SecondAsking, ask_again
from deit.measuring.sample import Sample, read_sample
from deit.measuring.ways import Fault, contest, is_ahead, renamed, ways_of_asking

_TRAIN_HEAD = "train the last layer, or take the weights of a trained one"

__all__ = ["Examination", "TeacherError", "Thresholds", "check_teacher", "examine"]


class TeacherError(UserError):
    """A teacher that may not teach.

    Args:
        fault: what is wrong with it.
        given, allowed, todo: as in `UserError`.
    """

    def __init__(self, fault: Fault, given: str, allowed: str, todo: str) -> None:
        super().__init__(f"teacher refused: {fault}\n  {given}", allowed, todo)
        self.fault = fault


def check_teacher(
    teacher: Teacher,
    source: Source,
    config: DistillationConfig,
    preprocess: Preprocess,
    *,
    num_images: int = 256,
    batch_size: int = 32,
    workers: int = 0,
    thresholds: Thresholds = DEFAULT,
) -> Examination:
    """Measure a teacher as the student will ask it, and refuse one that cannot teach.

    Args:
        teacher: with its classes in the order of the source's.
        source: validation images.
        config: says the least accuracy.
        preprocess: the student's: the teacher sees the student's pixels.
        num_images: how many images at most, as evenly from all classes as there are; all are held
            in memory at once.
        batch_size: images per question.
        workers: processes that decode images.
        thresholds: where the lines are drawn.

    Raises:
        TeacherError: with the fault, the accuracy seen and what to do.
    """
    sample = read_sample(
        teacher,
        source,
        preprocess,
        num_images=num_images,
        batch_size=batch_size,
        workers=workers,
    )
    return examine(sample, source.classes.names, config, thresholds)


def examine(
    sample: Sample, names: tuple[str, ...], config: DistillationConfig, thresholds: Thresholds
) -> Examination:
    """The rules of this module, in their order, on images that were read and asked about.

    Args:
        sample: the images and the teacher's answers; more questions are added to its count.
        names: the classes.
        config: says the least accuracy.
        thresholds: where the lines are drawn.

    Raises:
        TeacherError: as `check_teacher`.
    """
    teacher = sample.teacher
    if not sample.logits.isfinite().all():
        raise TeacherError(
            "not finite",
            f"teacher {teacher.name} answers with numbers that are not finite",
            "finite logits",
            "check its weights, and its precision",
        )
    pixels = sample.pixels_right()
    examination = Examination(
        teacher=teacher.name,
        correct=int(sample.right.sum()),
        count=len(sample.labels),
        chance=float(np.bincount(sample.labels).max() / len(sample.labels)),
        baseline=None if pixels is None else float(pixels.mean()),
        notes=teacher.notes,
    )
    _check_same_answers(sample, examination, thresholds)
    _check_ways(sample, examination, names, thresholds)
    if examination.fails_chance(thresholds):
        raise _near_chance(sample, examination, thresholds)
    _check_accuracy(sample, examination, pixels, config, thresholds)
    if _is_below_pixels(sample, pixels, thresholds):
        weak = "class means of its pixels know more than this teacher: its student may suffer"
        examination = replace(examination, notes=(*examination.notes, weak))
    examination = replace(examination, asked=sample.asked)
    if not examination.can_be_tested:
        few = f"{examination.count} images are too few to tell it from chance with certainty"
        return replace(examination, notes=(*examination.notes, few))
    return examination


def _check_same_answers(sample: Sample, examination: Examination, thresholds: Thresholds) -> None:
    """Refuse answers that belong to another image, or that the batch or chance has a part in."""
    if len(sample.labels) < 2:
        return
    half = sample.teacher.dtype is not torch.float32
    tolerance = thresholds.tolerance or (TOLERANCE_HALF if half else TOLERANCE)
    again = ask_again(sample.ask, sample.images, sample.logits, sample.batch_size, tolerance)
    sample.asked += again.asked
    if again.finding != "same":
        raise _not_the_same(sample, examination, again, tolerance)


def _check_ways(
    sample: Sample, examination: Examination, names: tuple[str, ...], thresholds: Thresholds
) -> None:
    """Refuse a teacher that would clearly do better if it were asked in another way."""
    near_chance = examination.fails_chance(thresholds)
    contests = [
        contest(way, sample, thresholds)
        for way in ways_of_asking(sample.teacher, sample.preprocess)
    ]
    causes = [
        outcome for outcome in contests if outcome and outcome.is_clear(thresholds, near_chance)
    ]
    if causes:
        best = max(causes, key=lambda outcome: outcome.accuracy)
        cause, accuracy = best.way, best.accuracy
        raise _miswired(examination, cause.fault, cause.cause, accuracy, cause.todo)
    _check_names(sample, examination, names, thresholds)


def _check_names(
    sample: Sample, examination: Examination, names: tuple[str, ...], thresholds: Thresholds
) -> None:
    """Refuse classes in another order, and logits that are no class's in particular.

    The best renaming is chosen on half of the images and judged on the other. If class means of the
    logits are clearly ahead of it, they tell the classes apart but are not the classes' own.
    """
    judged = ~sample.first_half
    decided, moved = renamed(sample.predicted, sample.labels, sample.first_half, names)
    better = decided == sample.labels
    if not _is_ahead(better[judged], sample.right[judged], thresholds):
        return
    accuracy = better[judged].mean()
    if examination.fails_chance(thresholds) and accuracy < (1 + examination.accuracy) / 2:
        return
    refitted = sample.refitted_right()
    if refitted is not None and _is_ahead(refitted[judged], better[judged], thresholds):
        cause = "its last layer was never trained: by class means of its logits"
        raise _miswired(examination, "random head", cause, refitted[judged].mean(), _TRAIN_HEAD)
    cause = f"with its classes renamed ({moved})"
    todo = "its classes stand in another order: name them in the JSON file beside it"
    raise _miswired(examination, "permuted classes", cause, accuracy, todo)


def _is_ahead(
    right: Bool[np.ndarray, "images"], plain: Bool[np.ndarray, "images"], thresholds: Thresholds
) -> bool:
    """Whether decisions alone show one to be clearly better than the other."""
    won, lost = int((right & ~plain).sum()), int((plain & ~right).sum())
    return is_ahead(won, lost, len(plain), thresholds.lead, thresholds.decisions_alone)


def _check_accuracy(
    sample: Sample,
    examination: Examination,
    pixels: Bool[np.ndarray, "images"] | None,
    config: DistillationConfig,
    thresholds: Thresholds,
) -> None:
    """Refuse less than the recipe asks for; where it asks for nothing, less than pixels tell."""
    least = config.min_teacher_accuracy
    if examination.accuracy < least:
        raise TeacherError(
            "below the accuracy asked for",
            str(examination),
            f"distillation.min_teacher_accuracy = {least:.2%} or more",
            "take a better teacher, or ask for less",
        )
    if least or not _is_below_pixels(sample, pixels, thresholds):
        return
    assert examination.baseline is not None
    chance = examination.chance
    if examination.accuracy - chance < (examination.baseline - chance) / 2:
        half = chance + (examination.baseline - chance) / 2
        raise TeacherError(
            "below the baseline",
            f"{examination}\n  that is far less than the pixels tell by themselves: it would hold "
            "its student back",
            f"{half:.2%} at least, half of the way from chance to {examination.baseline:.2%}",
            "train it longer, or say what you accept with distillation.min_teacher_accuracy",
        )


def _is_below_pixels(
    sample: Sample, pixels: Bool[np.ndarray, "images"] | None, thresholds: Thresholds
) -> bool:
    """Whether class means of small pixels are clearly better."""
    return pixels is not None and _is_ahead(pixels, sample.right, thresholds)


def _not_the_same(
    sample: Sample, examination: Examination, again: SecondAsking, tolerance: float
) -> TeacherError:
    seen = (
        f"{examination}\n  asked again among other images, {1 - again.agreeing:.0%} of its "
        f"answers differ by more than {tolerance:.0%} of the logits' spread (median "
        f"{again.deviation:.1%}), and {again.changed:.0%} of the images are decided otherwise"
    )
    if again.finding == "shifted":
        rows = [
            part.roll(-again.shift, 0) for part in torch.split(sample.logits, sample.batch_size)
        ]
        moved = torch.cat(rows).argmax(1).numpy() == sample.labels
        return TeacherError(
            "shifted answers",
            f"{seen}: row i answers image i{-again.shift:+d} of the batch. Read so, it would know "
            f"{moved.mean():.2%}",
            "row i of the answer for row i of the images",
            "correct the program that batches its images or collects its answers",
        )
    if again.finding == "random":
        return TeacherError(
            "random answers",
            f"{seen}; even the same batch is answered otherwise the second time",
            "the same answer to the same image",
            "switch dropout and other random layers off, or export it in evaluation mode",
        )
    return TeacherError(
        "batch dependence",
        f"{seen}: they depend on what else is in the batch, most likely because its batch norms "
        "are in training mode. However accurate, its labels could not be found again",
        "the same answer to an image in any batch",
        "export it in evaluation mode, with running statistics (track_running_stats)",
    )


def _miswired(
    examination: Examination, fault: Fault, cause: str, accuracy: float, todo: str
) -> TeacherError:
    return TeacherError(
        fault,
        f"{examination}\n  {cause} it would know {accuracy:.2%}",
        "a teacher that is asked as it was trained",
        todo,
    )


def _near_chance(sample: Sample, examination: Examination, thresholds: Thresholds) -> TeacherError:
    """What is wrong with a teacher that knows nothing, as far as its logits tell."""
    least = examination.chance + thresholds.margin * (1 - examination.chance)
    p = binom.sf(examination.correct - 1, examination.count, examination.chance)
    allowed = (
        f"clearly above chance: more than {least:.2%}, and p < {thresholds.level:g} in a binomial "
        f"test (here {p:.1g})"
    )
    refitted = sample.refitted_right()
    if refitted is not None and _knows_more(refitted, sample):
        return TeacherError(
            "random head",
            f"{examination}\n  that is too near chance to teach; but class means of its logits "
            f"know {refitted.mean():.2%}, so its last layer was never trained, or for other "
            "classes",
            allowed,
            _TRAIN_HEAD,
        )
    return TeacherError(
        "near chance",
        f"{examination}\n  that is too near chance to teach: it was trained too shortly, its "
        "classes stand in another order, its normalisation or image size is another, or its last "
        f"layer was never trained; {examination.count} images may also be too few to tell",
        allowed,
        "train it longer; check it with `deit evaluate TEACHER DATA`",
    )


def _knows_more(refitted: Bool[np.ndarray, "images"], sample: Sample) -> bool:
    """Whether the logits tell so much that layers below the last must have been trained.

    Half of the errors must go, by class means chosen and judged on different halves.
    """
    return bool(2 * (~refitted).sum() <= (~sample.right).sum())
