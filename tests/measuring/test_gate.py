"""The gate: seven ways to wire a teacher wrongly are stopped, healthy teachers pass."""

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from sklearn.neighbors import NearestCentroid
from torch import nn

from deit.artifacts import build_teacher, load_classifier
from deit.data.classes import ClassList
from deit.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from deit.data.sources import ArraySource, open_data
from deit.distillation.config import DistillationConfig
from deit.distillation.teacher import Teacher
from deit.errors import UserError
from deit.measuring.gate import Examination, TeacherError, Thresholds, check_teacher
from deit.measuring.sample import read_sample, spread_samples
from deit.measuring.ways import Contest, Way, contest, sign_test, ways_of_asking

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


def half_blind(model, share=0.3):
    """Decides a share of the images by a rule of its own: weak, but always the same answers."""

    def ask(images):
        logits = model(images)
        draw = (1e4 * images.sum((1, 2, 3))).frac().abs() / share  # below 1: blind
        shift = 1 + (draw * (NUM_CLASSES - 1)).long()
        places = (torch.arange(NUM_CLASSES) - shift[:, None]) % NUM_CLASSES
        return torch.where(draw[:, None] < 1, logits.gather(1, places), logits)

    return ask


@pytest.mark.parametrize("seed", range(20))
def test_healthy_teachers_are_never_refused(seed):
    """No false alarm in twenty data sets, a third of them with weak teachers."""
    strong = NearestColour().eval()
    teacher = make_teacher(strong if seed % 3 else half_blind(strong))
    config = HARD if seed % 3 else replace(HARD, min_teacher_accuracy=0.4)
    examined = check_teacher(teacher, make_source(seed=seed), config, STUDENT)
    assert examined.accuracy > 0.9 if seed % 3 else 0.5 < examined.accuracy < 0.85
    assert examined.asked <= 3 * 256


class BlueFirst(NearestColour):
    """Trained on images with their colours the other way round."""

    def forward(self, images):
        return super().forward(images.flip(1))


class BatchNormed(NearestColour):
    """Subtracts the batch's own mean and, by its colours, knows how to put it right."""

    def forward(self, images):
        seen = images.mean((2, 3))
        centred = F.batch_norm(seen, None, None, training=True)
        return -torch.cdist(centred, F.batch_norm(self.colours, None, None, training=True))


def shifted(rows):
    """Answers that belong to another image of the batch."""
    model = NearestColour().eval()
    return lambda images: model(images).roll(rows, 0)


class OneBehind:
    """Answers with a queue: row 0 is the last image of the batch before."""

    def __init__(self):
        self.model, self.last = NearestColour().eval(), torch.zeros(1, NUM_CLASSES)

    def __call__(self, images):
        logits = self.model(images)
        answer = torch.cat([self.last, logits[:-1]])
        self.last = logits[-1:]
        return answer


def random_head(images):
    weight = torch.randn(NUM_CLASSES, NUM_CLASSES, generator=torch.Generator().manual_seed(3))
    return NearestColour().eval()(images) @ weight


def knows_nothing(images):
    return torch.eye(NUM_CLASSES)[[2] * len(images)]


class WithDropout(NearestColour):
    def forward(self, images):
        return F.dropout(super().forward(images), 0.5, training=True)


WRONG = {
    "permuted classes": (
        make_teacher(NearestColour(order=(1, 2, 0, 4, 5, 3))),
        "permuted classes",
        "renamed",
    ),
    "two classes exchanged": (
        make_teacher(NearestColour(order=(1, 0, 2, 3, 4, 5))),
        "permuted classes",
        "class0 -> class1, class1 -> class0",
    ),
    "wrong mean and std": (
        make_teacher(mean=(0.0,) * 3, std=(1.0,) * 3),
        "wrong normalisation",
        "as ImageNet's",
    ),
    "the student's mean and std": (
        make_teacher(NearestColour(STUDENT.mean, STUDENT.std)),
        "wrong normalisation",
        "as the student's",
    ),
    "blue first": (
        make_teacher(BlueFirst(*[(0.5,) * 3] * 2), mean=(0.5,) * 3, std=(0.5,) * 3),
        "exchanged colours",
        "red and blue",
    ),
    "wrong size": (
        make_teacher(NearestColour(size=16)),
        "wrong image size",
        "at 16 pixels instead of 8",
    ),
    "random head": (make_teacher(random_head), "random head", "last layer was never trained"),
    "knows nothing": (make_teacher(knows_nothing), "near chance", "too near chance"),
    "batch norm in training": (make_teacher(BatchNormed()), "batch dependence", "training mode"),
    "answers one row late": (make_teacher(shifted(1)), "shifted answers", "image i-1"),
    "answers two rows early": (make_teacher(shifted(-2)), "shifted answers", "image i\\+2"),
    "answers one image behind": (make_teacher(OneBehind()), "shifted answers", "image i-1"),
    "dropout left on": (make_teacher(WithDropout()), "random answers", "the second time"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_teachers_are_stopped_with_their_cause(wrong):
    """The message names the fault, the accuracy seen, the cause, and what to do."""
    teacher, fault, cause = WRONG[wrong]
    with pytest.raises(TeacherError, match=cause) as caught:
        check_teacher(teacher, make_source(), HARD, STUDENT)
    assert caught.value.fault == fault
    assert caught.value.given.startswith(f"teacher refused: {fault}\n")
    assert "256 validation images (chance" in caught.value.given
    assert caught.value.todo


def test_batch_norm_that_uses_the_batch_is_refused_however_accurate():
    """Its labels are right, but another batch would have given others."""
    teacher = make_teacher(BatchNormed())
    sample = read_sample(teacher, make_source(), STUDENT, num_images=256, batch_size=32, workers=0)
    assert sample.right.mean() > 0.8
    with pytest.raises(TeacherError, match="could not be found again"):
        check_teacher(teacher, make_source(), HARD, STUDENT)


@pytest.mark.parametrize("count", [24, 34, 40, 64])
def test_batch_norm_that_uses_the_batch_is_seen_in_few_images(count):
    """One batch, or one and a bit, is asked again in halves or mixed."""
    with pytest.raises(TeacherError, match="batch dependence"):
        check_teacher(make_teacher(BatchNormed()), make_source(count), HARD, STUDENT)


def test_shift_is_undone_in_the_message():
    """What it would know if its rows were read where they belong: all that it knows."""
    healthy = check_teacher(make_teacher(), make_source(), HARD, STUDENT)
    with pytest.raises(TeacherError, match=f"{healthy.accuracy:.2%}"):
        check_teacher(make_teacher(shifted(3)), make_source(), HARD, STUDENT)


def test_teacher_that_is_better_at_another_size_passes():
    """Networks often are a little better above their training's size (FixRes); it is no fault."""

    class Sharper(NearestColour):
        def forward(self, images):
            self.size = images.shape[-1]
            blind = (1e4 * images.mean((1, 2, 3))).frac().abs() < (0.3 if self.size == 8 else 0.25)
            logits = super().forward(images)
            return torch.where(blind[:, None], logits.roll(1, 1), logits)

    config = replace(HARD, min_teacher_accuracy=0.4)
    assert check_teacher(make_teacher(Sharper()), make_source(), config, STUDENT).accuracy < 0.9


@pytest.mark.parametrize(
    "mean_std",
    [
        {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)},
        {"mean": IMAGENET_MEAN, "std": (0.2, 0.2, 0.2)},
    ],
)
def test_normalisation_close_to_imagenets_passes(mean_std):
    """CIFAR's own mean and standard deviation, for a teacher that was trained with ImageNet's."""
    assert check_teacher(make_teacher(**mean_std), make_source(), HARD, STUDENT).accuracy > 0.9


def test_half_precision_passes():
    """Rounding to bfloat16 is no dependence on the batch."""
    torch.manual_seed(0)
    layer = nn.Linear(NUM_CLASSES, NUM_CLASSES)
    nn.init.eye_(layer.weight)
    teacher = make_teacher(nn.Sequential(NearestColour(), layer), dtype=torch.bfloat16)
    assert check_teacher(teacher, make_source(), HARD, STUDENT).accuracy > 0.9


def test_rounding_that_depends_on_the_batch_passes():
    """Libraries add in another order for another batch: 1e-3 of the logits' spread is nothing."""

    def rounded(images):
        logits = NearestColour().eval()(images)
        return logits + 1e-3 * torch.arange(len(images))[:, None] / len(images)

    check_teacher(make_teacher(rounded), make_source(), HARD, STUDENT)


@pytest.mark.parametrize("counts", [(200, 20, 20, 20, 20, 20), (100, 100, 100, 2, 2, 1)])
def test_imbalanced_classes_pass(counts):
    """Chance is what the commonest class of the sample would reach."""
    examined = check_teacher(make_teacher(), make_source(counts=counts), HARD, STUDENT)
    assert examined.accuracy > 0.9
    assert examined.chance == pytest.approx(max(counts) / sum(counts), abs=0.3)


@pytest.mark.parametrize("count", [2, 3, 7, 31, 32, 33])
def test_few_validation_images_pass(count):
    """Down to two, of which little more can be said than that they are right."""
    source = make_source(count)
    examined = check_teacher(make_teacher(), source, HARD, STUDENT)
    assert examined.count == count


def test_teacher_far_below_class_means_of_pixels_is_refused_unless_asked_for():
    """The baseline is scikit-learn's nearest centroid; a least accuracy of one's own overrides."""
    source = make_source()
    blind = make_teacher(half_blind(NearestColour().eval(), share=0.6))
    with pytest.raises(
        TeacherError, match=r"hold its student back[\s\S]*half of the way"
    ) as caught:
        check_teacher(blind, source, HARD, STUDENT)
    assert caught.value.fault == "below the baseline"
    teacher = make_teacher(half_blind(NearestColour().eval()))
    assert "its student may suffer" in str(check_teacher(teacher, source, HARD, STUDENT))
    config = replace(HARD, min_teacher_accuracy=0.1)
    check_teacher(blind, source, config, STUDENT)
    examined = check_teacher(teacher, source, config, STUDENT)
    sample = read_sample(teacher, source, STUDENT, num_images=256, batch_size=32, workers=0)
    pixels, half = sample.images.mean((2, 3)).double().numpy(), sample.first_half
    right = 0
    for judged in (half, ~half):
        centroids = NearestCentroid().fit(pixels[~judged], sample.labels[~judged])
        right += (centroids.predict(pixels[judged]) == sample.labels[judged]).sum()
    assert examined.baseline == right / 256


def test_accurate_teacher_is_asked_in_no_other_way():
    """With fewer than six errors in 256 no way could be clearly better, so none is asked."""
    levels = colours()[np.arange(300) % NUM_CLASSES].astype(np.uint8)
    images = levels[:, None, None].repeat(8, 1).repeat(8, 2)
    labels = np.arange(300) % NUM_CLASSES
    source = ArraySource(images, labels, ClassList(NAMES), [str(n) for n in range(300)])
    examined = check_teacher(make_teacher(), source, HARD, STUDENT)
    assert (examined.correct, examined.asked) == (256, 256 + 64)


def test_other_ways_are_asked_no_longer_than_needed():
    """A way that loses is given up after a batch, and one that wins is asked to the end."""
    teacher = make_teacher(mean=(0.0,) * 3, std=(1.0,) * 3)
    sample = read_sample(teacher, make_source(), STUDENT, num_images=256, batch_size=32, workers=0)
    for way in ways_of_asking(teacher, STUDENT):
        before = sample.asked
        outcome = contest(way, sample, Thresholds())
        logits = torch.cat([way.ask(images) for images in sample.images.split(50)])
        right = logits.argmax(1).numpy() == sample.labels
        if outcome is None:
            assert sample.asked - before <= 96
            assert right.mean() <= sample.right.mean() + 0.02
        else:
            assert sample.asked - before == 256
            assert outcome.accuracy == right.mean()
            assert outcome.won == (right & ~sample.right).sum()


def test_few_decisions_need_the_likelihoods_beside_them():
    """17 images won and 4 lost are p = 0.004; only with likelihoods ahead is that clear."""
    way = Way("exchanged colours", "", "", lambda images: images)
    counts = {"way": way, "won": 17, "lost": 4, "correct": 225, "count": 256}
    assert binomtest(17, 21, alternative="greater").pvalue == pytest.approx(sign_test(17, 4))
    ahead, even = ((174, 82), (128, 128))
    for (likelier, unlikelier), clear in ((ahead, True), (even, False)):
        outcome = Contest(**counts, likelier=likelier, unlikelier=unlikelier)
        assert outcome.is_clear(Thresholds(), near_chance=False) == clear
    surer = Contest(**counts | {"won": 4}, likelier=256, unlikelier=0)
    assert not surer.is_clear(Thresholds(), near_chance=False)


def test_examination_survives_json():
    """It is kept beside stored labels, and read again."""
    examined = check_teacher(make_teacher(notes=["a note"]), make_source(), HARD, STUDENT)
    assert Examination.from_json(json.loads(json.dumps(examined.to_json()))) == examined
    few = check_teacher(make_teacher(), make_source(7), HARD, STUDENT)
    assert few.baseline is None
    assert Examination.from_json(json.loads(json.dumps(few.to_json()))) == few


@pytest.mark.parametrize(
    "change", [{"count": 0}, {"correct": 300}, {"correct": "many"}, {"chance": None}, {"notes": 1}]
)
def test_damaged_record_of_an_examination_is_refused(change):
    """Said as a record that cannot be used, not as a programming error."""
    told = Examination(teacher="t", correct=9, count=10, chance=0.1).to_json()
    with pytest.raises(UserError, match="examination"):
        Examination.from_json(told | change)
    with pytest.raises(UserError, match="examination"):
        Examination.from_json({key: told[key] for key in told if key not in change})


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
    with pytest.raises(UserError, match=r"90.00% of 600 .*\(chance 90.00%,"):
        check_teacher(make_teacher(constant), source, HARD, STUDENT, num_images=600)


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
        assert examined.fails_chance(Thresholds()) == (correct / count <= 0.19 or p >= 1e-6)


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
            with pytest.raises(TeacherError, match=cause):
                check_teacher(teacher, source, HARD, student)
