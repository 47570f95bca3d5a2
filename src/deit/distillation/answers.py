"""The teacher's word on a batch, from wherever it comes: asked, read from stored labels, or both.

A teacher is asked about fixed groups of consecutive positions, those that mixing has. So its answer
on a view is the same number whatever the batch, and a run that reads stored labels ends in the
weights of a run that asks (decision record 0015).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from deit.distillation.config import DistillationConfig
from deit.distillation.label_rows import RowFormat, Rows
from deit.distillation.label_store import LabelStore
from deit.distillation.loss import TeacherAnswer
from deit.distillation.teacher import Teacher
from deit.errors import RunError, UserError
from deit.tensors import TrainBatch


@dataclass(kw_only=True, slots=True)
class Answers:
    """What a teacher, or what was stored of several, says of training batches.

    Attributes:
        config: how the answers enter the loss.
        teacher: who is asked about what no store holds; None where all is stored.
        stores: label stores; with a teacher the only one is filled, without one their votes count.
        mean, std: normalisation of the student's images.
        group: consecutive positions that a teacher is asked about at a time.
        asked: views that the teacher was asked about so far.
    """

    config: DistillationConfig
    teacher: Teacher | None
    stores: Sequence[LabelStore]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    group: int
    asked: int = field(default=0)

    def on(self, batch: TrainBatch) -> TeacherAnswer:
        """The answer on exactly the pixels that the student sees.

        With stores it is what they hold: decisions ``[batch]`` for the hard kind, and for the soft
        kind logits ``[batch, classes]`` made of the kept probabilities. Views that are not filled
        yet are asked about, written, and then read like all others, so that the run that fills a
        store learns from the same numbers as those after it.

        Raises:
            UserError: when a view is not stored, and there is no teacher to ask.
        """
        if not self.stores:
            assert self.teacher is not None
            return self._ask(batch, np.ones(len(batch.positions), dtype=bool))
        positions = batch.positions.cpu().numpy()
        if self.teacher is not None:
            self._fill(batch, positions)
        read = [_read(store, batch.epoch, positions) for store in self.stores]
        return self._combine(read).to(batch.images.device)

    def record(self, batch: TrainBatch) -> int:
        """Ask about the views of a batch that are not stored yet, and store the answers.

        Returns:
            How many views the teacher was asked about.
        """
        before = self.asked
        self._fill(batch, batch.positions.cpu().numpy())
        return self.asked - before

    def flush(self) -> None:
        """Bring what was stored to the disk."""
        for store in self.stores:
            store.flush()

    def _fill(self, batch: TrainBatch, positions: Int64[np.ndarray, "batch"]) -> None:
        (store,) = self.stores
        _, filled = store.read(batch.epoch, positions)
        if filled.all():
            return
        wanted = np.repeat(
            [not filled[first : first + self.group].all() for first in self._firsts(len(filled))],
            self.group,
        )[: len(filled)]
        logits = self._ask(batch, wanted)
        rows = store.header.rows.encode(logits.float().cpu().numpy())
        store.write(batch.epoch, positions[wanted], rows)

    def _ask(self, batch: TrainBatch, wanted: np.ndarray) -> Float32[Tensor, "wanted classes"]:
        """The teacher's logits on the wanted groups."""
        assert self.teacher is not None
        answers = [
            self.teacher.logits(batch.images[first : first + self.group], self.mean, self.std)
            for first in self._firsts(len(wanted))
            if wanted[first]
        ]
        self.asked += int(wanted.sum())
        logits = torch.cat(answers)
        if not logits.isfinite().all():
            places = batch.positions[torch.from_numpy(wanted)][~logits.isfinite().all(-1).cpu()]
            raise RunError(
                f"teacher {self.teacher.name} answers with numbers that are not finite at "
                f"positions {places.tolist()[:8]} of epoch {batch.epoch}\n"
                "  to do:   ask it in float32 (run.precision), and check its weights"
            )
        return logits

    def _firsts(self, count: int) -> range:
        return range(0, count, self.group)

    def _combine(self, read: Sequence[Rows]) -> Tensor:
        if self.config.kind == "hard" and (len(read) == 1 or self.config.vote == "majority"):
            return torch.from_numpy(_majority([rows["label"].astype(np.int64) for rows in read]))
        kept = [
            store.header.rows.probabilities(rows)
            for store, rows in zip(self.stores, read, strict=True)
        ]
        mean = torch.from_numpy(np.mean(kept, axis=0))
        if self.config.kind == "hard":
            return mean.argmax(-1)
        return self.config.temperature * mean.log()  # logits whose softmax at tau is the mean


def check_rows(config: DistillationConfig, stores: Sequence[LabelStore]) -> None:
    """Refuse stores that do not hold what a kind of distillation needs.

    Raises:
        UserError: names the store and what it lacks.
    """
    if config.kind == "hard" and len(stores) > 1 and config.vote == "mean":
        for store in stores:
            if not store.header.rows.top_k:
                raise UserError(
                    f"{store.path} holds decisions only, and the mean of several teachers needs "
                    "probabilities",
                    "stores that were recorded with --top-k; or the majority of three or more",
                    "record them with --top-k, or set --distillation.vote majority for three",
                )
    for store in stores:
        require_rows(config, store.header.rows, str(store.path))


def require_rows(config: DistillationConfig, rows: RowFormat, where: str) -> None:
    """Refuse rows from which the soft kind cannot learn.

    Raises:
        UserError: for rows without probabilities, or with those of another temperature.
    """
    if config.kind != "soft":
        return
    if not rows.top_k:
        raise UserError(
            f"{where} holds decisions only, and soft labels are probabilities",
            "a store with probabilities",
            "record one: `deit label DATA --teacher T --kind soft --top-k 10 --out DIR`",
        )
    if rows.temperature != config.temperature:
        raise UserError(
            f"{where} holds probabilities at temperature {rows.temperature:g}, and "
            f"distillation.temperature = {config.temperature:g}",
            "the same temperature: a softmax that was cut to its largest terms cannot be brought "
            "to another one",
            f"set --distillation.temperature {rows.temperature:g}, or record another store",
        )


def _read(store: LabelStore, epoch: int, positions: Int64[np.ndarray, "batch"]) -> Rows:
    rows, filled = store.read(epoch, positions)
    if not filled.all():
        raise UserError(
            f"{store.path}: epoch {epoch} has no label for {int((~filled).sum())} views of a batch",
            "stored labels for every view of the run",
            f"fill them: `deit label --out {store.path}`, or name the teacher besides: "
            f"--teacher T --labels {store.path}",
        )
    return rows


def _majority(votes: Sequence[Int64[np.ndarray, "batch"]]) -> Int64[np.ndarray, "batch"]:
    """What most decided; among equals, what the earliest-listed of their teachers decided.

    >>> _majority([np.array([0, 1]), np.array([1, 2]), np.array([1, 3])]).tolist()
    [1, 1]
    """
    decided = np.stack(votes)  # [teachers, batch]
    agreeing = np.stack([(decided == vote).sum(0) for vote in votes])  # [teachers, batch]
    return np.asarray(np.take_along_axis(decided, agreeing.argmax(0)[None], axis=0)[0])
