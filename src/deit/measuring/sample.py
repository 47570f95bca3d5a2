"""The validation images that a teacher is examined on, and its answers to them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from deit.data.loader import eval_batches
from deit.data.preprocess import Preprocess
from deit.data.sources import Source
from deit.distillation.teacher import Teacher
from deit.measuring.nearest_mean import predict_by_nearest_mean, small_pixels
from deit.randomness import permutation


@dataclass(slots=True)
class Sample:
    """The images that the teacher was asked about, and what it said.

    Attributes:
        teacher: who was asked.
        preprocess: the student's.
        images: the student's pixels.
        labels: the true classes.
        logits: the answers, on the CPU.
        batch_size: images per question.
        asked: images that went through the teacher so far; whoever asks more adds them.
    """

    teacher: Teacher
    preprocess: Preprocess
    images: Float[Tensor, "images channels height width"]
    labels: Int64[np.ndarray, "images"]
    logits: Float[Tensor, "images classes"]
    batch_size: int
    asked: int

    @property
    def predicted(self) -> Int64[np.ndarray, "images"]:
        """The teacher's decisions."""
        return np.asarray(self.logits.argmax(-1))

    @property
    def right(self) -> Bool[np.ndarray, "images"]:
        """Which of them are right."""
        return np.asarray(self.predicted == self.labels)

    @property
    def first_half(self) -> Bool[np.ndarray, "images"]:
        """Every second image of each class: to choose something on, and judge it on the others."""
        return np.asarray(turns(self.labels) % 2 == 0)

    @property
    def has_halves(self) -> bool:
        """Whether a half has two images of each class on average."""
        return len(self.labels) >= 4 * len(np.unique(self.labels))

    def ask(self, images: Tensor) -> Tensor:
        """The logits for some images, asked as training will; on the CPU."""
        return ask_as_training(self.teacher, self.preprocess, images)

    def pixels_right(self) -> Bool[np.ndarray, "images"] | None:
        """Which images class means of 8 x 8 pixels decide rightly; None without halves."""
        return self._nearest_mean(small_pixels(self.images))

    def refitted_right(self) -> Bool[np.ndarray, "images"] | None:
        """Which images class means of the logits decide rightly; None without halves."""
        return self._nearest_mean(self.logits.double().numpy())

    def _nearest_mean(
        self, features: Float[np.ndarray, "images numbers"]
    ) -> Bool[np.ndarray, "images"] | None:
        if not self.has_halves:
            return None
        decided = predict_by_nearest_mean(features, self.labels, self.first_half)
        return np.asarray(decided == self.labels)


def read_sample(
    teacher: Teacher,
    source: Source,
    preprocess: Preprocess,
    *,
    num_images: int,
    batch_size: int,
    workers: int,
) -> Sample:
    """Read the images and ask the teacher about each of them once.

    Args:
        teacher: who is asked.
        source: validation images.
        preprocess: the student's.
        num_images: how many images at most, as evenly from all classes as there are.
        batch_size: images per question.
        workers: processes that decode images.
    """
    chosen = spread_samples(source.labels, num_images)
    device = _device_of(teacher)
    batches = eval_batches(source, preprocess, batch_size, workers, chosen, device=device)
    images, answers = [], []
    for batch in batches:
        images.append(batch.images)
        answers.append(ask_as_training(teacher, preprocess, batch.images))
    return Sample(
        teacher=teacher,
        preprocess=preprocess,
        images=torch.cat(images),
        labels=np.asarray(source.labels, dtype=np.int64)[chosen],
        logits=torch.cat(answers),
        batch_size=batch_size,
        asked=len(chosen),
    )


def ask_as_training(teacher: Teacher, preprocess: Preprocess, images: Tensor) -> Tensor:
    """The teacher's logits for the student's images, on the CPU."""
    return teacher.logits(images, preprocess.mean, preprocess.std).cpu()


def spread_samples(
    labels: Int64[np.ndarray, "images"], num_images: int
) -> Int64[np.ndarray, "samples"]:
    """Images of every class in turns: one of each class, a second of each, and so on.

    Always the same ones, but drawn at random, because neighbouring files are often alike, and each
    turn in an order of its own: answers that belong to a neighbouring image are to be wrong, with
    no renaming that makes them right.

    >>> samples = spread_samples(np.array([0, 0, 0, 0, 0, 0, 1, 1]), num_images=4)
    >>> sorted(np.array([0, 0, 0, 0, 0, 0, 1, 1])[samples].tolist())
    [0, 0, 1, 1]
    """
    drawn = permutation(0, 0, len(labels))
    order = np.lexsort((permutation(0, 1, len(labels)), turns(labels[drawn])))
    return drawn[order][:num_images]


def turns(labels: Int64[np.ndarray, "images"]) -> Int64[np.ndarray, "images"]:
    """For every image, how many of its class come before it.

    >>> turns(np.array([0, 1, 0, 0, 1]))
    array([0, 0, 1, 2, 1])
    """
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    places = np.empty(len(labels), dtype=np.int64)
    places[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places


def _device_of(teacher: Teacher) -> torch.device:
    parameter = next(teacher.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
