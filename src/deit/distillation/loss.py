"""The training loss: label and teacher, per sample, unreduced.

Two forms of two equations of the paper (arXiv 2012.12877, section 4). With the distillation token
the teacher trains the second head; in the class-token form it trains the class head beside the
label. The caller takes the mean over the samples.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from deit.distillation.config import DistillationConfig, Kind, KlReduction
from deit.errors import UserError
from deit.tensors import LossTerms, TwoHeads

Targets = Float[Tensor, "batch classes"] | Integer[Tensor, "batch"]
"""Rows that sum to 1 (smoothed, mixed), or class indices."""

TeacherAnswer = Float[Tensor, "batch teacher_classes"] | Integer[Tensor, "batch"]
"""The teacher's logits, or only its decisions."""


def distillation_loss(
    heads: TwoHeads,
    targets: Targets,
    teacher_logits: TeacherAnswer | None = None,
    *,
    kind: Kind,
    token: bool = True,
    weight: float | None = None,
    temperature: float = 3.0,
    kl_reduction: KlReduction = "batchmean",
) -> LossTerms:
    """The loss of each sample: `compute_loss` with its settings as keywords.

    Args:
        heads: the student's logits, ``[batch, classes]`` each.
        targets: true labels, rows or indices.
        teacher_logits: what the teacher says of the same pixels: logits ``[batch, classes]``, or
            for the hard kind its decisions ``[batch]``.
        kind: none, soft, hard or label; see `compute_loss`.
        token: whether the teacher trains the second head or the class head.
        weight: share of the second term; None takes the paper's, 0.1 for soft and 0.5 for others.
        temperature, kl_reduction: of the soft kind.

    >>> heads = TwoHeads(torch.zeros(2, 4), torch.zeros(2, 4))
    >>> teacher_logits = torch.tensor([[9.0, 0.0, 0.0, 0.0], [0.0, 9.0, 0.0, 0.0]])
    >>> loss = distillation_loss(heads, torch.tensor([0, 1]), teacher_logits, kind="hard")
    >>> [round(value, 4) for value in loss.total.tolist()]  # ln 4: the student knows nothing yet
    [1.3863, 1.3863]

    Raises:
        UserError: for a combination that cannot act.
    """
    given = {} if weight is None else {"weight": weight}
    config = DistillationConfig.of_paper(
        kind, token=token, temperature=temperature, kl_reduction=kl_reduction, **given
    )
    return compute_loss(heads, targets, teacher_logits, config)


def compute_loss(
    heads: TwoHeads,
    targets: Targets,
    teacher: TeacherAnswer | None,
    config: DistillationConfig,
) -> LossTerms:
    """The loss of each sample.

    With w = ``weight``, tau = ``temperature``, y = ``targets``, psi the softmax, Z_cls and Z_dist
    the two heads, Z_t the teacher's logits and Z_s = Z_dist with ``token``, otherwise Z_cls::

        none   CE(psi(Z_cls), y)
        soft   (1 - w) CE(psi(Z_cls), y) + w tau^2 KL(psi(Z_t / tau) || psi(Z_s / tau))    (Eq. 2)
        hard   (1 - w) CE(psi(Z_cls), y) + w CE(psi(Z_s), argmax Z_t)                      (Eq. 3)
        label  (1 - w) CE(psi(Z_cls), y) + w CE(psi(Z_dist), y)

    The teacher's decision is not smoothed; the label is as the targets say. The term ``teacher``
    of the result holds tau^2 KL, or the second cross-entropy. The paper prints KL(student,
    teacher) and its code computes KL(teacher || student), as here. The reference code divides the
    KL divergence by the number of classes too (``kl_reduction="numel"``), and cannot run the
    class-token form. See docs/paper_map.md.

    Computed in float32 whatever the autocast (float64 stays float64).

    Args:
        heads: the student's logits, ``[batch, classes]`` each.
        targets: true labels, rows ``[batch, classes]`` or indices ``[batch]``.
        teacher: logits ``[batch, classes]``, or for the hard kind decisions ``[batch]``; None for
            the kinds that ask no teacher. No gradient flows to it.
        config: kind and settings.

    Raises:
        UserError: for a combination that cannot act, such as a token form with one head.
    """
    _require_heads(heads, config)
    _require_answer(heads, teacher, config)
    label = cross_entropy(heads.cls, targets)
    if config.kind == "none":
        return LossTerms(label, None, label)
    second = _second_term(heads, targets, teacher, config)
    return LossTerms(label, second, (1 - config.weight) * label + config.weight * second)


def cross_entropy(
    logits: Float[Tensor, "batch classes"], targets: Targets
) -> Float[Tensor, "batch"]:
    """CE(psi(Z), y) = -sum_k y_k log psi(Z)_k for each sample.

    >>> cross_entropy(torch.zeros(1, 2), torch.tensor([1])).item()  # ln 2
    0.6931471824645996
    """
    log_probabilities = _full_precision(logits).log_softmax(-1)  # [batch, classes]
    if targets.ndim == 1:
        return -log_probabilities.gather(-1, targets.long()[:, None]).squeeze(-1)
    return -(targets.to(log_probabilities.dtype) * log_probabilities).sum(-1)


def soft_distillation(
    student: Float[Tensor, "batch classes"],
    teacher: Float[Tensor, "batch classes"],
    temperature: float,
    kl_reduction: KlReduction = "batchmean",
) -> Float[Tensor, "batch"]:
    """tau^2 KL(psi(Z_t / tau) || psi(Z_s / tau)) for each sample: the second term of Eq. 2.

    tau^2 keeps the size of the gradient when the temperature changes (Hinton et al. 2015, 2.1).

    Args:
        student: Z_s, ``[batch, classes]``.
        teacher: Z_t, the same shape; taken as constant.
        temperature: tau.
        kl_reduction: "numel" divides by the number of classes, as the reference code does.

    >>> student = torch.tensor([[0.25, 0.75]]).log()
    >>> teacher = torch.tensor([[0.50, 0.50]]).log()
    >>> round(soft_distillation(student, teacher, temperature=1.0).item(), 4)  # ln(2 / sqrt 3)
    0.1438
    """
    log_student = (_full_precision(student) / temperature).log_softmax(-1)  # [batch, classes]
    log_teacher = (_full_precision(teacher.detach()) / temperature).log_softmax(-1)
    divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1)
    if kl_reduction == "numel":
        divergence = divergence / student.shape[-1]
    return temperature**2 * divergence


def _second_term(
    heads: TwoHeads, targets: Targets, teacher: TeacherAnswer | None, config: DistillationConfig
) -> Float[Tensor, "batch"]:
    student = heads.dist if config.token else heads.cls
    assert student is not None
    if config.kind == "label":
        return cross_entropy(student, targets)
    assert teacher is not None
    if config.kind == "soft":
        return soft_distillation(student, teacher, config.temperature, config.kl_reduction)
    decisions = teacher.argmax(-1) if teacher.ndim == 2 else teacher  # ties: the lowest index
    return cross_entropy(student, decisions)


def _full_precision(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
    """Half precision becomes float32; float32 and float64 stay."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _require_heads(heads: TwoHeads, config: DistillationConfig) -> None:
    if config.needs_two_heads and heads.dist is None:
        raise UserError(
            f"distillation.kind = {config.kind!r} with distillation.token = true, and a model with"
            " one head",
            "a model with two tokens, or the class-token form",
            "use a distilled variant (second_token: distillation)"
            + ("" if config.kind == "label" else ", or set distillation.token=false"),
        )
    if heads.dist is not None and not config.needs_two_heads:
        form = "" if config.kind == "none" else " and distillation.token = false"
        raise UserError(
            f"distillation.kind = {config.kind!r}{form}, and a model with two heads: nothing would"
            " train the second",
            "a model with one token, or a loss for both heads",
            "use a variant without a second token, or a token form of kind soft, hard or label",
        )


def _require_answer(
    heads: TwoHeads, teacher: TeacherAnswer | None, config: DistillationConfig
) -> None:
    kind = f"distillation.kind = {config.kind!r}"
    if teacher is None:
        if config.needs_teacher:
            raise UserError(f"{kind} without a teacher's answer", "", "give teacher_logits")
        return
    if not config.needs_teacher:
        raise UserError(
            f"{kind} with a teacher's answer, which cannot act", "soft or hard", "leave it out"
        )
    if teacher.ndim == 1 and config.kind == "soft":
        raise UserError(
            f"{kind} with the teacher's decisions only",
            "its logits, [batch, classes]",
            "give logits, or use kind='hard'",
        )
    if teacher.ndim == 2 and teacher.shape[-1] != heads.cls.shape[-1]:
        raise UserError(
            f"a teacher of {teacher.shape[-1]} classes for a student of {heads.cls.shape[-1]}",
            "the same classes in the same order",
            "fit the teacher to this data set: `deit teacher DATA`",
        )
