"""Evaluation: exact counts, each head, every image once, whatever the batches."""

import csv
import io
import json
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score
from torch import nn
from torch.multiprocessing.spawn import start_processes

from deit.artifacts import load_classifier
from deit.classifier import Classifier
from deit.data.classes import ClassList
from deit.data.preprocess import Preprocess
from deit.data.sources import ArraySource, DataSet, open_data
from deit.errors import UserError
from deit.measuring.evaluate import evaluate, log_probabilities
from deit.model.build import create_model
from deit.tensors import TwoHeads

PIXELS = Preprocess(image_size=8, crop_pct=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class FromPixels(nn.Module):
    """Each image decides its own logits: exact arithmetic, whatever the batch size.

    Grey levels of the first row are the class head's logits, of the second the other head's.
    """

    def __init__(self, num_classes=7, two_heads=True):
        super().__init__()
        self.num_classes = num_classes
        self.two_heads = two_heads
        self.drop = nn.Dropout(0.9)

    def forward(self, images, keep=None):
        rows = (self.drop(images[:, 0]) * 255).round() / 16  # [batch, 8, 8]
        dist = rows[:, 1, : self.num_classes]
        return TwoHeads(rows[:, 0, : self.num_classes], dist if self.two_heads else None)


def make_source(count=23, num_classes=7, seed=0):
    generator = np.random.default_rng(seed)
    levels = np.arange(8) * (
        20 + np.arange(8)[:, None]
    )  # no ties, not in the joint decision either
    return ArraySource(
        generator.permuted(np.tile(levels.astype(np.uint8), (count, 1, 1)), axis=2),
        generator.integers(0, num_classes, count),
        ClassList(tuple(f"class{number}" for number in range(num_classes))),
        [f"image{number}.png" for number in range(count)],
    )


def logits_of(source, num_classes=7):
    rows = source.images.astype(np.float64) / 16
    return rows[:, 0, :num_classes], rows[:, 1, :num_classes]


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
def test_every_figure_equals_scikit_learns(seed):
    """Top-1, top-5 and negative log-likelihood of both heads and of the mean of their softmaxes."""
    source = make_source(60, seed=seed)
    result = evaluate(FromPixels(), source, preprocess=PIXELS)
    cls, dist = (softmax(logits) for logits in logits_of(source))
    labels = np.arange(7)
    for head, scores in {"class": cls, "distillation": dist, "joint": (cls + dist) / 2}.items():
        figures = result.to_json()[head]
        for k in (1, 5):
            expected = top_k_accuracy_score(source.labels, scores, k=k, labels=labels)
            assert figures[f"top{k}"] == pytest.approx(expected)
        assert figures["nll"] == pytest.approx(log_loss(source.labels, scores, labels=labels))
        assert figures["count"] == 60


@given(batch_size=st.integers(1, 30), count=st.integers(1, 30), seed=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_figures_do_not_depend_on_the_batch_size(batch_size, count, seed):
    """Equal to the last bit, the last batch being of any size."""
    source = make_source(count, seed=seed)
    whole = evaluate(FromPixels(), source, preprocess=PIXELS, batch_size=1000)
    parts = evaluate(FromPixels(), source, preprocess=PIXELS, batch_size=batch_size)
    assert parts.to_json() == whole.to_json()


@pytest.mark.parametrize("workers", [1, 2])
def test_figures_do_not_depend_on_the_workers(workers):
    """Images decoded elsewhere come back in their places."""
    source = make_source()
    alone = evaluate(FromPixels(), source, preprocess=PIXELS, batch_size=4)
    helped = evaluate(FromPixels(), source, preprocess=PIXELS, batch_size=4, workers=workers)
    assert helped.to_json() == alone.to_json()


def evaluate_on_rank(rank, world_size, port, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size
    )
    for count in (1, 2, 5):
        source = make_source(count)
        for batch_size in (1, 3):
            result = evaluate(FromPixels(), source, preprocess=PIXELS, batch_size=batch_size)
            figures = [result.to_json(), result.decided.predicted.tolist()]
            (folder / f"{count}-{batch_size}-{rank}").write_text(json.dumps(figures))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, pytest.param(3, marks=pytest.mark.long)])
def test_figures_do_not_depend_on_the_number_of_processes(world_size, tmp_path, free_port):
    """Each image is counted once, also where a process gets none; all processes know the result."""
    start_processes(
        evaluate_on_rank, (world_size, free_port, tmp_path), world_size, start_method="fork"
    )
    for count in (1, 2, 5):
        result = evaluate(FromPixels(), make_source(count), preprocess=PIXELS)
        expected = [result.to_json(), result.decided.predicted.tolist()]
        for path in tmp_path.glob(f"{count}-*"):
            assert json.loads(path.read_text()) == expected
    assert len(list(tmp_path.iterdir())) == 6 * world_size


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_model_with_one_head_has_only_that():
    """No distillation head is invented, and the joint decision is the class head's."""
    result = evaluate(FromPixels(two_heads=False), make_source(), preprocess=PIXELS)
    assert list(result.to_json()) == ["class"]
    assert result.decided is result.heads["class"]


@pytest.mark.parametrize("num_classes", [2, 5])
def test_with_five_classes_or_fewer_every_image_is_among_the_top_five(num_classes):
    """Top-5 is defined where there are no five classes: it says nothing, and says it as 1."""
    source = make_source(num_classes=num_classes)
    result = evaluate(FromPixels(num_classes), source, preprocess=PIXELS)
    assert all(head["top5"] == 1 for head in result.to_json().values())


def test_equal_logits_are_decided_for_the_lowest_class():
    """A model that says nothing has the accuracy of class 0, and top-5 of the first five."""
    source = make_source(num_classes=7)
    source.images[:] = 9
    result = evaluate(FromPixels(two_heads=False), source, preprocess=PIXELS)
    figures = result.to_json()["class"]
    assert figures["top1"] == (source.labels == 0).mean()
    assert figures["top5"] == (source.labels < 5).mean()
    assert figures["nll"] == pytest.approx(np.log(7))


def test_joint_log_probability_is_finite_where_a_softmax_underflows():
    """-800 nats on each head: exp would be 0 and its logarithm infinite."""
    heads = TwoHeads(torch.tensor([[0.0, 800.0]]), torch.tensor([[0.0, 800.0]]))
    assert log_probabilities(heads)["joint"][0, 0].item() == -800


def test_confusion_counts_true_classes_in_rows():
    """As scikit-learn's confusion matrix."""
    source = make_source(60)
    result = evaluate(FromPixels(), source, preprocess=PIXELS)
    cls, dist = (softmax(logits) for logits in logits_of(source))
    expected = confusion_matrix(source.labels, (cls + dist).argmax(1), labels=np.arange(7))
    assert np.array_equal(result.confusion(), expected)


def test_mistakes_are_listed_by_confidence():
    """Each with its image, its classes by name and the probability of the wrong one."""
    source = make_source(60)
    mistakes = evaluate(FromPixels(), source, preprocess=PIXELS).most_confident_mistakes(10)
    cls, dist = (softmax(logits) for logits in logits_of(source))
    joint = (cls + dist) / 2
    assert len(mistakes) == 10
    assert [m.confidence for m in mistakes] == sorted(
        (m.confidence for m in mistakes), reverse=True
    )
    for mistake in mistakes:
        row = mistake.sample
        assert mistake.name == source.names[row]
        assert mistake.label == source.classes.names[source.labels[row]] != mistake.predicted
        assert mistake.predicted == source.classes.names[joint[row].argmax()]
        assert mistake.confidence == pytest.approx(joint[row].max(), abs=1e-9)


@pytest.mark.parametrize("two_heads", [True, False])
def test_predictions_are_written_by_name(tmp_path, two_heads):
    """One line per image; the columns are always the same, those without a head empty."""
    source = make_source(5)
    result = evaluate(FromPixels(two_heads=two_heads), source, preprocess=PIXELS)
    result.write_predictions(tmp_path / "predictions.csv")
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["name", "label", "class", "distillation", "joint", "confidence"]
    assert [row["name"] for row in rows] == list(source.names)
    for row, logits in zip(rows, logits_of(source)[0], strict=True):
        assert row["class"] == f"class{logits.argmax()}"
        assert bool(row["distillation"]) == bool(row["joint"]) == two_heads


def test_model_is_measured_in_evaluation_mode_and_left_as_it_was():
    """Dropout is off; afterwards each part is in its old mode, frozen parts too."""
    model = FromPixels()
    source = make_source()
    model.train()
    trained = evaluate(model, source, preprocess=PIXELS)
    assert model.training and model.drop.training  # noqa: PT018
    model.drop.eval()
    evaluate(model, source, preprocess=PIXELS)
    assert model.training and not model.drop.training  # noqa: PT018
    assert trained.to_json() == evaluate(model.eval(), source, preprocess=PIXELS).to_json()


def test_limit_takes_the_first_images():
    """For a look at the speed, not at the accuracy."""
    source = make_source()
    some = evaluate(FromPixels(), source, preprocess=PIXELS, limit=6)
    assert np.array_equal(some.labels, source.labels[:6])
    assert some.to_json()["class"]["count"] == 6
    assert len(some.names) == 6


def test_progress_is_told():
    """Images done and images in all, after each batch."""
    told = []
    evaluate(
        FromPixels(),
        make_source(5),
        preprocess=PIXELS,
        batch_size=2,
        progress=lambda *numbers: told.append(numbers),
    )
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_classes_in_another_order_are_matched_by_name():
    """The same model with its classes listed the other way round has the same accuracy."""
    source = make_source(60)
    backwards = ClassList(tuple(reversed(source.classes.names)))
    reversed_labels = ArraySource(source.images, 6 - source.labels, backwards, source.names)
    classifier = Classifier("pixels", FromPixels(), PIXELS, source.classes, 7)
    result, again = evaluate(classifier, source), evaluate(classifier, reversed_labels)
    assert again.to_json() == result.to_json()


def test_data_with_other_classes_is_refused():
    """Names that the model does not know, or another number of nameless classes."""
    source = make_source(num_classes=5)
    known = ClassList(tuple(f"other{number}" for number in range(7)))
    with pytest.raises(UserError, match="does not know"):
        evaluate(Classifier("pixels", FromPixels(), PIXELS, known, 7), source)
    with pytest.raises(UserError, match="7 classes without names, the data has 5"):
        evaluate(FromPixels(), source, preprocess=PIXELS)


class Broken(FromPixels):
    """A model whose training has diverged."""

    def forward(self, images, keep=None):
        cls, dist = super().forward(images)
        return TwoHeads(cls * float("nan"), dist)


def test_answers_that_are_not_finite_are_refused():
    """The argmax of NaN is a class, too: an accuracy would be made of nothing."""
    with pytest.raises(UserError, match="not finite"):
        evaluate(Broken(), make_source(), preprocess=PIXELS)


def test_module_without_preprocessing_is_refused_and_a_deit_has_the_papers():
    """Nothing is guessed but what a DeiT's own configuration says: its image size."""
    source = make_source(4)
    with pytest.raises(UserError, match="does not tell its preprocessing"):
        evaluate(FromPixels(), source)
    model = create_model("deit_nano_patch2_8", num_classes=7)
    told = evaluate(model, source, preprocess=Preprocess(image_size=8))
    assert evaluate(model, source).to_json() == told.to_json()


def test_data_set_means_its_validation_split():
    """`deit.evaluate(model, data)` with what `deit.open_data` gave."""
    train, val = make_source(3, seed=1), make_source(9)
    result = evaluate(FromPixels(), DataSet(train, val), preprocess=PIXELS)
    assert result.to_json()["class"]["count"] == 9


def test_no_images_are_refused():
    """0 of 0 is no accuracy."""
    with pytest.raises(UserError, match="no images"):
        evaluate(FromPixels(), make_source(0), preprocess=PIXELS)


def test_bfloat16_is_used_when_asked_for():
    """Autocast of the forward pass; figures stay float64."""
    model = create_model("deit_nano_patch2_8", num_classes=7)
    seen = []
    model.head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    evaluate(model, make_source(2), precision="bfloat16")
    evaluate(model, make_source(2))
    assert seen == [torch.bfloat16, torch.float32]


@pytest.mark.long
def test_published_convnet_has_its_published_accuracy(shared_data, tmp_path):
    """The ResNet-56 of the CIFAR-10 literature: 93.39 % of the 10,000 test images."""
    archive = shared_data / "cifar10-test.tar"
    if not archive.is_file():
        pytest.skip(f"no {archive.name}")
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as members:
        members.extractall(tmp_path, filter="data")
    source = open_data(str(tmp_path / "cifar10" / "test"))
    classifier = load_classifier(shared_data / "cifar10_resnet56.onnx")
    results = [evaluate(classifier, split) for split in (source.train, source.val)]
    correct = sum(result.heads["class"].correct() for result in results)
    assert sum(len(result.labels) for result in results) == 10_000
    assert correct == 9339
