"""Several teachers as one, each with pixels and classes of its own."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from deit.distillation.ensemble import Ensemble, log_mean_probabilities, majority_scores
from deit.distillation.teacher import Teacher
from deit.errors import UserError

STUDENT = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


class Remembering(nn.Module):
    """A linear classifier of mean colours that keeps what it was shown."""

    def __init__(self, seed, classes=3):
        super().__init__()
        torch.manual_seed(seed)
        self.head = nn.Linear(3, classes)
        self.seen = None

    def forward(self, images):
        self.seen = images
        return self.head(images.mean((2, 3)))


def make_member(seed, size=8, std=0.5, order=(), classes="abc"):
    return Teacher(
        Remembering(seed, len(order) or len(classes)),
        name=f"t{seed}",
        classes=tuple(classes),
        mean=(0.5,) * 3,
        std=(std,) * 3,
        image_size=size,
        order=order,
        notes=[f"note {seed}"],
    )


def make_images():
    return torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_mean_is_the_mean_of_what_the_members_say_alone():
    """In float64, from each member's own answer: other size, normalisation and class order."""
    members = [make_member(0), make_member(1, size=16, std=0.1), make_member(2, order=(2, 0, 1))]
    images = make_images()
    alone = [member.logits(images, *STUDENT).double().softmax(-1) for member in members]
    together = Ensemble(members).logits(images, *STUDENT)
    torch.testing.assert_close(together.exp().double(), sum(alone) / 3, atol=1e-6, rtol=1e-5)
    assert [member.model.seen.shape[-1] for member in members] == [8, 16, 8]
    assert together.dtype == torch.float32


def test_mean_is_finite_where_one_member_is_certain():
    """A probability of 0 in float32 does not make a logarithm of minus infinity of the mean."""
    certain = torch.tensor([[[0.0, 500.0]], [[0.0, 0.0]]])
    torch.testing.assert_close(log_mean_probabilities(certain).exp(), torch.tensor([[0.25, 0.75]]))
    assert log_mean_probabilities(torch.tensor([[[0.0, 500.0]]]).repeat(2, 1, 1)).isfinite().all()


@given(st.integers(2, 40).flatmap(lambda n: st.lists(st.integers(0, 4), min_size=n, max_size=n)))
@example([0, 1, 1, 1, 1, 0, 0, 0])  # a tie that the earliest teacher decides against early ones
@example([0] * 19 + [1] * 20)  # one vote more, however late
def test_majority_decides_as_counting_does(decisions: list[int]) -> None:
    """Most votes; of equals, the class that comes first in the list of decisions."""
    answers = torch.eye(5)[decisions][:, None]  # [members, 1, classes]
    expected = max(dict.fromkeys(decisions), key=decisions.count)  # max keeps the first of equals
    assert majority_scores(answers).argmax(-1).item() == expected


def test_a_majority_can_outvote_the_most_certain():
    """Two hesitating members against one that is sure: the mean follows the one, the vote not."""
    answers = torch.tensor([[[20.0, 0.0]], [[0.0, 0.5]], [[0.0, 0.5]]])
    assert log_mean_probabilities(answers).argmax(-1).item() == 0
    assert majority_scores(answers).argmax(-1).item() == 1


def test_ensemble_is_a_teacher():
    """Frozen, in evaluation mode, with names and notes of all; labels are its argmax."""
    ensemble = Ensemble([make_member(0), make_member(1)], "majority")
    ensemble.train()
    images = make_images()
    assert not any(module.training for module in ensemble.modules())
    assert not any(parameter.requires_grad for parameter in ensemble.parameters())
    assert (ensemble.name, ensemble.notes) == ("t0 + t1", ("note 0", "note 1"))
    logits = ensemble.logits(images, *STUDENT)
    assert torch.equal(ensemble.labels(images, *STUDENT), logits.argmax(-1))


def test_another_way_of_asking_reaches_every_member():
    """The gate asks in another normalisation and size; the members themselves stay."""
    members = [make_member(0), make_member(1)]
    ensemble, images = Ensemble(members), make_images()
    other = ensemble.with_normalisation((0.0,) * 3, (1.0,) * 3).with_image_size(4)
    expected = Ensemble(
        [m.with_normalisation((0,) * 3, (1,) * 3).with_image_size(4) for m in members]
    )
    assert torch.equal(other.logits(images, *STUDENT), expected.logits(images, *STUDENT))
    assert members[1].image_size == ensemble.members[1].image_size == 8
    assert other.name == ensemble.name


def test_unfit_members_are_refused():
    """One teacher is no ensemble, and other classes cannot be averaged."""
    with pytest.raises(UserError, match="an ensemble of 1 teachers"):
        Ensemble([make_member(0)])
    with pytest.raises(UserError, match="t0 and t1 have different classes"):
        Ensemble([make_member(0), make_member(1, classes="acb")])


def test_order_of_members_and_vote_are_part_of_the_fingerprint():
    """The earliest member decides ties; equal members in equal order are the same teacher."""
    prints = [
        Ensemble([make_member(a), make_member(b)], vote).fingerprint()
        for a, b, vote in ((0, 1, "mean"), (1, 0, "mean"), (0, 1, "majority"), (0, 1, "mean"))
    ]
    assert prints[0] == prints[3]
    assert prints[0] not in prints[1:3]
