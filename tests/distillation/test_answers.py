"""Where the teacher's word comes from must not change what it is."""

import numpy as np
import pytest
import torch

from deit.distillation.answers import Answers, check_rows, require_rows
from deit.distillation.config import DistillationConfig
from deit.distillation.label_rows import RowFormat
from deit.distillation.label_store import LabelStore, StoreHeader
from deit.distillation.loss import compute_loss
from deit.distillation.teacher import Teacher
from deit.errors import UserError
from deit.tensors import TrainBatch, TwoHeads

CLASSES = 6
HALF = (0.5, 0.5, 0.5)


class Counting(torch.nn.Module):
    """A linear teacher that remembers the sizes of the batches it was asked about."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3 * 64, CLASSES)
        self.sizes = []

    def forward(self, images):
        self.sizes.append(len(images))
        return self.linear(images.flatten(1))


def make_teacher() -> Teacher:
    torch.manual_seed(0)
    return Teacher(Counting(), name="linear", classes="abcdef", mean=HALF, std=HALF, image_size=8)


def make_answers(config, tmp_path, rows=None, teacher=None) -> Answers:
    stores = []
    if rows is not None:
        header = StoreHeader(
            classes=tuple("abcdef"),
            positions=200,
            rows=rows,
            identity={},
            made_with={},
            examination={},
        )
        stores = [LabelStore.create(tmp_path, header)]
    return Answers(config=config, teacher=teacher, stores=stores, mean=HALF, std=HALF, group=16)


def make_batch(first: int, count: int) -> TrainBatch:
    images = torch.randn(200, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    places = torch.arange(first, first + count)
    return TrainBatch(
        images=images[places],
        targets=torch.full((count, CLASSES), 1 / CLASSES),
        positions=places,
        samples=places,
        epoch=3,
    )


HARD = DistillationConfig.of_paper("hard", teacher="t")
SOFT = DistillationConfig.of_paper("soft", teacher="t")


def test_the_teacher_is_asked_in_groups_whatever_the_batch(tmp_path):
    """So no label depends on how many views stand beside it: bits of logits are equal."""
    together = make_answers(HARD, tmp_path, teacher=make_teacher())
    logits = together.on(make_batch(0, 96))
    assert together.teacher.model.sizes == [16] * 6
    apart = make_answers(HARD, tmp_path, teacher=make_teacher())
    parts = [apart.on(make_batch(first, 32)) for first in (0, 32, 64)]
    assert torch.equal(torch.cat(parts), logits)


def test_stored_decisions_are_those_of_the_online_teacher(tmp_path):
    """Filled on the way, read in other batches and another order."""
    online = make_answers(HARD, tmp_path, teacher=make_teacher()).on(make_batch(0, 96)).argmax(-1)
    rows = RowFormat(num_classes=CLASSES)
    filling = make_answers(HARD, tmp_path, rows, make_teacher())
    assert torch.equal(filling.on(make_batch(0, 96)), online)
    reading = make_answers(HARD, tmp_path, rows)
    assert torch.equal(reading.on(make_batch(32, 48)), online[32:80])


def test_only_groups_with_missing_labels_are_asked_about(tmp_path):
    """What is stored costs nothing; the first answer stays."""
    answers = make_answers(HARD, tmp_path, RowFormat(num_classes=CLASSES), make_teacher())
    answers.on(make_batch(0, 32))
    assert answers.record(make_batch(16, 48)) == 32
    assert answers.record(make_batch(0, 64)) == 0
    assert answers.teacher.model.sizes == [16] * 4


@pytest.mark.parametrize("top_k", [CLASSES, 3])
def test_soft_labels_from_a_store_give_the_loss_of_the_probabilities_kept(tmp_path, top_k):
    """Referee: Eq. 2 in float64 from the teacher's probabilities, cut and spread by hand."""
    rows = RowFormat(num_classes=CLASSES, top_k=top_k, temperature=3.0)
    batch, teacher = make_batch(0, 32), make_teacher()
    logits = teacher.logits(batch.images, HALF, HALF).double()
    probabilities = (logits / 3).softmax(-1)
    kept = probabilities.topk(top_k)
    rest = (1 - kept.values.sum(-1, keepdim=True)) / max(CLASSES - top_k, 1)
    expected = rest.expand(-1, CLASSES).clone().scatter(1, kept.indices, kept.values)
    answer = make_answers(SOFT, tmp_path, rows, teacher).on(batch)
    student = torch.randn(32, CLASSES, generator=torch.Generator().manual_seed(2))
    heads = TwoHeads(student, student)
    divergence = (expected * (expected.log() - (student.double() / 3).log_softmax(-1))).sum(-1)
    terms = compute_loss(heads, batch.targets, answer, SOFT)
    assert torch.allclose(terms.teacher.double(), 9 * divergence, atol=1e-3)
    again = make_answers(SOFT, tmp_path, rows).on(batch)
    assert torch.equal(again, answer), "the run that fills and the run that reads learn the same"


def test_the_votes_of_several_stores_count(tmp_path):
    """Majority of decisions, ties for the earliest-listed; or the mean of the probabilities."""
    logits = np.full((3, 2, CLASSES), -9.0, dtype=np.float32)
    for teacher, decided in enumerate([(0, 1), (1, 2), (1, 3)]):
        for view, label in enumerate(decided):
            logits[teacher, view, label] = 9.0 if teacher == 0 else -8.0  # sure, or hardly
    rows = RowFormat(num_classes=CLASSES, top_k=CLASSES)
    stores = []
    for number, said in enumerate(logits):
        (store,) = make_answers(HARD, tmp_path / str(number), rows).stores
        store.write(3, np.arange(2), rows.encode(said))
        stores.append(store)
    votes = {"majority": [1, 1], "mean": [0, 1]}
    for vote, expected in votes.items():
        names = "labels:a,labels:b,labels:c"
        config = DistillationConfig.of_paper("hard", teacher=names, vote=vote)
        answers = make_answers(config, tmp_path)
        answers.stores = stores
        assert answers.on(make_batch(0, 2)).tolist() == expected


def test_a_view_without_a_label_stops_with_what_to_do(tmp_path):
    """Where nobody can be asked."""
    answers = make_answers(HARD, tmp_path, RowFormat(num_classes=CLASSES))
    with pytest.raises(UserError, match=r"no label for 8 views[\s\S]*deit label"):
        answers.on(make_batch(0, 8))


def test_rows_that_a_kind_cannot_learn_from_are_refused(tmp_path):
    """Soft labels from decisions, at another temperature, and the mean of decisions."""
    with pytest.raises(UserError, match="decisions only, and soft labels are probabilities"):
        require_rows(SOFT, RowFormat(num_classes=6), "there")
    with pytest.raises(UserError, match=r"temperature 1, and distillation.temperature = 3"):
        require_rows(SOFT, RowFormat(num_classes=6, top_k=2), "there")
    mean = DistillationConfig.of_paper("hard", teacher="labels:a,labels:b")
    stores = make_answers(HARD, tmp_path, RowFormat(num_classes=6)).stores
    with pytest.raises(UserError, match="the mean of several teachers needs probabilities"):
        check_rows(mean, [*stores, *stores])
