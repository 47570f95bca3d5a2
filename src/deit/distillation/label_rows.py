"""One row of a label store: what is kept of a teacher's answer on one view, and in which bytes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from deit.errors import UserError

LARGEST_SHORT = 65_534
"""Up to so many classes a label takes two bytes; the largest number is kept for "unfilled"."""

Rows = np.ndarray
"""Rows of a store: a structured array ``[views]`` of `RowFormat.dtype`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFormat:
    """What a store keeps of each view.

    Attributes:
        num_classes: how many classes the labels tell apart.
        top_k: how many of the largest probabilities are kept; 0 for none.
        temperature: tau of the softmax that they were taken from, ``psi(Z_t / tau)``.
        confidence: whether the largest probability at temperature 1 is kept.

    >>> RowFormat(num_classes=1000).dtype.itemsize, RowFormat(num_classes=70_000).dtype.itemsize
    (2, 4)
    >>> RowFormat(num_classes=1000, top_k=5, confidence=True).dtype.itemsize
    24
    """

    num_classes: int
    top_k: int = 0
    temperature: float = 1.0
    confidence: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.top_k <= self.num_classes:
            raise UserError(
                f"top_k = {self.top_k} with {self.num_classes} classes",
                f"0 to {self.num_classes}",
                "keep fewer probabilities; 0 keeps the decision only",
            )
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"temperature = {self.temperature}", "a number above 0", "correct it")

    @property
    def dtype(self) -> np.dtype[Any]:
        """One row: label, confidence, then ``top_k`` classes and their probabilities.

        Aligned, so that no number lies on two sectors of a disk.
        """
        label = "<u2" if self.num_classes <= LARGEST_SHORT else "<u4"
        fields: list[Any] = [("label", label)]
        if self.confidence:
            fields.append(("confidence", "<f2"))
        if self.top_k:
            fields += [("classes", label, (self.top_k,)), ("probabilities", "<f2", (self.top_k,))]
        return np.dtype(fields, align=True)

    def empty(self, count: int) -> Rows:
        """Rows that are unfilled: every bit set."""
        size = count * self.dtype.itemsize
        return np.frombuffer(bytearray(b"\xff" * size), dtype=self.dtype)

    def filled(self, rows: Rows) -> Bool[np.ndarray, "views"]:
        """Which rows hold an answer: those in which no field is unfilled.

        The label alone would tell after a killed writer; after a power loss, parts of a row that
        lie on different sectors of the disk may have been kept and lost.
        """
        unfilled = rows["label"] == np.iinfo(rows["label"].dtype).max
        if self.confidence:
            unfilled |= np.isnan(rows["confidence"])
        if self.top_k:
            unfilled |= np.isnan(rows["probabilities"]).any(-1)
            unfilled |= (rows["classes"] == np.iinfo(rows["classes"].dtype).max).any(-1)
        return np.asarray(~unfilled)

    def encode(self, logits: Float32[np.ndarray, "views classes"]) -> Rows:
        """A teacher's logits as rows.

        Args:
            logits: finite, one per class.

        >>> rows = RowFormat(num_classes=3, top_k=2).encode(np.float32([[0, 9, 1]]))
        >>> rows["label"].tolist(), rows["classes"].tolist()
        ([1], [[1, 2]])
        """
        rows = self.empty(len(logits))
        rows["label"] = logits.argmax(-1)  # of equals the lowest class
        if self.confidence:
            rows["confidence"] = _softmax(logits).max(-1)
        if self.top_k:
            probabilities = _softmax(logits / np.float32(self.temperature))
            classes = np.argsort(-probabilities, axis=-1, kind="stable")[:, : self.top_k]
            rows["classes"] = classes
            rows["probabilities"] = np.take_along_axis(probabilities, classes, axis=-1)
        return rows

    def probabilities(self, rows: Rows) -> Float32[np.ndarray, "views classes"]:
        """psi(Z_t / tau) of filled rows, as far as it was kept.

        What the kept probabilities leave of 1 is spread evenly over the other classes, as in FKD.
        No probability is below 2**-25, half of the smallest float16, so that logarithms are finite.

        >>> row_format = RowFormat(num_classes=3, top_k=2)
        >>> rows = row_format.encode(np.log(np.float32([[0.125, 0.625, 0.25]])))
        >>> row_format.probabilities(rows).round(3).tolist()
        [[0.125, 0.625, 0.25]]
        """
        kept = rows["probabilities"].astype(np.float32)  # [views, top_k]
        rest = np.clip(1 - kept.sum(-1, keepdims=True), 0, 1)
        spread = rest / max(self.num_classes - self.top_k, 1)
        answer = np.repeat(spread, self.num_classes, axis=-1)
        np.put_along_axis(answer, rows["classes"].astype(np.int64), kept, axis=-1)
        answer = np.maximum(answer, np.float32(2**-25))
        return np.asarray(answer / answer.sum(-1, keepdims=True), dtype=np.float32)


def _softmax(logits: Float32[np.ndarray, "views classes"]) -> Float32[np.ndarray, "views classes"]:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))
