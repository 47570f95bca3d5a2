"""The loss: laws that every kind and form obeys, and combinations that are refused."""

import dataclasses
import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deit.distillation.config import DistillationConfig
from deit.distillation.loss import (
    compute_loss,
    cross_entropy,
    distillation_loss,
    soft_distillation,
)
from deit.errors import UserError
from deit.tensors import TwoHeads

FORMS = {
    "none": DistillationConfig(),
    "soft, token": DistillationConfig.of_paper("soft"),
    "soft, class token": DistillationConfig.of_paper("soft", token=False),
    "soft, reference's reduction": DistillationConfig.of_paper("soft", kl_reduction="numel"),
    "soft, other weight": DistillationConfig.of_paper("soft", weight=0.7, temperature=1.5),
    "hard, token": DistillationConfig.of_paper("hard"),
    "hard, class token": DistillationConfig.of_paper("hard", token=False),
    "label": DistillationConfig.of_paper("label"),
}


class Case(NamedTuple):
    heads: TwoHeads
    targets: Tensor
    teacher: Tensor | None


def draw_case(form: DistillationConfig, seed: int, dtype=torch.float64, size: float = 3.0) -> Case:
    generator = torch.Generator().manual_seed(seed)
    batch, classes = 2 + seed % 5, 2 + seed % 7

    def logits():
        return (size * torch.randn(batch, classes, generator=generator)).to(dtype)

    cls, dist, teacher = logits(), logits(), logits()
    targets = logits().double().softmax(-1).to(dtype)
    if seed % 2:
        targets = targets.argmax(-1)
    heads = TwoHeads(cls, dist if form.needs_two_heads else None)
    return Case(heads, targets, teacher if form.needs_teacher else None)


def every_form(test):
    """Each law on each form of the loss, over many draws."""
    drawn = given(seed=st.integers(0, 2**31 - 1))(test)
    return pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())(
        settings(max_examples=25, deadline=None)(drawn)
    )


def run(case: Case, form: DistillationConfig):
    return compute_loss(case.heads, case.targets, case.teacher, form)


@every_form
def test_loss_is_finite_and_not_negative(form, seed):
    """Cross-entropies and divergences are; float64 rounds to no less than -1e-12."""
    terms = run(draw_case(form, seed), form)
    for values in (terms.label, terms.teacher, terms.total):
        assert values is None or (values.isfinite().all() and (values >= -1e-12).all())


@every_form
def test_total_is_the_weighted_sum_of_its_terms(form, seed):
    """(1 - weight) label + weight teacher."""
    terms = run(draw_case(form, seed), form)
    if form.kind == "none":
        assert terms.teacher is None
        assert torch.equal(terms.total, terms.label)
    else:
        torch.testing.assert_close(
            terms.total, (1 - form.weight) * terms.label + form.weight * terms.teacher
        )


@every_form
def test_adding_a_constant_to_all_logits_changes_nothing(form, seed):
    """A softmax sees differences only; 1e-9 is the rounding of float64 at logits near 100."""
    case = draw_case(form, seed)
    heads = TwoHeads(*(None if head is None else head + 100.0 for head in case.heads))
    teacher = None if case.teacher is None else case.teacher - 55.0
    shifted = run(Case(heads, case.targets, teacher), form)
    torch.testing.assert_close(shifted.total, run(case, form).total, atol=1e-9, rtol=1e-9)


@every_form
def test_each_sample_has_its_own_loss(form, seed):
    """Permuting the batch permutes the loss, bit for bit: no sample looks at another."""
    case = draw_case(form, seed)
    order = torch.randperm(len(case.targets), generator=torch.Generator().manual_seed(seed))
    heads = TwoHeads(*(None if head is None else head[order] for head in case.heads))
    teacher = None if case.teacher is None else case.teacher[order]
    permuted = run(Case(heads, case.targets[order], teacher), form)
    assert torch.equal(permuted.total, run(case, form).total[order])


@every_form
def test_permuting_the_classes_changes_nothing(form, seed):
    """No class is special; 1e-12 is the rounding of a sum in another order."""
    case = draw_case(form, seed)
    order = torch.randperm(case.heads.cls.shape[1], generator=torch.Generator().manual_seed(seed))
    heads = TwoHeads(*(None if head is None else head[:, order] for head in case.heads))
    rows = case.targets.ndim == 2
    targets = case.targets[:, order] if rows else order.argsort()[case.targets]
    teacher = None if case.teacher is None else case.teacher[:, order]
    permuted = run(Case(heads, targets, teacher), form)
    torch.testing.assert_close(permuted.total, run(case, form).total, atol=1e-12, rtol=1e-12)


@every_form
def test_gradients_in_float32_are_those_of_float64(form, seed):
    """The 1e-5 allowed is float32's rounding of gradients of size 1."""
    exact = gradients(draw_case(form, seed), form)
    rounded = gradients(draw_case(form, seed, torch.float32), form)
    for wide, narrow in zip(exact, rounded, strict=True):
        torch.testing.assert_close(narrow.double(), wide, atol=1e-5, rtol=1e-4)


@every_form
def test_gradients_are_those_of_finite_differences(form, seed):
    """torch.autograd.gradcheck in float64."""
    case = draw_case(form, seed, size=1.0)
    leaves = tuple(head.clone().requires_grad_() for head in case.heads if head is not None)

    def total(*heads):
        return run(Case(TwoHeads(*heads), case.targets, case.teacher), form).total

    assert torch.autograd.gradcheck(total, leaves)


@every_form
def test_every_head_of_the_model_is_trained(form, seed):
    """What the refusals promise: no head is left without a gradient."""
    assert all(gradient.abs().max() > 0 for gradient in gradients(draw_case(form, seed), form))


@every_form
def test_no_gradient_reaches_the_teacher(form, seed):
    """The teacher's answer is a constant even when it was computed with a graph."""
    case = draw_case(form, seed)
    if case.teacher is None:
        return
    teacher = case.teacher.clone().requires_grad_()
    heads = TwoHeads(*(None if head is None else head.requires_grad_() for head in case.heads))
    run(Case(heads, case.targets, teacher), form).total.sum().backward()
    assert teacher.grad is None


def gradients(case: Case, form: DistillationConfig) -> list[Tensor]:
    leaves = [head.clone().requires_grad_() for head in case.heads if head is not None]
    run(Case(TwoHeads(*leaves), case.targets, case.teacher), form).total.sum().backward()
    return [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_loss_is_float32_whatever_the_autocast(form):
    """Half-precision logits give the loss of the same numbers in float32, bit for bit."""
    case = draw_case(form, 6, torch.bfloat16)
    heads = TwoHeads(*(None if head is None else head.float() for head in case.heads))
    teacher = None if case.teacher is None else case.teacher.float()
    expected = run(Case(heads, case.targets.float(), teacher), form).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = run(case, form).total
    assert actual.dtype == torch.float32
    assert torch.equal(actual, expected)


@given(seed=st.integers(0, 2**31 - 1), temperature=st.floats(0.2, 20.0))
@settings(max_examples=50, deadline=None)
def test_soft_term_is_zero_exactly_where_student_and_teacher_agree(seed, temperature):
    """KL is 0 for equal distributions, above 0 for others."""
    case = draw_case(FORMS["soft, token"], seed)
    agreed = soft_distillation(case.teacher + 7.0, case.teacher, temperature)
    assert agreed.abs().max() < 1e-10
    assert (soft_distillation(case.heads.cls, case.teacher, temperature) > 0).all()


@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=25, deadline=None)
def test_soft_term_is_half_the_squared_distance_of_logits_at_high_temperature(seed):
    """Hinton et al. 2015, Eq. 4: with tau^2 the limit is |v - z|^2 / (2 K) for centred logits.

    The divergence itself is smaller by tau^2, and its rounding error, 2^-52, larger by as much.
    """
    tau = 1e4
    case = draw_case(FORMS["soft, token"], seed)
    student = case.heads.cls - case.heads.cls.mean(-1, keepdim=True)
    teacher = case.teacher - case.teacher.mean(-1, keepdim=True)
    limit = (student - teacher).square().sum(-1) / (2 * student.shape[-1])
    term = soft_distillation(student, teacher, tau)
    torch.testing.assert_close(term, limit, rtol=5e-3, atol=2**-52 * tau**2)


def test_divergence_is_taken_from_the_teacher_to_the_student():
    """KL(teacher || student) of (1/2, 1/2) to (1/4, 3/4) is ln(2 / sqrt 3)."""
    teacher = torch.tensor([[0.5, 0.5]]).log()
    student = torch.tensor([[0.25, 0.75]]).log()
    value = soft_distillation(student, teacher, 1.0).item()
    assert value == pytest.approx(math.log(2 / math.sqrt(3)), rel=1e-6)


def test_reference_reduction_divides_by_the_number_of_classes():
    """Trap: with 1000 classes the reference's soft term is 1000 times weaker than Eq. 2."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(4, 1000, generator=generator) for _ in range(2))
    ratio = soft_distillation(student, teacher, 3.0) / soft_distillation(
        student, teacher, 3.0, "numel"
    )
    torch.testing.assert_close(ratio, torch.full((4,), 1000.0))


def test_teachers_decision_is_the_lowest_class_among_equals():
    """A tie has one answer on every machine."""
    heads = TwoHeads(torch.zeros(1, 3), torch.tensor([[0.0, 5.0, 9.0]]))
    tied = distillation_loss(heads, torch.tensor([0]), torch.tensor([[0.0, 2.0, 2.0]]), kind="hard")
    decided = distillation_loss(heads, torch.tensor([0]), torch.tensor([1]), kind="hard")
    assert torch.equal(tied.total, decided.total)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
def test_hard_kind_takes_stored_decisions(dtype):
    """Two bytes per view are enough: decisions and logits give the same loss."""
    form = FORMS["hard, token"]
    case = draw_case(form, 12)
    stored = Case(case.heads, case.targets, case.teacher.argmax(-1).to(dtype))
    assert torch.equal(run(stored, form).total, run(case, form).total)


def test_class_indices_are_one_hot_rows():
    """Hard targets are a short way to write rows."""
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 3, 2, 2, 1])
    rows = torch.nn.functional.one_hot(labels, 4).float()
    torch.testing.assert_close(cross_entropy(logits, labels), cross_entropy(logits, rows))


NO_PART_OF_THE_FORMULA = (
    "teacher",
    "teacher_size",
    "labels",
    "top_k",
    "vote",
    "min_teacher_accuracy",
)


def test_keywords_and_settings_are_one_loss():
    """The face and the training program cannot drift apart."""
    for form in FORMS.values():
        case = draw_case(form, 4)
        keywords = {
            field.name: getattr(form, field.name)
            for field in dataclasses.fields(form)
            if field.name not in NO_PART_OF_THE_FORMULA
        }
        by_keywords = distillation_loss(case.heads, case.targets, case.teacher, **keywords)
        assert torch.equal(by_keywords.total, run(case, form).total)


def test_left_out_weight_is_the_papers():
    """0.1 for soft, 0.5 for hard."""
    form = DistillationConfig.of_paper("soft")
    case = draw_case(form, 3)
    face = distillation_loss(case.heads, case.targets, case.teacher, kind="soft")
    assert torch.equal(face.total, 0.9 * face.label + 0.1 * face.teacher)


ONE, TWO = TwoHeads(torch.zeros(2, 4)), TwoHeads(torch.zeros(2, 4), torch.zeros(2, 4))
LOGITS, DECISIONS = torch.zeros(2, 4), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("heads", "teacher", "arguments", "message"),
    [
        (ONE, LOGITS, {"kind": "hard"}, "one head"),
        (ONE, LOGITS, {"kind": "soft"}, "one head"),
        (ONE, None, {"kind": "label"}, "one head"),
        (TWO, LOGITS, {"kind": "hard", "token": False}, "nothing would train the second"),
        (TWO, LOGITS, {"kind": "soft", "token": False}, "nothing would train the second"),
        (TWO, None, {"kind": "none"}, "nothing would train the second"),
        (TWO, None, {"kind": "soft"}, "without a teacher's answer"),
        (TWO, None, {"kind": "hard"}, "without a teacher's answer"),
        (TWO, DECISIONS, {"kind": "soft"}, "decisions only"),
        (ONE, LOGITS, {"kind": "none"}, "cannot act"),
        (TWO, LOGITS, {"kind": "label"}, "cannot act"),
        (TWO, torch.zeros(2, 5), {"kind": "soft"}, "5 classes"),
        (TWO, torch.zeros(2, 5), {"kind": "hard"}, "5 classes"),
        (TWO, LOGITS, {"kind": "hard", "temperature": 1.0}, "temperature"),
    ],
)
def test_combinations_that_cannot_act_are_refused(heads, teacher, arguments, message):
    """An option without effect is an error, and so is a head that nothing trains."""
    with pytest.raises(UserError, match=message):
        distillation_loss(heads, torch.tensor([0, 1]), teacher, **arguments)
