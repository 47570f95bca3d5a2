"""What the student learns from besides the label: a teacher, and how it enters the loss.

The formulas themselves are in `deit.distillation.loss`; this file owns their settings.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

from deit.errors import UserError

Kind = Literal["none", "soft", "hard", "label"]
KlReduction = Literal["batchmean", "numel"]
Vote = Literal["mean", "majority"]

LABELS = "labels:"
"""What a teacher's name begins with where stored labels stand for it."""

PAPER_WEIGHTS: dict[Kind, float] = {"none": 0.5, "soft": 0.1, "hard": 0.5, "label": 0.5}
"""Share of the second term: lambda of Eq. 2, one half of Eq. 3 (for "none" it does not act)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationConfig:
    """The second term of the loss.

    A value that cannot act with the chosen `kind` raises, unless it is left at its default. Start
    from `DistillationConfig.of_paper`, which knows the paper's weight for each kind.
    """

    kind: Kind = "none"
    """none: the label only. soft: Eq. 2, the teacher's probabilities. hard: Eq. 3, its decision.
    label: the second head gets the true label, the two-class-token control of section 4."""

    teacher: str = ""
    """Run folder, weights file, timm:NAME, torchvision:NAME, hf:ID or onnx:FILE; the paper's is
    timm:regnety_160. labels:DIR reads what `deit label` has stored of a teacher. Several, with
    commas between them, teach as one."""

    labels: str = ""
    """Folder of a label store beside the teacher: what it holds is read, and what the teacher is
    asked is written into it, for this run and later ones. Made where there is none."""

    top_k: int = 0
    """Probabilities of the largest classes that a store made by this run keeps of each view. 0
    keeps the decision only, two bytes, which is all that the hard kind needs."""

    vote: Vote = "mean"
    """How several teachers answer as one. mean: their mean probability. majority: one vote for each
    decision, of equals the earliest teacher's; hard labels only."""

    teacher_size: int = 0
    """Side of the images that the teacher is asked about, in pixels; 0: its own size. Only for
    teachers that take any size (most convnets), such as one adapted by finetune/fixres."""

    token: bool = True
    """True: the teacher trains the distillation token's head (section 4). False: it trains the
    class head beside the label (rows 2 and 3 of Table 3); the model then has one token."""

    weight: float = 0.5
    """Share of the second term, 0 to 1, with 1 - weight for the label: 1/2 in Eq. 3, lambda = 0.1
    in Eq. 2 (`PAPER_WEIGHTS`)."""

    temperature: float = 3.0
    """tau of Eq. 2, above 0; acts in the soft kind only. 3 is the paper's (section 5.2)."""

    kl_reduction: KlReduction = "batchmean"
    """batchmean: the KL divergence is summed over the classes, as Eq. 2 says. numel: it is divided
    by the number of classes too, which is what the reference code does."""

    min_teacher_accuracy: float = 0.0
    """The teacher's validation accuracy, 0 to 1, below which training does not start. 0: it only
    has to be clearly above chance, and not clearly below class means of 8 x 8 pixels
    (`deit.measuring.gate`)."""

    def __post_init__(self) -> None:
        """Refuse values out of range and settings that cannot act.

        Raises:
            UserError: naming the field.
        """
        if self.kind not in PAPER_WEIGHTS:
            raise _refusal("kind", self.kind, ", ".join(PAPER_WEIGHTS), "use one of these")
        if not 0 <= self.weight <= 1:
            raise _refusal("weight", self.weight, "0 to 1", "the paper uses 0.1 (soft), 0.5 (hard)")
        if not 0 < self.temperature < float("inf"):
            raise _refusal("temperature", self.temperature, "a number above 0", "the paper uses 3")
        if self.kl_reduction not in ("batchmean", "numel"):
            raise _refusal("kl_reduction", self.kl_reduction, "batchmean, numel", "use one of them")
        self._check_vote()
        if self.teacher_size < 0:
            raise _refusal("teacher_size", self.teacher_size, "from 0", "0 is the teacher's own")
        if self.teacher_size and (self.stored or "," in self.teacher):
            allowed = (
                f"0 with the teacher {self.teacher}: several keep their sizes, labels have none"
            )
            raise _refusal("teacher_size", self.teacher_size, allowed, "leave it out")
        if not 0 <= self.min_teacher_accuracy <= 1:
            raise _refusal(
                "min_teacher_accuracy", self.min_teacher_accuracy, "0 to 1", "75 % is 0.75"
            )
        for name in _idle_fields(self.kind):
            self._require_default(name)
        self._check_labels()

    @classmethod
    def of_paper(cls, kind: Kind, **changes: Any) -> "DistillationConfig":
        """The paper's settings for one kind, with changes.

        >>> soft = DistillationConfig.of_paper("soft", teacher="runs/teacher")
        >>> soft.weight, soft.temperature
        (0.1, 3.0)
        >>> DistillationConfig.of_paper("hard", teacher="timm:regnety_160").weight
        0.5
        """
        if kind not in PAPER_WEIGHTS:
            raise _refusal("kind", kind, ", ".join(PAPER_WEIGHTS), "use one of these")
        return cls(**{"kind": kind, "weight": PAPER_WEIGHTS[kind]} | changes)

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss asks a teacher."""
        return self.kind in ("soft", "hard")

    @property
    def needs_two_heads(self) -> bool:
        """Whether the student must have a second token with a head of its own."""
        return self.kind != "none" and self.token

    @property
    def stored(self) -> tuple[str, ...]:
        """Folders of the label stores that stand for the teacher; none where one is asked.

        >>> DistillationConfig(kind="hard", teacher="labels:a,labels:b").stored
        ('a', 'b')
        """
        names = [name.strip() for name in self.teacher.split(",")]
        if not all(name.startswith(LABELS) for name in names):
            return ()
        return tuple(name.removeprefix(LABELS) for name in names)

    def _check_labels(self) -> None:
        if self.top_k < 0:
            raise _refusal("top_k", self.top_k, "0 or more", "0 keeps the decision only")
        if self.top_k and not self.labels:
            raise _refusal("top_k", self.top_k, "0 without distillation.labels", "name a store")
        if self.labels and self.stored:
            given = f"{self.labels!r} with distillation.teacher = {self.teacher!r}"
            raise _refusal("labels", given, "one of them", "stored labels need no second store")
        if self.labels and self.kind == "soft" and not self.top_k:
            raise _refusal(
                "top_k",
                0,
                "1 or more where soft labels are stored: decisions hold no probabilities",
                "set --distillation.top_k 10, for example",
            )
        if len(set(self.stored)) < len(self.stored):
            raise _refusal("teacher", self.teacher, "each store once", "leave out the second")
        if LABELS in self.teacher and not self.stored:
            raise _refusal(
                "teacher",
                self.teacher,
                "stored labels for all of the teachers, or for none; no comma in a folder's name",
                "record the others too with `deit label`, or rename the folder",
            )

    def _check_vote(self) -> None:
        if self.vote not in ("mean", "majority"):
            raise _refusal("vote", self.vote, "mean, majority", "use one of them")
        if self.vote == "majority" and self.kind == "soft":
            allowed = "mean with distillation.kind = 'soft': votes are no probabilities"
            raise _refusal("vote", self.vote, allowed, "use the mean, or hard labels")
        voters = self.teacher.count(",") + 1
        if self.vote != "mean" and self.teacher and voters < 3:
            allowed = f"mean with {voters} of them: of two, the first would decide every tie alone"
            raise _refusal("vote", self.vote, allowed, "name three teachers or more, or take mean")

    def _require_default(self, name: str) -> None:
        default = {field.name: field.default for field in fields(self)}[name]
        value = getattr(self, name)
        if value != default:
            raise _refusal(
                name,
                value,
                f"{default!r} with distillation.kind = {self.kind!r}, where it cannot act",
                f"leave out distillation.{name}, or choose another kind",
            )


def _idle_fields(kind: Kind) -> tuple[str, ...]:
    """The fields that have nothing to act on."""
    no_teacher = (
        "teacher",
        "teacher_size",
        "labels",
        "top_k",
        "vote",
        "token",
        "min_teacher_accuracy",
    )
    no_temperature = ("temperature", "kl_reduction")
    return {
        "none": (*no_teacher, *no_temperature, "weight"),
        "label": (*no_teacher, *no_temperature),
        "hard": no_temperature,
        "soft": (),
    }[kind]


def _refusal(name: str, value: object, allowed: str, todo: str) -> UserError:
    return UserError(f"distillation.{name} = {value!r}", allowed, todo)
