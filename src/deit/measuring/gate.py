"""The gate before distillation: a teacher is measured before it may teach.

A teacher that was wired up wrongly, with its classes in another order, another normalisation or its
colours exchanged, would spoil a run without a word. So it is asked about 256 validation images, by
the very path that training takes, and it is refused when

* its answer to an image is not that image's alone (`deit.measuring.same_answers`): up to 64 images
  are asked about again among other neighbours, and 9 of 10 answers must be the same up to
  rounding. Answers that have moved with a neighbour are shifted; others come from a batch norm in
  training mode, or from chance;
* it would clearly do better if it were asked in another way (`deit.measuring.ways`): with red and
  blue exchanged, in another usual normalisation, at another image size, or with its classes renamed
  one to one. Clearly is two points or more, and p < 1e-4 in McNemar's exact test. Another size must
  also halve its errors, because many networks do a little better above the size that they were
  trained at (Touvron et al. 2019). Of several ways the best is named; near chance, only one that
  halves the errors. Where class means of its own logits do clearly better even than the best
  renaming, its last layer was never trained;
* its accuracy is near chance: not above ``chance + (1 - chance) / 10``, or not above chance in a
  binomial test at 1e-6. Chance is what always answering the sample's commonest class would reach;
* its accuracy is below ``distillation.min_teacher_accuracy``; or, where that is left at 0, clearly
  below what class means of 8 x 8 pixels reach on the same images. No student is as bad as these, so
  such a teacher would hold it back.

A teacher with fewer than 14 errors in 256 is asked in no other way, as none could be clear. What
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
from deit.measuring.ways import Contest, Fault, Way, contest, is_ahead, renamed, ways_of_asking

__all__ = ["Examination", "TeacherError", "Thresholds", "check_teacher"]


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
    _check_ways(sample, examination, source.classes.names, thresholds)
    if examination.fails_chance(thresholds):
        raise _near_chance(sample, examination, thresholds)
    _check_accuracy(sample, examination, pixels, config, thresholds)
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
    lead, level = thresholds.lead, thresholds.way_level
    contests = _renaming(sample, names, thresholds)
    for way in ways_of_asking(sample.teacher, sample.preprocess):
        outcome, asked = contest(
            way, sample.images, sample.labels, sample.right, sample.batch_size, lead, level
        )
        sample.asked += asked
        contests += [outcome] if outcome else []
    causes = [
        outcome
        for outcome in contests
        if outcome.is_clear(lead, level)
        and (outcome.halves_errors or not (near_chance or outcome.way.must_halve_errors))
    ]
    if causes:
        best = max(causes, key=lambda outcome: outcome.accuracy)
        raise TeacherError(
            best.way.fault,
            f"{examination}\n  {best.way.cause} it would know {best.accuracy:.2%}",
            "a teacher that is asked as it was trained",
            best.way.todo,
        )


def _renaming(sample: Sample, names: tuple[str, ...], thresholds: Thresholds) -> list[Contest]:
    """The best renaming of its classes on the half that it was not chosen on, if it is ahead there.

    If class means of the logits are clearly ahead of the renaming, the logits tell the classes
    apart but are not the classes': a last layer that was never trained.
    """
    judged = ~sample.first_half
    decided, moved = renamed(sample.predicted, sample.labels, sample.first_half, names)
    way = Way(
        "permuted classes",
        f"with its classes renamed ({moved})",
        "its classes stand in another order: name them in the JSON file beside it",
        sample.ask,
    )
    outcome = _compare(way, decided == sample.labels, sample.right, judged)
    if not outcome.is_clear(thresholds.lead, thresholds.way_level):
        return []
    refitted = sample.refitted_right()
    if refitted is None:
        return [outcome]
    head = Way(
        "random head",
        "its last layer was never trained: by class means of its logits",
        "train the last layer, or take the weights of a trained one",
        sample.ask,
    )
    better = _compare(head, refitted, decided == sample.labels, judged)
    if not better.is_clear(thresholds.lead, thresholds.way_level):
        return [outcome]
    return [_compare(head, refitted, sample.right, judged)]


def _compare(
    way: Way,
    right: Bool[np.ndarray, "images"],
    plain: Bool[np.ndarray, "images"],
    judged: Bool[np.ndarray, "images"],
) -> Contest:
    right, plain = right[judged], plain[judged]
    won, lost = int((right & ~plain).sum()), int((plain & ~right).sum())
    return Contest(way, won, lost, int(plain.sum()), len(plain))


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
    if least or pixels is None:
        return
    won, lost = int((pixels & ~sample.right).sum()), int((sample.right & ~pixels).sum())
    if is_ahead(won, lost, len(pixels), thresholds.lead, thresholds.way_level):
        raise TeacherError(
            "below the baseline",
            f"{examination}\n  that is less than the pixels tell by themselves: it would hold its "
            "student back",
            f"no clearly lower accuracy than {examination.baseline:.2%}",
            "train it longer, or say what you accept with distillation.min_teacher_accuracy",
        )


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
            "train the last layer, or take the weights of a trained one",
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
