"""Whether a teacher's answer to an image is that image's, and always the same.

The same images are asked about twice, in batches of other neighbours. A network in evaluation mode
gives the same answers, up to rounding. One whose batch norms use the batch's own statistics does
not, however accurate it is: its labels hang on which images happen to share a batch, so none could
be stored and found again. Answers that stand in a neighbour's row move with the neighbour, and give
themselves away without any label.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

TOLERANCE = 0.02
"""How far answers to one image may differ: root mean square, as a share of the logits' spread."""

TOLERANCE_HALF = 0.05
"""The same under autocast to 16 bits, whose numbers are 2**16 times coarser than float32's."""

SHARE = 0.9
"""Share of the images asked twice whose answers have to agree."""

Finding = Literal["same", "shifted", "neighbours", "random"]


@dataclass(frozen=True, slots=True)
class SecondAsking:
    """What came of asking some images again.

    Attributes:
        finding: "same"; "shifted": row i answers image ``i - shift``; "neighbours": the answer to
            an image depends on the others in its batch; "random": it differs even in the same
            batch.
        agreeing: the share of images whose two answers agree.
        deviation: median root-mean-square difference of the logits, as a share of their spread.
        changed: the share of images that are decided otherwise.
        shift: rows, for "shifted".
        asked: images that were asked about.
    """

    finding: Finding
    agreeing: float
    deviation: float
    changed: float
    shift: int
    asked: int


def ask_again(
    ask: Callable[[Tensor], Tensor],
    images: Tensor,
    logits: Float[Tensor, "images classes"],
    batch_size: int,
    tolerance: float,
) -> SecondAsking:
    """Ask about up to two batches of images again, among other neighbours.

    Args:
        ask: images -> logits.
        images: the whole sample, two or more.
        logits: what was answered when they were asked in their order, ``batch_size`` at a time.
        batch_size: images per question.
        tolerance: `TOLERANCE` or `TOLERANCE_HALF`.
    """
    batches = other_batches(len(images), batch_size)
    again = [ask(images[torch.from_numpy(batch)]).to(logits) for batch in batches]
    places = torch.from_numpy(np.concatenate(batches))
    spread = float(logits.std(dim=1).mean()) or 1.0

    def deviations(shift: int) -> Float[Tensor, "asked"]:
        """Per image, were row i the answer to image i - shift in both askings."""
        first = torch.cat([part.roll(-shift, 0) for part in torch.split(logits, batch_size)])[
            places
        ]
        second = torch.cat([part.roll(-shift, 0) for part in again])
        return (second - first).square().mean(1).sqrt() / spread

    apart, asked = deviations(0), len(places)
    agreeing = _share(apart <= tolerance)
    changed = _share(torch.cat(again).argmax(1) != logits[places].argmax(1))
    facts = (agreeing, float(apart.median()), changed)
    if agreeing >= SHARE:
        return SecondAsking("same", *facts, 0, asked)
    for shift in _shifts(len(batches[0])):
        if _share(deviations(shift) <= tolerance) >= SHARE:
            return SecondAsking("shifted", *facts, shift, asked)
    once_more = ask(images[torch.from_numpy(batches[0])]).to(logits)
    same = (once_more - again[0]).square().mean(1).sqrt() / spread <= tolerance
    finding: Finding = "neighbours" if _share(same) >= SHARE else "random"
    return SecondAsking(finding, *facts, 0, asked + len(batches[0]))


def other_batches(num_images: int, batch_size: int) -> list[Int64[np.ndarray, "batch"]]:
    """Up to two batches in which no image has a neighbour that it had before.

    Every second image, or every k-th of a larger sample, from the last to the first. Where all fit
    into one batch, these are halves: batch statistics differ by then, too.

    >>> [batch.tolist() for batch in other_batches(6, batch_size=32)]
    [[4, 2, 0], [5, 3, 1]]
    """
    step = max(2, num_images // batch_size)
    return [np.arange(start, num_images, step)[:batch_size][::-1].copy() for start in (0, 1)]


def _shifts(rows: int) -> list[int]:
    """Every shift of a batch, nearest first: 1, -1, 2, -2, ..."""
    return [sign * step for step in range(1, rows // 2 + 1) for sign in (1, -1)]


def _share(flags: Bool[Tensor, "images"]) -> float:
    return float(flags.float().mean())
