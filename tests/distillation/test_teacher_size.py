"""A teacher asked at another resolution than its own."""

import pytest
import torch

from deit.distillation.teacher import Teacher, resize
from deit.distillation.teacher_size import at_size
from deit.errors import UserError
from deit.tensors import TwoHeads

HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


def teacher(model):
    """Of two classes, at 16 pixels."""
    return Teacher(model, name="runs/t", classes=("a", "b"), image_size=16, **HALF)


class Sizes(torch.nn.Module):
    """Pools whatever it gets; takes only images of ``only`` pixels where that is given."""

    def __init__(self, only=0):
        super().__init__()
        self.only = only

    def forward(self, images):
        if self.only and images.shape[-1] != self.only:
            raise ValueError(f"images of {images.shape[-1]} px")
        return TwoHeads(images.mean((2, 3))[:, :2] * images.shape[-1])


def test_it_sees_the_students_images_at_that_size():
    """The same as a teacher of that size; the mean of its pixels times 24."""
    images = torch.randn(2, 3, 16, 16)
    found = at_size(teacher(Sizes()), 24).logits(images, **as_student())
    expected = resize(images, 24).mean((2, 3))[:, :2] * 24
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [0, 16])
def test_its_own_size_leaves_it_as_it_is(size):
    """Nothing is asked."""
    given = teacher(Sizes(only=16))
    assert at_size(given, size) is given


def test_fixed_size_is_refused_with_the_reason():
    """What the network said, its own size, and how to get a teacher of this one."""
    with pytest.raises(UserError) as caught:
        at_size(teacher(Sizes(only=16)), 24)
    said = str(caught.value)
    assert "takes only 16 px: images of 24 px" in said
    assert "deit finetune runs/t DATA --img-size 24" in said


def as_student():
    """The student's normalisation, which is the teacher's."""
    return {"student_mean": HALF["mean"], "student_std": HALF["std"]}
