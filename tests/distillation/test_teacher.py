"""The teacher: frozen whatever happens around it, and seeing the student's own pixels."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from timm.task.distillation import DistillationTeacher
from torch import nn

from deit.distillation.teacher import Teacher, convert_pixels, resize
from deit.errors import UserError
from deit.tensors import TwoHeads

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CENTRED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class SmallConvNet(nn.Module):
    """Convolution, batch normalisation and dropout: all that a wrong mode would disturb."""

    def __init__(self, channels=3, classes=4):
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        return self.head(self.drop(self.norm(self.conv(images)).relu().mean((2, 3))))


def make_teacher(model=None, pixels=IMAGENET, size=16, classes="abcd", **arguments):
    torch.manual_seed(0)
    mean, std = pixels
    return Teacher(
        model or SmallConvNet(),
        name="small",
        classes=tuple(classes),
        mean=mean,
        std=std,
        image_size=size,
        **arguments,
    )


def make_images(channels=3, size=16, batch=5):
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(1))


def test_teacher_stays_in_evaluation_mode_when_the_student_trains():
    """A student that holds its teacher cannot switch its dropout and batch statistics on."""
    teacher = make_teacher()
    student = nn.ModuleDict({"student": SmallConvNet(), "teacher": teacher})
    student.train()
    assert student["student"].training
    assert not any(module.training for module in teacher.modules())
    teacher.train(True)
    assert not any(module.training for module in teacher.modules())


def test_teacher_in_a_training_model_is_put_back_into_evaluation():
    """Someone who shares the model may have called train() on it: the answer is unchanged."""
    model = SmallConvNet()
    teacher, images = make_teacher(model), make_images()
    before = teacher.logits(images, *IMAGENET)
    model.train()
    assert torch.equal(teacher.logits(images, *IMAGENET), before)


def test_ten_calls_leave_every_parameter_and_statistic_as_it_was():
    """Nothing in the teacher learns, batch statistics included."""
    teacher = make_teacher()
    before = copy.deepcopy(teacher.state_dict())
    for _ in range(10):
        teacher.logits(make_images() * 5 + 3, *IMAGENET)
    after = teacher.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_teacher_takes_no_gradient():
    """Its parameters do not ask for one and its answer has no history."""
    teacher = make_teacher()
    images = make_images().requires_grad_()
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher.logits(images, *IMAGENET).requires_grad


def test_answer_can_enter_a_loss_with_gradients():
    """Tensors of inference mode could not be kept for a backward pass."""
    logits = make_teacher().logits(make_images(), *IMAGENET)
    student = torch.zeros_like(logits, requires_grad=True)
    (student * logits).sum().backward()
    assert torch.equal(student.grad, logits)


def test_equal_normalisation_passes_the_pixels_on_bit_for_bit():
    """An affine map of 1 and 0 would cost time; one that rounds would cost exactness."""
    images = make_images()
    seen = []
    teacher = make_teacher(lambda x: (seen.append(x), torch.zeros(len(x), 4))[1])
    teacher.logits(images, *IMAGENET)
    assert seen[0] is images


def test_other_normalisation_equals_timms_conversion():
    """timm's distillation teacher undoes the student's normalisation and applies its own."""
    images = make_images()
    reference = DistillationTeacher(Pretrained(), None)
    student = [torch.tensor(values).view(1, 3, 1, 1) for values in CENTRED]
    expected = reference.normalize_input(images, *student)
    torch.testing.assert_close(convert_pixels(images, *CENTRED, *IMAGENET), expected)


class Pretrained(nn.Module):
    pretrained_cfg = {"mean": IMAGENET[0], "std": IMAGENET[1]}  # noqa: RUF012  (timm's form)


@pytest.mark.parametrize("new", [IMAGENET, CENTRED, ((0.0,) * 3, (1.0,) * 3)])
def test_converted_pixels_are_the_pixels_normalised_anew(new):
    """Through both normalisations the picture stays the same; 1e-5 is float32's rounding."""
    pixels = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    converted = convert_pixels(normalise(pixels, *CENTRED), *CENTRED, *new)
    torch.testing.assert_close(converted, normalise(pixels, *new), atol=1e-5, rtol=1e-5)


def test_grey_pixels_become_three_equal_channels():
    """A colour teacher of a grey student sees what PIL's convert("RGB") would give it."""
    grey = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    converted = convert_pixels(normalise(grey, (0.4,), (0.3,)), (0.4,), (0.3,), *IMAGENET)
    expected = normalise(grey.expand(-1, 3, -1, -1), *IMAGENET)
    torch.testing.assert_close(converted, expected, atol=1e-5, rtol=1e-5)


def test_colour_pixels_become_pillows_grey():
    """A grey teacher of a colour student: luma within half a grey level of PIL's "L"."""
    array = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    pixels = torch.from_numpy(array).permute(2, 0, 1)[None] / 255
    converted = convert_pixels(normalise(pixels, *IMAGENET), *IMAGENET, (0.0,), (1.0,))
    expected = torch.from_numpy(np.array(Image.fromarray(array).convert("L")))
    assert (converted[0, 0] * 255 - expected).abs().max() <= 0.51


def normalise(pixels, mean, std):
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    return (pixels - mean) / std


@pytest.mark.parametrize("size", [8, 24])
def test_other_resolution_is_reached_as_pillow_resizes(size):
    """Bicubic with antialiasing, both ways; PIL computes floats in mode "F"."""
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    expected = Image.fromarray(image[0, 0].numpy()).resize((size, size), Image.Resampling.BICUBIC)
    actual = resize(image, size)[0, 0].numpy()
    np.testing.assert_allclose(actual, np.asarray(expected), atol=1e-5)


def test_teacher_of_another_resolution_sees_its_own_size():
    """A student of 16 pixels may ask a teacher of 24."""
    sizes = []
    teacher = make_teacher(
        lambda images: (sizes.append(images.shape), torch.zeros(len(images), 4))[1], size=24
    )
    teacher.logits(make_images(size=16), *IMAGENET)
    assert sizes == [(5, 3, 24, 24)]


def test_logits_are_put_into_the_order_of_the_classes():
    """A teacher with other places for its classes answers in the student's order."""
    outputs = torch.tensor([[10.0, 11.0, 12.0, 13.0]])
    teacher = make_teacher(lambda images: outputs, classes="cab", order=(2, 0, 1))
    assert teacher.logits(make_images(batch=1), *IMAGENET).tolist() == [[12.0, 10.0, 11.0]]
    assert teacher.labels(make_images(batch=1), *IMAGENET).tolist() == [0]


def test_label_is_the_lowest_class_among_equals():
    """A tie has one answer on every machine."""
    teacher = make_teacher(lambda images: torch.tensor([[0.0, 7.0, 7.0, 1.0]]))
    assert teacher.labels(make_images(batch=1), *IMAGENET).tolist() == [1]


def test_two_heads_answer_with_their_joint_decision():
    """A distilled model teaches with the sum of its softmaxes, finite where that underflows."""
    cls, dist = torch.tensor([[2.0, 0.0, -300.0]]), torch.tensor([[0.0, 1.0, -300.0]])
    teacher = make_teacher(lambda images: TwoHeads(cls, dist), classes="abc")
    logits = teacher.logits(make_images(batch=1), *IMAGENET)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.softmax(-1), TwoHeads(cls, dist).joint_probabilities())


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision_is_the_teachers_own(dtype, autocast):
    """Inside the student's autocast or not, the model computes in the dtype it was given."""
    seen = []
    model = SmallConvNet()
    model.head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    teacher = make_teacher(model, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = teacher.logits(make_images(), *IMAGENET)
    assert seen == [dtype]
    assert logits.dtype == torch.float32


def test_model_with_other_outputs_than_classes_is_refused():
    """A 1000-way head cannot teach four classes by chance of position."""
    teacher = make_teacher(SmallConvNet(classes=5))
    with pytest.raises(UserError, match="5 logits for 4 classes"):
        teacher.logits(make_images(), *IMAGENET)


def test_normalisation_that_does_not_fit_the_images_is_refused():
    """Three means for grey images would broadcast without a word."""
    with pytest.raises(UserError, match="3 values for images of 1 channels"):
        make_teacher().logits(make_images(channels=1), *IMAGENET)


def test_same_model_under_another_normalisation_shares_its_weights():
    """The gate asks what the teacher would say to other pixels, without a second copy."""
    teacher, images = make_teacher(), make_images()
    other = teacher.with_normalisation(*CENTRED)
    assert other.model is teacher.model
    expected = teacher.logits(convert_pixels(images, *IMAGENET, *CENTRED), *IMAGENET)
    torch.testing.assert_close(other.logits(images, *IMAGENET), expected)
    assert teacher.mean == IMAGENET[0]
