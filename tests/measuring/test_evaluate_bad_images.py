"""Measuring on images of which some cannot be decoded: refused, or counted as wrong by choice."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from deit.data.classes import ClassList
from deit.data.images import BadImage
from deit.data.preprocess import Preprocess
from deit.errors import UserError
from deit.measuring.evaluate import evaluate
from deit.tensors import TwoHeads

PIXELS = Preprocess(image_size=8, crop_pct=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class FromPixels(nn.Module):
    """A model of three classes that knows each image's own: its grey level."""

    num_classes = 3

    def forward(self, images, keep=None):
        level = (images[:, 0, 0, 0] * 255).round().long()
        return TwoHeads(5.0 * torch.nn.functional.one_hot(level, 3), None)


class Some:
    """Grey images that say their class, but for those that cannot be decoded."""

    classes = ClassList(("a", "b", "c"))

    def __init__(self, count, bad):
        self.labels = np.arange(count, dtype=np.int64) % 3
        self.names = [f"{number}.png" for number in range(count)]
        self.bad = bad

    def __len__(self):
        return len(self.labels)

    def read(self, index):
        if index in self.bad:
            raise BadImage(self.names[index], "cannot be decoded: planted")
        return np.full((8, 8, 3), self.labels[index], dtype=np.uint8)


def measure(count, bad, **options):
    return evaluate(FromPixels(), Some(count, bad), preprocess=PIXELS, **options)


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_images_are_refused_unless_asked_otherwise(workers):
    """With the first one's name; no accuracy over the rest is given out as if it were of all."""
    with pytest.raises(BadImage, match=r"^4\.png: cannot be decoded: planted"):
        measure(10, {4, 7}, workers=workers)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
@pytest.mark.parametrize("bad", [{4}, {0, 1, 2, 3}, {8, 9}, set()])
def test_bad_images_count_as_wrong_when_asked_for(bad, batch_size):
    """Of ten images all others are right: (10 - bad) / 10, in top-5 of three classes, too."""
    result = measure(10, bad, bad_images="wrong", batch_size=batch_size)
    figures = result.to_json()["class"]
    assert figures["count"] == 10
    assert figures["top1"] == figures["top5"] == (10 - len(bad)) / 10
    assert figures["nll"] == pytest.approx(np.log(1 + 2 * np.exp(-5)))  # of those that were read
    assert [problem.name for problem in result.unreadable] == [f"{i}.png" for i in sorted(bad)]
    assert (
        result.confusion().tolist()
        == np.diag(
            [sum(i % 3 == label and i not in bad for i in range(10)) for label in range(3)]
        ).tolist()
    )


def test_nothing_is_said_to_have_been_decided_of_bad_images(tmp_path):
    """They are no mistakes of the model's, and their decisions are left empty, not another's."""
    result = measure(10, {4, 7}, bad_images="wrong")
    assert result.most_confident_mistakes(9) == []
    assert result.decided.predicted[[4, 7]].tolist() == [-1, -1]
    result.write_predictions(tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert [row["name"] for row in rows if not row["class"]] == ["4.png", "7.png"]
    assert all(row["class"] in (row["label"], "") for row in rows)


def test_no_image_at_all_is_no_accuracy():
    """Then it is the data, not the model."""
    with pytest.raises(UserError, match=r"none of 3 images can be decoded: 0\.png"):
        measure(3, {0, 1, 2}, bad_images="wrong")
