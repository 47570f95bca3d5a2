"""What is taught in a distillation benchmark: one batch, its teacher, and the store of its answers.

All students of one image size get the same lesson. Pixels are random, so nothing here reads or
renders an image.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deit.artifacts import build_teacher
from deit.classifier import Classifier
from deit.data.classes import ClassList
from deit.data.dataset import ArraySource
from deit.data.order import steps_per_epoch
from deit.data.render_device import HostBatch
from deit.distillation.answers import Answers
from deit.distillation.label_rows import RowFormat
from deit.distillation.label_store import LabelStore, StoreHeader
from deit.distillation.teacher import Teacher
from deit.errors import UserError
from deit.model.build import ZooModel
from deit.programs.labels import describe_arithmetic
from deit.programs.step import finish_views
from deit.recipes.recipe import Recipe
from deit.tensors import TrainBatch

POSITIONS = 1_281_167
"""Training images of ImageNet-1k: an epoch of the store has as many positions, in whole batches."""

_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """One batch and what the teacher says of it, from all sides.

    Attributes:
        source: the images of the batch before normalisation.
        batch: the prepared batch.
        labels: its true classes, ``[batch]``.
        steps_per_epoch: steps of the epoch that the batch is taken from the middle of.
        teacher: the teacher itself, in float32.
        network: the very module inside it, as timm made it.
        online: asks the teacher, in the precision of the benchmark.
        stored: reads the label store.
    """

    source: ArraySource
    batch: TrainBatch
    labels: Tensor
    steps_per_epoch: int
    teacher: Teacher
    network: nn.Module
    online: Answers
    stored: Answers

    @property
    def store(self) -> LabelStore:
        """The labels on the disk."""
        return self.stored.stores[0]


def prepare_lesson(
    recipe: Recipe, classifier: Classifier, device: torch.device, folder: Path
) -> Lesson:
    """Make the batch, ask the teacher about it, and store the answers among those of a whole epoch.

    Args:
        recipe: resolved, of a student that the lesson is for.
        classifier: the teacher.
        device: where all compute.
        folder: the label store to make.

    Raises:
        UserError: when the teacher cannot be timed beside timm's, see `find_network`.
    """
    size, count = recipe.model.img_size, recipe.batch_size
    network = find_network(classifier, size)
    names = classifier.classes or ClassList(tuple(map(str, range(classifier.num_classes))))
    dtype = torch.bfloat16 if recipe.run.precision == "bfloat16" else torch.float32
    teacher, asked = (
        build_teacher(classifier, names, device, each).with_image_size(size)
        for each in (torch.float32, dtype)
    )
    source = draw_images(count, size, names)
    steps = steps_per_epoch(POSITIONS, count)
    batch = _prepare_batch(recipe, source, steps // 2, device)
    store = _record(recipe, asked, batch, names, steps * count, folder, device)
    return Lesson(
        source=source,
        batch=batch,
        labels=torch.from_numpy(source.labels).to(device),
        steps_per_epoch=steps,
        teacher=teacher,
        network=network,
        online=_answers(recipe, asked, ()),
        stored=_answers(recipe, None, (store,)),
    )


def find_network(classifier: Classifier, image_size: int) -> nn.Module:
    """The module of timm inside a teacher, which can look at images of this size.

    timm's task shows the teacher the student's pixels as they are, and so does this benchmark.

    Raises:
        UserError: for a teacher with two heads, or of a fixed other size.
    """
    if not isinstance(classifier.model, ZooModel):
        raise UserError(
            f"--teacher {classifier.name}: timm's task would see another teacher, as this one has "
            "two heads",
            "a model of timm with one head",
            "take for example timm:regnety_160",
        )
    network = classifier.model.network
    own = classifier.preprocess.image_size
    told = getattr(network, "pretrained_cfg", {})
    if own != image_size and told.get("fixed_input_size"):
        raise UserError(
            f"--teacher {classifier.name} takes images of {own} px, the student of {image_size}",
            "a teacher that takes the student's images as they are",
            "take a convolutional one, for example timm:regnety_160",
        )
    return network


def draw_images(count: int, size: int, classes: ClassList) -> ArraySource:
    """Random pictures of coarse patches and fine noise, with random labels.

    Noise alone looks alike to a teacher: all of it would get the same decision.
    """
    generator = torch.Generator().manual_seed(_SEED)
    coarse = torch.randn(count, 3, 7, 7, generator=generator)
    fine = torch.randn(count, 3, size, size, generator=generator)
    pictures = 128 + 70 * F.interpolate(coarse, (size, size), mode="bicubic") + 20 * fine
    labels = torch.randint(len(classes), (count,), generator=generator)
    return ArraySource(
        pictures.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy(),
        labels.numpy(),
        classes,
        [f"random picture {number}" for number in range(count)],
    )


def _prepare_batch(
    recipe: Recipe, source: ArraySource, step: int, device: torch.device
) -> TrainBatch:
    """The pictures as one step's batch, through the device's part of the data path."""
    count = len(source)
    pictures = np.stack([source.read(index) for index in range(count)])
    host = HostBatch(
        images=torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(),
        labels=torch.from_numpy(source.labels),
        samples=torch.arange(count),
        positions=torch.arange(step * count, (step + 1) * count),
        epoch=0,
        step=step,
    )
    return finish_views(recipe, host, device)


def _record(
    recipe: Recipe,
    teacher: Teacher,
    batch: TrainBatch,
    classes: ClassList,
    positions: int,
    folder: Path,
    device: torch.device,
) -> LabelStore:
    """A complete epoch on the disk: the teacher's decisions on the batch, random ones elsewhere."""
    header = StoreHeader(
        classes=classes.names,
        positions=positions,
        rows=RowFormat(num_classes=len(classes)),
        identity={"teacher": teacher.fingerprint()},
        made_with=describe_arithmetic(device),
        examination={},
    )
    store = LabelStore.create(folder, header)
    answers = _answers(recipe, teacher, (store,))
    answers.record(batch)
    others = np.setdiff1d(np.arange(positions), batch.positions.cpu().numpy())
    rows = header.rows.empty(len(others))
    rows["label"] = np.random.default_rng(_SEED).integers(len(classes), size=len(others))
    store.write(0, others, rows)
    answers.flush()
    return LabelStore.open(folder)


def _answers(recipe: Recipe, teacher: Teacher | None, stores: tuple[LabelStore, ...]) -> Answers:
    return Answers(
        config=recipe.distillation,
        teacher=teacher,
        stores=stores,
        mean=recipe.preprocess.mean,
        std=recipe.preprocess.std,
        group=recipe.mix.group,
    )
