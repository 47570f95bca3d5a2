"""Audit labels with a label store: wrong labels, objects that leave the crop, confused classes.

The teacher is not asked again and, but for the pictures of the page, no image is read: a store, the
recipe beside it and the names of the images say which view of which image was decided how.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from deit.data.dataset import DataSet
from deit.data.loader import TrainLoader
from deit.data.mix_plan import plan_mix
from deit.distillation.label_rows import Rows
from deit.distillation.label_store import LabelStore, differences
from deit.errors import UserError
from deit.measuring.audit import Confusion, LabelEvidence, confused_classes, weigh_labels
from deit.measuring.crops import CropLoss, Crops, crop_views, find_crop_losses
from deit.measuring.votes import Views, Votes, larger_part
from deit.programs.labels import epoch_length, identify_data, recipe_of_store
from deit.programs.prepare import check_data, open_data, resolve
from deit.programs.step import build_loader
from deit.recipes.recipe import Recipe
from deit.run.progress import Monitor

CROP_EPOCHS = 40
"""So many epochs are looked at for crops: each view's crop is computed, and more say little new."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What a store says of the labels of its images.

    Attributes:
        data: the images, with the labels that they have now.
        recipe: how the views were made.
        teacher: how the teacher was called, and what it knew of the validation images.
        votes: counted decisions.
        labels: what speaks against each label, see `deit.measuring.audit.weigh_labels`.
        crops: images that are lost in small crops, the clearest first.
        confused: pairs of classes, the most confused first.
        epochs: of which views were stored.
        skipped: stored views that do not count, see `deit.measuring.votes`.
        notes: what a reader should know, one sentence each.
    """

    data: DataSet
    recipe: Recipe
    teacher: dict[str, Any]
    votes: Votes
    labels: LabelEvidence
    crops: Sequence[CropLoss]
    confused: Sequence[Confusion]
    epochs: Sequence[int]
    skipped: int
    notes: Sequence[str]


def audit_labels(
    path: Path | str,
    *,
    source: str | None = None,
    data: DataSet | None = None,
    epochs: int | None = None,
    monitor: Monitor | None = None,
) -> Audit:
    """Read a label store and weigh the labels of its training images.

    Args:
        path: the store; one that is filled in part is used as far as it goes.
        source: where the data are; as recorded when left out.
        data: already opened, instead of ``source``.
        epochs: use only the first so many recorded epochs.
        monitor: where progress is shown.

    Raises:
        UserError: when there is no store, it is empty, or the data are not those that it was
            recorded with: names and classes have to agree, labels need not.
        RunError: when a file of the store is damaged.
    """
    monitor = monitor or Monitor(None)
    store, recipe, data = _open(Path(path), source, data, monitor)
    reader = _Reader(store, recipe, data)
    used = store.epochs[:epochs]
    votes, skipped = _count(reader, used, monitor)
    if not votes.views.any():
        raise UserError(
            f"{path} holds no label yet", "a store with some labels", "fill it: `deit label`"
        )
    evidence = weigh_labels(votes)
    crops = _find_crops(reader, used[:CROP_EPOCHS], votes, monitor)
    return Audit(
        data=data,
        recipe=recipe,
        teacher=store.header.examination,
        votes=votes,
        labels=evidence,
        crops=crops,
        confused=confused_classes(votes),
        epochs=used,
        skipped=skipped,
        notes=_notes(recipe, evidence, used, skipped),
    )


def _open(
    path: Path, source: str | None, data: DataSet | None, monitor: Monitor
) -> tuple[LabelStore, Recipe, DataSet]:
    """The store with its recipe and data, which belong to each other."""
    store = LabelStore.open(path)
    recipe = recipe_of_store(path)
    recipe = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, source=source or recipe.data.source),
        run=dataclasses.replace(recipe.run, workers=0, device="cpu", precision="float32"),
    )
    if data is None:
        data = open_data(recipe, monitor.say)
        if recipe.data.bad_images == "leave-out":
            data, _ = check_data(recipe, data, monitor.say)
    _require_same_images(store, data)
    recipe = resolve(recipe, data)
    return LabelStore(path, store.header, epoch_length(recipe, data)), recipe, data


def _require_same_images(store: LabelStore, data: DataSet) -> None:
    """Refuse data whose names or classes are not the store's; labels may have been corrected."""
    changed = differences(store.header.identity["data"], identify_data(data))
    if changed:
        raise UserError(
            f"{store.path} was recorded on other images:\n  " + "\n  ".join(changed),
            "the training images that it was recorded on: the same names in the same order, and "
            "the same classes; labels may differ",
            "name that data, or record labels for this: `deit label`",
        )


class _Reader:
    """The stored views of an epoch, with the image that each is a vote on."""

    def __init__(self, store: LabelStore, recipe: Recipe, data: DataSet) -> None:
        self.store = store
        self.recipe = recipe
        self.data = data
        self.labels = np.asarray(data.train.labels, dtype=np.int64)
        self.loader: TrainLoader = build_loader(recipe, data, torch.device("cpu"))

    @property
    def is_mixed(self) -> bool:
        """Whether some views show two images."""
        mix = self.recipe.mix
        return mix.probability > 0 and (mix.mixup > 0 or mix.cutmix > 0)

    def read(self, epoch: int) -> tuple[Views, Int64[np.ndarray, "views"]]:
        """The filled views, and the position in the epoch whose crop shows the image."""
        positions = np.arange(self.store.length)
        rows, filled = self.store.read(epoch, positions)
        samples = self.loader.samples_at(epoch, positions)
        weights, beside = np.ones(len(positions)), np.full(len(positions), -1, dtype=np.int64)
        if self.is_mixed:
            places, weights, others = self._mixing(epoch)
            beside = np.where(weights < 1, self.labels[samples[others]], -1)
            samples, positions = samples[places], places
        views = Views(
            samples=samples[filled],
            decisions=rows["label"][filled].astype(np.int64),
            weights=weights[filled],
            beside=beside[filled],
            **_kept(rows[filled]),
        )
        return views, positions[filled]

    def _mixing(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each position: where the image it mostly shows comes from, its share, the other.

        Mixing is planned batch by batch, as in training: the last group of a batch may be smaller.
        """
        size, found = self.recipe.batch_size, []
        for first in range(0, self.store.length, size):
            batch = np.arange(first, first + size)
            plan = plan_mix(
                self.recipe.mix,
                self.recipe.model.img_size,
                self.recipe.seed_of_views,
                epoch,
                batch,
            )
            shown = larger_part(plan.lam, plan.partner)
            found.append((first + shown.places, shown.weights, first + shown.others))
        places, weights, others = (np.concatenate(column) for column in zip(*found, strict=True))
        return places, weights, others


def _kept(rows: Rows) -> dict[str, np.ndarray]:
    """What rows hold besides the decision, by the names of `Views`."""
    names = rows.dtype.names or ()
    kept = {}
    if "confidence" in names:
        kept["confidence"] = rows["confidence"].astype(np.float64)
    if "classes" in names:
        kept["classes"] = rows["classes"].astype(np.int64)
        kept["probabilities"] = rows["probabilities"].astype(np.float64)
    return kept


def _passes(epochs: Sequence[int], what: str, monitor: Monitor) -> Iterator[int]:
    """The epochs one after another, with a line that moves."""
    with monitor.steps(0, len(epochs), what):
        for done, epoch in enumerate(epochs):
            yield epoch
            monitor.step(done + 1, f"{done + 1}/{len(epochs)} epochs")


def _count(reader: _Reader, epochs: Sequence[int], monitor: Monitor) -> tuple[Votes, int]:
    """All votes, and the number of stored views that are none."""
    votes = Votes(reader.labels, len(reader.data.classes))
    skipped = 0
    for epoch in _passes(epochs, "count votes", monitor):
        views, _ = reader.read(epoch)
        votes.add(views)
        skipped += int((~votes.counts(views)).sum())
    return votes, skipped


def _find_crops(
    reader: _Reader, epochs: Sequence[int], votes: Votes, monitor: Monitor
) -> list[CropLoss]:
    """Second pass: the crops of images that were decided both ways."""
    found = []
    split = votes.on_given(votes.views)
    split = (split > 0) & (split < votes.per_image(votes.views))
    sizes: dict[int, tuple[int, int]] = {}
    for epoch in _passes(epochs, "measure crops", monitor):
        views, positions = reader.read(epoch)
        wanted = votes.counts(views) & split[views.samples]
        samples = views.samples[wanted]
        found.append(
            crop_views(
                reader.recipe.views,
                reader.recipe.model.img_size,
                reader.recipe.seed_of_views,
                epoch,
                positions[wanted],
                samples,
                views.decisions[wanted] == reader.labels[samples],
                views.weights[wanted],
                reader.data.train,
                sizes,
            )
        )
    return find_crop_losses(Crops.joined(found), votes)


def _notes(
    recipe: Recipe, evidence: LabelEvidence, epochs: Sequence[int], skipped: int
) -> list[str]:
    notes = []
    unseen = int((evidence.views == 0).sum())
    if unseen:
        notes.append(f"{unseen:,} images have no view in the store: nothing is said of them")
    mix = recipe.mix
    if mix.probability > 0 and (mix.mixup > 0 or mix.cutmix > 0):
        notes.append(
            "The views are mixed. Each counts for the image that fills most of it, with its share; "
            f"{skipped:,} decisions for the other image's label are left out, and agreement is too "
            "high for it. A store that is recorded for an audit should have no mixing: "
            "mix.mixup=0 mix.cutmix=0"
        )
    if len(epochs) > CROP_EPOCHS:
        notes.append(f"Crops are measured in the first {CROP_EPOCHS} epochs")
    return notes
