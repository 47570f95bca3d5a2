"""Several teachers as one: their mean probability, or a vote of their decisions."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deit.distillation.config import Vote
from deit.distillation.teacher import Teacher
from deit.errors import UserError


class Ensemble(Teacher):
    """Teachers of the same classes that answer together.

    Each member keeps its own normalisation, image size, order of classes and precision. As a whole
    the ensemble shows the first member's.

    Args:
        members: two or more, for the same classes in the same order.
        vote: ``mean``: the logarithm of the mean of the members' probabilities. ``majority``: each
            member's decision counts one vote; of equals, the one that the earliest member chose.

    Raises:
        UserError: for fewer than two members, or members of different classes.
    """

    def __init__(self, members: Sequence[Teacher], vote: Vote = "mean") -> None:
        _require_members(members)
        first = members[0]
        super().__init__(
            nn.ModuleList(members),
            name=" + ".join(member.name for member in members),
            classes=first.classes,
            mean=first.mean,
            std=first.std,
            image_size=first.image_size,
            dtype=first.dtype,
            notes=[note for member in members for note in member.notes],
        )
        self.vote = vote

    @property
    def members(self) -> tuple[Teacher, ...]:
        """The teachers, in the order in which they were named."""
        assert isinstance(self.model, nn.ModuleList)
        return tuple(member for member in self.model if isinstance(member, Teacher))

    @torch.no_grad()
    def logits(
        self,
        images: Float[Tensor, "batch channels height width"],
        student_mean: Sequence[float],
        student_std: Sequence[float],
    ) -> Float[Tensor, "batch classes"]:
        """What the members say together, float32.

        With ``mean``, log((p_1 + ... + p_M) / M) of their probabilities p. With ``majority``, votes
        plus 1 / (2 + place of the first member that voted so): scores whose argmax is the decision,
        and no logits.
        """
        answers = torch.stack(
            [member.logits(images, student_mean, student_std) for member in self.members]
        )  # [members, batch, classes]
        return log_mean_probabilities(answers) if self.vote == "mean" else majority_scores(answers)

    def with_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> "Ensemble":
        """The same models, each under another normalisation; the weights are shared."""
        return self._of_changed(lambda member: member.with_normalisation(mean, std))

    def with_image_size(self, image_size: int) -> "Ensemble":
        """The same models, each at another resolution; the weights are shared."""
        return self._of_changed(lambda member: member.with_image_size(image_size))

    def fingerprint(self) -> dict[str, Any]:
        """How the members answer together, and each one's fingerprint, in their order."""
        return {
            "vote": self.vote,
            "members": [member.fingerprint() for member in self.members],
        }

    def _of_changed(self, change: Callable[[Teacher], Teacher]) -> "Ensemble":
        changed = Ensemble([change(member) for member in self.members], self.vote)
        changed.name, changed.notes = self.name, self.notes
        return changed


def log_mean_probabilities(
    answers: Float[Tensor, "members batch classes"],
) -> Float[Tensor, "batch classes"]:
    """The logarithm of the mean of the members' probabilities, finite where one would be 0.

    >>> answers = torch.tensor([[[0.2, 0.8]], [[0.6, 0.4]]]).log()
    >>> [round(value, 4) for value in log_mean_probabilities(answers).exp()[0].tolist()]
    [0.4, 0.6]
    """
    return answers.float().log_softmax(-1).logsumexp(0) - math.log(len(answers))


def majority_scores(
    answers: Float[Tensor, "members batch classes"],
) -> Float[Tensor, "batch classes"]:
    """Votes for each class, plus less than one vote for the earliest member that chose it.

    >>> answers = torch.tensor([[[0.0, 9.0, 0.0]], [[0.0, 0.0, 9.0]]])  # one vote each
    >>> [round(value, 4) for value in majority_scores(answers)[0].tolist()]
    [0.0, 1.5, 1.3333]
    """
    votes = torch.nn.functional.one_hot(answers.argmax(-1), answers.shape[-1]).float()
    places = torch.arange(len(answers), device=answers.device, dtype=torch.float32)
    precedence = votes / (places + 2).view(-1, 1, 1)
    return votes.sum(0) + precedence.amax(0)


def _require_members(members: Sequence[Teacher]) -> None:
    if len(members) < 2:
        raise UserError(f"an ensemble of {len(members)} teachers", "two or more", "name more")
    for member in members[1:]:
        if member.classes != members[0].classes:
            raise UserError(
                f"teachers {members[0].name} and {member.name} have different classes",
                "the same classes in the same order",
                "load each for the data's classes",
            )
