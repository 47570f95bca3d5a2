"""The gate: seven ways to wire a teacher wrongly are stopped, healthy teachers pass."""

import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import nn

from deit.artifacts import build_teacher, load_classifier
from deit.data.classes import ClassList
from deit.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from deit.data.sources import ArraySource, open_data
from deit.distillation.config import DistillationConfig
from deit.distillation.teacher import Teacher
from deit.errors import UserError
from deit.measuring.gate import Examination, TeacherError, check_teacher
from deit.measuring.sample import spread_samples

HARD = DistillationConfig.of_paper("hard")
STUDENT = Preprocess(image_size=8, crop_pct=1.0, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
IMAGENET = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
NUM_CLASSES = 6
NAMES = tuple(f"class{number}" for number in range(NUM_CLASSES))
SPREAD = 18  # noise of an image's colour around its class's, in grey levels


def colours():
    """One colour per class, far from grey, bright and dark ones among them."""
    return np.random.default_rng(5).integers(20, 236, (NUM_CLASSES, 3)).astype(np.float32)


def make_source(count=600, seed=0, counts=None):
    """Images of one noisy colour each: nearest colours are wrong for some."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % NUM_CLASSES if counts is None else np.repeat(range(6), counts)
    labels = np.sort(labels).astype(np.int64)
    tones = colours()[labels] + generator.normal(0, SPREAD, (len(labels), 3))
    images = np.clip(tones, 0, 255).astype(np.uint8)[:, None, None, :].repeat(8, 1).repeat(8, 2)
    names = [f"{number}.png" for number in range(len(labels))]
    return ArraySource(images, labels, ClassList(NAMES), names)


class NearestColour(nn.Module):
    """Knows the colours of the classes in normalised pixels, and images of one size only."""

    def __init__(self, mean=IMAGENET_MEAN, std=IMAGENET_STD, order=range(NUM_CLASSES), size=8):
        super().__init__()
        pixels = torch.from_numpy(colours()) / 255
        self.colours = nn.Parameter((pixels - torch.tensor(mean)) / torch.tensor(std))
        self.order, self.size, self.norm = list(order), size, nn.BatchNorm2d(3)

    def forward(self, images):
        seen = self.norm(images).mean((2, 3))  # [batch, 3]
        if images.shape[-1] != self.size:
            seen = -seen
        return -torch.cdist(seen, self.colours)[:, self.order]


def make_teacher(model=None, **arguments):
    arguments = IMAGENET | {"name": "t", "classes": NAMES, "image_size": 8} | arguments
    return Teacher(model or NearestColour(), **arguments)


def test_healthy_teacher_passes_with_its_accuracy():
    """The accuracy is that of the nearest colour, computed here without a teacher."""
    source = make_source()
    examined = check_teacher(make_teacher(), source, HARD, STUDENT, num_images=600)
    tones = source.images[:, 0, 0].astype(np.float64)
    scaled = np.array(IMAGENET_STD) * 255
    distances = np.linalg.norm((tones[:, None] - colours()) / scaled, axis=-1)
    assert examined.correct == (distances.argmin(1) == source.labels).sum()
    assert (examined.count, examined.chance) == (600, 1 / 6)
    assert 0.8 < examined.accuracy < 1
    assert f"{examined.accuracy:.2%} of 600 validation images" in str(examined)


@pytest.mark.parametrize("seed", range(20))
def test_healthy_teachers_are_never_refused(seed):
    """No false alarm in twenty data sets, a third of them with weak teachers."""
    strong, noise = NearestColour().eval(), torch.Generator().manual_seed(seed)

    def weak(images):
        logits = strong(images)
        made_up = torch.rand(len(logits), 1, generator=noise) < 0.5
        return torch.where(made_up, torch.rand(logits.shape, generator=noise), logits)

    teacher = make_teacher(strong if seed % 3 else weak)
    check_teacher(teacher, make_source(seed=seed), HARD, STUDENT)


class BlueFirst(NearestColour):
    """Trained on images with their colours the other way round."""

    def forward(self, images):
        return super().forward(images.flip(1))


def shifted(images):
    """Answers that belong to the neighbouring image of the batch."""
    return NearestColour().eval()(images).roll(1, 0)


def random_head(images):
    return torch.randn(len(images), NUM_CLASSES, generator=torch.Generator().manual_seed(0))


WRONG = {
    "permuted classes": (make_teacher(NearestColour(order=(1, 2, 0, 4, 5, 3))), "renamed"),
    "two classes exchanged": (make_teacher(NearestColour(order=(1, 0, 2, 3, 4, 5))), "renamed"),
    "wrong mean and std": (make_teacher(mean=(0.0,) * 3, std=(1.0,) * 3), "ImageNet's"),
    "blue first": (
        make_teacher(BlueFirst(*[(0.5,) * 3] * 2), mean=(0.5,) * 3, std=(0.5,) * 3),
        "red and blue",
    ),
    "wrong size": (make_teacher(NearestColour(size=16)), "at 16 pixels instead of 8"),
    "random head": (make_teacher(random_head), "near chance"),
    "shifted batch": (make_teacher(shifted), "near chance"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_teachers_are_stopped_with_their_cause(wrong):
    """The message names the accuracy seen, the cause, and what to do."""
    teacher, cause = WRONG[wrong]
    with pytest.raises(UserError, match=cause) as caught:
        check_teacher(teacher, make_source(), HARD, STUDENT)
    assert "validation images (chance" in caught.value.given
    assert caught.value.todo


def test_teacher_left_in_training_mode_answers_as_in_evaluation():
    """Batch statistics of a training mode would make the answer depend on the batch."""
    model = NearestColour()
    teacher = make_teacher(model)
    before = check_teacher(teacher, make_source(), HARD, STUDENT)
    model.train()
    assert check_teacher(teacher, make_source(), HARD, STUDENT) == before


def test_teacher_that_always_says_the_commonest_class_is_near_chance():
    """90 % right is nothing where 90 % of the images are of one class."""

    def constant(images):
        return torch.eye(NUM_CLASSES)[[0] * len(images)]

    source = make_source(counts=(540, 12, 12, 12, 12, 12))
    with pytest.raises(UserError, match=r"90.00% of 600 .*\(chance 90.00%\)"):
        check_teacher(make_teacher(constant), source, HARD, STUDENT)


def test_teacher_below_the_accuracy_asked_for_is_refused():
    """A recipe may ask for more than chance."""
    demanding = DistillationConfig.of_paper("hard", min_teacher_accuracy=0.999)
    with pytest.raises(UserError, match="t:") as caught:
        check_teacher(make_teacher(), make_source(), demanding, STUDENT)
    assert "99.90%" in caught.value.allowed


@pytest.mark.parametrize("count", [20, 100, 1000])
def test_near_chance_is_the_margin_and_the_binomial_test(count):
    """Both must be passed; the test's p-values are those of scipy's binomtest."""
    for correct in range(count + 1):
        examined = Examination(teacher="t", correct=correct, count=count, chance=0.1)
        p = binomtest(correct, count, 0.1, alternative="greater").pvalue
        assert examined.is_near_chance == (correct / count <= 0.19 or p >= 1e-6)


def test_sample_too_small_for_a_test_is_passed_with_a_note():
    """Twelve images in two classes cannot show p < 1e-6, not even if all are right."""
    source = make_source(counts=(6, 6, 0, 0, 0, 0))
    examined = check_teacher(make_teacher(), source, HARD, STUDENT)
    assert not examined.can_be_tested
    assert "too few to tell it from chance" in str(examined)


def test_sample_takes_the_classes_in_turns():
    """Every class counts alike as far as it has images, and neighbours are of different classes."""
    labels = np.repeat(np.arange(3), (50, 20, 5))
    samples = spread_samples(labels, 25)
    assert np.bincount(labels[samples]).tolist() == [10, 10, 5]
    assert all(set(labels[samples[turn : turn + 3]]) == {0, 1, 2} for turn in range(0, 15, 3))
    assert len({tuple(labels[samples[turn : turn + 3]]) for turn in range(0, 15, 3)}) > 1
    assert sorted(spread_samples(labels, 1000)) == list(range(75))


def test_notes_of_the_teacher_are_passed_on():
    """What had to be assumed stands beside the accuracy, in words and in the run's record."""
    teacher = make_teacher(notes=["the order of its classes is assumed"])
    examined = check_teacher(teacher, make_source(), HARD, STUDENT)
    assert "order of its classes is assumed" in str(examined)
    assert examined.to_json()["notes"] == ["the order of its classes is assumed"]
    assert examined.to_json()["accuracy"] == examined.accuracy


def test_answers_that_are_not_finite_are_refused():
    """Their argmax would be a class, too."""
    teacher = make_teacher(lambda images: torch.full((len(images), NUM_CLASSES), float("nan")))
    with pytest.raises(UserError, match="not finite"):
        check_teacher(teacher, make_source(60), HARD, STUDENT)


def test_grey_student_may_have_a_colour_teacher():
    """Ways that need three channels are left out; the student's pixels are asked about."""

    class Brightness(nn.Module):
        def forward(self, images):
            return -(images.mean((2, 3)) - torch.linspace(-2, 2, NUM_CLASSES)).abs()

    levels = np.linspace(40, 215, NUM_CLASSES)
    labels = np.arange(300) % NUM_CLASSES
    images = levels[labels].astype(np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    source = ArraySource(images, labels, ClassList(NAMES), [str(n) for n in range(300)])
    grey = Preprocess(image_size=8, channels=1, crop_pct=1.0, mean=(0.5,), std=(0.5,))
    teacher = make_teacher(Brightness(), mean=(0.5,), std=(0.1716,))
    assert check_teacher(teacher, source, HARD, grey).accuracy == 1


class Exchanged(nn.Module):
    """A published network behind an exchange of red and blue."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images.flip(1))


@pytest.mark.long
def test_published_convnet_passes_and_is_stopped_when_wired_wrongly(shared_data, tmp_path):
    """Real networks do not fall to chance: 85 % with exchanged colours, instead of 93 %."""
    archive = shared_data / "cifar10-test.tar"
    if not archive.is_file():
        pytest.skip(f"no {archive.name}")
    with tarfile.open(archive) as members:
        members.extractall(tmp_path, filter="data")
    source = open_data(str(tmp_path / "cifar10" / "test")).train
    healthy = load_classifier(shared_data / "cifar10_resnet56.onnx")
    student = Preprocess(image_size=32, crop_pct=1.0)
    exchanged = replace(healthy, model=Exchanged(healthy.model))
    centred = replace(healthy.preprocess, mean=(0.5,) * 3, std=(0.5,) * 3)
    renamed = ClassList((*source.classes.names[1:], source.classes.names[0]))
    for classifier, cause in (
        (healthy, None),
        (exchanged, "red and blue"),
        (replace(healthy, preprocess=centred), "ImageNet's"),
        (replace(healthy, classes=renamed), "renamed"),
    ):
        teacher = build_teacher(classifier, source.classes)
        if cause is None:
            assert 0.9 < check_teacher(teacher, source, HARD, student).accuracy < 0.96
        else:
            with pytest.raises(UserError, match=cause):
                check_teacher(teacher, source, HARD, student)
