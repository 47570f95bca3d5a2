"""What a teacher's examination found, as a run keeps it, and what counts as near chance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.stats import binom

from deit.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """Where the gate draws its lines; the defaults are what training uses.

    Attributes:
        level: significance level of being above chance, and of another way's likelihoods: one
            healthy teacher in a million would fail each test.
        margin: share of the way from chance to 100 % that a teacher must have gone.
        lead: accuracy by which something else must be ahead to be held against the teacher.
        decisions: significance level of decisions beside the likelihoods, so that a way that is
            only surer of itself is not held against the teacher.
        decisions_alone: significance level of decisions by themselves: of another way of asking, of
            a renaming of the classes, and of the baseline.
        tolerance: how far answers to the same image may differ, as a share of the logits' spread;
            None takes what the teacher's precision allows.
    """

    level: float = 1e-6
    margin: float = 0.1
    lead: float = 0.02
    decisions: float = 0.02
    decisions_alone: float = 1e-4
    tolerance: float | None = None


DEFAULT = Thresholds()


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """What the teacher knew.

    Attributes:
        teacher: its name.
        correct: how many of the images it decided rightly.
        count: how many images it was asked about.
        chance: the accuracy of always answering the commonest class of the sample.
        baseline: the accuracy of class means of 8 x 8 pixels on the same images, each half judged
            by the other; None where the classes have fewer than four images each on average.
        asked: images that went through the teacher in all, for all ways of asking.
        notes: what had to be assumed about it, and what the sample could not show.
    """

    teacher: str
    correct: int
    count: int
    chance: float
    baseline: float | None = None
    asked: int = 0
    notes: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float:
        """Share of right decisions."""
        return self.correct / self.count

    @property
    def can_be_tested(self) -> bool:
        """Whether a perfect teacher would pass the test on this sample."""
        return self.chance**self.count < DEFAULT.level

    def fails_chance(self, thresholds: Thresholds) -> bool:
        """Whether it is near chance.

        Where so few images were asked that not even a perfect teacher could pass the test, the
        margin alone decides.
        """
        if self.accuracy <= self.chance + thresholds.margin * (1 - self.chance):
            return True
        p = float(binom.sf(self.correct - 1, self.count, self.chance))
        return self.can_be_tested and p >= thresholds.level

    def to_json(self) -> dict[str, Any]:
        """For a run's record; `from_json` reads it."""
        return {
            "teacher": self.teacher,
            "correct": self.correct,
            "count": self.count,
            "accuracy": self.accuracy,
            "chance": self.chance,
            "baseline": self.baseline,
            "asked": self.asked,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Examination":
        """What `to_json` wrote.

        >>> examined = Examination(teacher="t", correct=9, count=10, chance=0.1, notes=("a note",))
        >>> Examination.from_json(examined.to_json()) == examined
        True

        Raises:
            UserError: when something is missing or of another kind.
        """
        try:
            baseline = told.get("baseline")
            read = cls(
                teacher=str(told["teacher"]),
                correct=int(told["correct"]),
                count=int(told["count"]),
                chance=float(told["chance"]),
                baseline=None if baseline is None else float(baseline),
                asked=int(told.get("asked", 0)),
                notes=tuple(str(note) for note in told["notes"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the record of a teacher's examination cannot be read: {error!r}",
                "teacher, correct, count, chance and notes, as they were written",
                "examine the teacher again",
            ) from error
        if not 0 <= read.correct <= read.count or read.count == 0:
            raise UserError(
                f"the record of a teacher's examination has {read.correct} of {read.count} right",
                "some images, and no more right than were asked",
                "examine the teacher again",
            )
        return read

    def __str__(self) -> str:
        known = f"chance {self.chance:.2%}"
        if self.baseline is not None:
            known += f", class means of 8 x 8 pixels {self.baseline:.2%}"
        line = f"teacher {self.teacher}: {self.accuracy:.2%} of {self.count:,} validation images"
        cost = [f"it was asked {self.asked:,} times in all"] if self.asked else []
        return "\n".join([f"{line} ({known})", *(f"  {note}" for note in [*cost, *self.notes])])
