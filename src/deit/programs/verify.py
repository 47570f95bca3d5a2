"""Verify a label store: are its files whole, and would its teacher decide the same again?"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deit.distillation.label_store import LabelStore
from deit.programs.labels import (
    build_answers,
    check_identity,
    epoch_length,
    identify,
    recipe_of_store,
)
from deit.programs.prepare import check_data, load_teacher, open_data, resolve
from deit.programs.step import build_loader, finish_views
from deit.recipes.recipe import Recipe
from deit.run import machine
from deit.run.progress import Monitor

LEAST_AGREEMENT = 0.99
"""Agreement below which something is wrong. On the machine that recorded them all labels agree; on
another, near ties fall the other way: in bfloat16 up to one view in some hundreds."""


@dataclass(frozen=True, slots=True)
class Verified:
    """How a store compares with its teacher.

    Attributes:
        views: how many stored labels the teacher was asked about again.
        equal: how many it decided as stored.
        damaged: what is wrong with the files.
        held: labels that the store holds.
        room: labels that it has room for in the epochs that were begun.
    """

    views: int
    equal: int
    damaged: tuple[str, ...]
    held: int
    room: int

    @property
    def agreement(self) -> float:
        """Share of equal decisions."""
        return self.equal / max(self.views, 1)

    @property
    def is_sound(self) -> bool:
        """Whether the files are whole and the teacher decides as stored."""
        return not self.damaged and self.views > 0 and self.agreement >= LEAST_AGREEMENT

    def __str__(self) -> str:
        others = "of the other epochs " if self.damaged else "of the begun epochs "
        lines = [
            *self.damaged,
            f"{self.equal:,} of {self.views:,} labels decided again as stored: "
            f"{self.agreement:.3%}",
            f"{self.held:,} of {self.room:,} views {others}have a label",
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The figures."""
        return dataclasses.asdict(self) | {"agreement": self.agreement}


def verify_labels(
    path: Path | str,
    *,
    views: int = 2000,
    source: str | None = None,
    teacher: str | None = None,
    device: str | None = None,
    monitor: Monitor | None = None,
) -> Verified:
    """Read every file of a store, and ask the teacher again about a sample of its labels.

    Args:
        path: the store.
        views: how many labels to compare at least, in whole batches spread over the store.
        source, teacher: where data and teacher are now; as they were recorded when left out.
        device: where to ask; as recorded when left out.
        monitor: where progress is shown.

    Raises:
        UserError: when the store, its data or its teacher cannot be read, or are not those that
            it was recorded with.
    """
    monitor = monitor or Monitor(None)
    path = Path(path)
    store = LabelStore.open(path)
    recipe = _recipe_of(path, source, teacher, device)
    data = open_data(recipe, monitor.say)
    if recipe.data.bad_images == "leave-out":
        data, _ = check_data(recipe, data, monitor.say)
    recipe = resolve(recipe, data)
    store = LabelStore(path, store.header, epoch_length(recipe, data))
    where = machine.resolve_device(recipe.run.device)
    asked = load_teacher(recipe, data, where)
    assert asked is not None
    check_identity(store, identify(recipe, data) | {"teacher": asked.fingerprint()})
    damaged = store.check()
    counts = {epoch: store.count(epoch) for epoch in store.epochs if epoch not in damaged}
    answers = build_answers(recipe, asked)
    loader = build_loader(recipe, data, where)
    compared = equal = 0
    for step in _spread_steps(store, counts, recipe, loader.steps_per_epoch, views):
        (host,) = loader.batches(step, step + 1)
        batch = finish_views(recipe, host, where)
        held, filled = store.read(batch.epoch, batch.positions.cpu().numpy())
        fresh = answers.on(batch).argmax(-1).cpu().numpy()
        equal += int((fresh[filled] == held["label"][filled]).sum())
        compared += int(filled.sum())
    return Verified(
        compared, equal, tuple(damaged.values()), sum(counts.values()), store.length * len(counts)
    )


def _recipe_of(path: Path, source: str | None, teacher: str | None, device: str | None) -> Recipe:
    recipe = recipe_of_store(path)
    distillation = recipe.distillation
    run = dataclasses.replace(recipe.run, workers=0, device=device or recipe.run.device)
    return dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, source=source or recipe.data.source),
        distillation=dataclasses.replace(distillation, teacher=teacher or distillation.teacher),
        run=run,
    )


def _spread_steps(
    store: LabelStore, counts: dict[int, int], recipe: Recipe, per_epoch: int, views: int
) -> list[int]:
    """Steps with stored labels, evenly spread, whose batches hold as many views as are wanted."""
    steps = []
    for epoch, count in counts.items():
        if count:
            _, filled = store.read(epoch, np.arange(store.length))
            some = filled.reshape(per_epoch, recipe.batch_size).any(-1)
            steps += (epoch * per_epoch + np.flatnonzero(some)).tolist()
    wanted = min(len(steps), -(-views // recipe.batch_size))
    return [steps[int(place)] for place in np.linspace(0, len(steps) - 1, wanted).round()]
