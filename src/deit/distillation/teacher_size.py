"""A teacher at another resolution than the one that it tells of itself (paper, section 4)."""

import torch

from deit.distillation.teacher import Teacher
from deit.errors import UserError


def at_size(teacher: Teacher, image_size: int) -> Teacher:
    """The same teacher, asked about images of another size; 0 leaves it its own.

    A network that pools at the end takes any size; it answers better there once it was adapted
    (Touvron et al., arXiv 1906.06423; `deit finetune TEACHER DATA --recipe finetune/fixres`).

    Raises:
        UserError: when the teacher cannot be asked about images of that size, which it is tried on.
    """
    if image_size in (0, teacher.image_size):
        return teacher
    other = teacher.with_image_size(image_size)
    channels = len(teacher.mean)
    device = next((parameter.device for parameter in teacher.parameters()), torch.device("cpu"))
    images = torch.zeros(2, channels, image_size, image_size, device=device)
    try:
        other.logits(images, teacher.mean, teacher.std)
    except Exception as error:  # what a network raises at a size that is not its own: anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"distillation.teacher_size = {image_size}, and teacher {teacher.name} takes only "
            f"{teacher.image_size} px: {reason[0]}",
            f"0 or {teacher.image_size} for this teacher; any size for most convnets",
            "leave distillation.teacher_size out, or fine-tune the teacher at this size first: "
            f"`deit finetune {teacher.name} DATA --img-size {image_size}`",
        ) from error
    return other
