"""Label smoothing, mixup and CutMix, carried out on the device as a `MixPlan` says."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deit.data.mix_plan import MixPlan


def smooth_targets(
    labels: Int[Tensor, "batch"], num_classes: int, smoothing: float
) -> Float[Tensor, "batch {num_classes}"]:
    """Target rows that sum to 1: ``1 - e + e/C`` at the label, ``e/C`` elsewhere.

    Label smoothing as timm and the reference have it (Szegedy et al., 2016): ``smoothing`` is e and
    is spread over all C classes, the true one included.

    >>> smooth_targets(torch.tensor([1]), num_classes=4, smoothing=0.2)
    tensor([[0.0500, 0.8500, 0.0500, 0.0500]])
    """
    off = smoothing / num_classes
    targets = torch.full((len(labels), num_classes), off, device=labels.device)
    return targets.scatter_(1, labels[:, None].long(), 1 - smoothing + off)


def mix_images(
    images: Float[Tensor, "batch channels height width"], plan: MixPlan
) -> Float[Tensor, "batch channels height width"]:
    """Mix a batch in place: ``lam * image + (1 - lam) * partner``, or a box of the partner pasted.

    Works group by group, so that no more than one group is ever copied.

    Args:
        images: normalised and erased images of the whole plan, in its order; overwritten.
        plan: weights, boxes and partners.
    """
    for start in range(0, len(images), plan.group):
        group = images[start : start + plan.group]
        top, left, height, width = plan.boxes[start].tolist()
        lam = float(plan.lam[start])
        if height:
            box = group[:, :, top : top + height, left : left + width]
            box.copy_(box.flip(0))
        elif lam < 1:
            group.lerp_(group.flip(0), 1 - lam)
    return images


def mix_targets(
    targets: Float[Tensor, "batch classes"], plan: MixPlan
) -> Float[Tensor, "batch classes"]:
    """The targets of the mixed images, ``lam * target + (1 - lam) * partner's target``."""
    lam = torch.as_tensor(plan.lam, device=targets.device)[:, None]
    partner = torch.as_tensor(plan.partner, device=targets.device)
    return lam * targets + (1 - lam) * targets[partner]
