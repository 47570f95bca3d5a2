"""The loss against others' code: timm's tasks and losses, the reference's formula."""

import pytest
import torch
import torch.nn.functional as F
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.task import LogitDistillationTask, TokenDistillationTask
from torch import nn

from deit.distillation.loss import cross_entropy, distillation_loss
from deit.tensors import TwoHeads

BATCH, CLASSES = 6, 11
PIXELS = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


class Constant(nn.Module):
    """A network that says the same to every image; timm's tasks want a network."""

    pretrained_cfg = PIXELS
    num_classes, in_chans = CLASSES, 3

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.ParameterList(logits)

    def set_distilled_training(self, enable):
        assert enable

    def forward(self, images):
        return tuple(self.logits) if len(self.logits) > 1 else self.logits[0]


@pytest.fixture
def numbers():
    """Class head, distillation head, teacher and smoothed mixed rows, float64."""
    generator = torch.Generator().manual_seed(3)
    cls, dist, teacher = (
        3 * torch.randn(BATCH, CLASSES, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    targets = torch.rand(BATCH, CLASSES, generator=generator, dtype=torch.float64)
    return cls, dist, teacher, targets / targets.sum(-1, keepdim=True)


@pytest.mark.parametrize("kind", ["soft", "hard"])
@pytest.mark.parametrize("weight", [0.1, 0.5])
def test_token_form_equals_timms_token_distillation(numbers, kind, weight):
    """Value and gradient of timm's task, whose temperature is free in both kinds."""
    cls, dist, teacher, targets = numbers
    student = Constant(cls.clone(), dist.clone())
    task = TokenDistillationTask(
        student,
        Constant(teacher),
        criterion=SoftTargetCrossEntropy(),
        distill_type=kind,
        task_loss_weight=1 - weight,
        temperature=3.0,
        verbose=False,
    )
    expected = task(torch.zeros(BATCH, 3, 1, 1), targets)
    expected["loss"].backward()
    heads = TwoHeads(cls.requires_grad_(), dist.requires_grad_())
    terms = distillation_loss(heads, targets, teacher, kind=kind, weight=weight)
    terms.total.mean().backward()
    torch.testing.assert_close(terms.total.mean(), expected["loss"])
    torch.testing.assert_close(terms.teacher.mean(), expected["distill_loss"])
    for ours, theirs in zip(heads, student.logits, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_class_token_form_equals_timms_logit_distillation(numbers, temperature):
    """Row 2 of Table 3, the classical distillation, which the reference code cannot run."""
    cls, _, teacher, targets = numbers
    task = LogitDistillationTask(
        Constant(cls),
        Constant(teacher),
        criterion=SoftTargetCrossEntropy(),
        task_loss_weight=0.9,
        temperature=temperature,
        verbose=False,
    )
    expected = task(torch.zeros(BATCH, 3, 1, 1), targets)["loss"]
    terms = distillation_loss(
        TwoHeads(cls), targets, teacher, kind="soft", token=False, temperature=temperature
    )
    torch.testing.assert_close(terms.total.mean(), expected)


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_each_form_equals_its_equation_written_out(numbers, kind, token):
    """Eq. 2 and Eq. 3 sample by sample, from exponentials, with no softmax of torch."""
    cls, dist, teacher, targets = numbers
    student = dist if token else cls
    for row in range(BATCH):
        label = -(targets[row] * softmax(cls[row]).log()).sum()
        if kind == "soft":
            ours, theirs = softmax(student[row] / 3.0), softmax(teacher[row] / 3.0)
            expected = 0.9 * label + 0.1 * 9.0 * (theirs * (theirs / ours).log()).sum()
        else:
            decision = max(range(CLASSES), key=lambda k: teacher[row, k].item())
            expected = 0.5 * label - 0.5 * softmax(student[row])[decision].log()
        heads = TwoHeads(cls, dist if token else None)
        terms = distillation_loss(heads, targets, teacher, kind=kind, token=token)
        torch.testing.assert_close(terms.total[row], expected)


def softmax(logits):
    powers = torch.exp(logits)
    return powers / powers.sum()


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_reference_reduction_equals_the_reference_formula(numbers, temperature):
    """The reference sums the divergence and divides by the number of elements of the logits."""
    cls, dist, teacher, targets = numbers
    summed = F.kl_div(
        F.log_softmax(dist / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="sum",
        log_target=True,
    )
    alpha = 0.5
    expected = (
        SoftTargetCrossEntropy()(cls, targets) * (1 - alpha)
        + alpha * summed * temperature**2 / dist.numel()
    )
    terms = distillation_loss(
        TwoHeads(cls, dist),
        targets,
        teacher,
        kind="soft",
        weight=alpha,
        temperature=temperature,
        kl_reduction="numel",
    )
    torch.testing.assert_close(terms.total.mean(), expected)


def test_two_class_tokens_share_the_label(numbers):
    """The control of section 4: the mean of the two heads' cross-entropies."""
    cls, dist, _, targets = numbers
    criterion = SoftTargetCrossEntropy()
    expected = (criterion(cls, targets) + criterion(dist, targets)) / 2
    terms = distillation_loss(TwoHeads(cls, dist), targets, kind="label")
    torch.testing.assert_close(terms.total.mean(), expected)


def test_label_term_equals_timms_and_torchs_cross_entropies(numbers):
    """Rows, smoothed labels and hard labels, each against another implementation."""
    cls, _, _, targets = numbers
    labels = targets.argmax(-1)
    torch.testing.assert_close(
        cross_entropy(cls, targets).mean(), SoftTargetCrossEntropy()(cls, targets)
    )
    torch.testing.assert_close(
        cross_entropy(cls, labels), F.cross_entropy(cls, labels, reduction="none")
    )
    rows = torch.full_like(cls, 0.1 / CLASSES)
    rows[torch.arange(BATCH), labels] += 0.9
    torch.testing.assert_close(
        cross_entropy(cls, rows).mean(), LabelSmoothingCrossEntropy(0.1)(cls, labels)
    )
