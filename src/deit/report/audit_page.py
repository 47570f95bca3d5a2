"""The page of a label audit: likely wrong labels, objects that leave the crop, confused classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deit.report.page import write_page

FULL_SCORE = 5.0
"""The bar of a score is full from here on: each view is e**5, about 150, times as likely for the
other class."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """An image whose label is likely wrong.

    Attributes:
        name: the image's name.
        label: the class it has.
        suggested: the class that the teacher sees.
        score: how much speaks for a wrong label.
        views: views that count.
        agreement: share of them that decide for the label.
        image: the picture as a data URI.
        small: whether it is to be shown enlarged, pixel by pixel.
    """

    name: str
    label: str
    suggested: str
    score: float
    views: int
    agreement: float
    image: str = ""
    small: bool = False

    @property
    def bar(self) -> float:
        """How far the score's bar goes, 0 to 1."""
        return min(max(self.score / FULL_SCORE, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class LostObject:
    """An image whose object leaves the crop.

    Attributes:
        name: the image's name.
        label: its class.
        views: views that count.
        much: agreement in the half of them that show more.
        little: the same in the half that show less.
        excess: the drop beyond that of its class.
        boxes: whether the label was kept, and left, top, width, height as shares of the image.
        image: the picture as a data URI.
        small: whether it is to be shown enlarged, pixel by pixel.
    """

    name: str
    label: str
    views: int
    much: float
    little: float
    excess: float
    boxes: tuple[tuple[bool, float, float, float, float], ...] = ()
    image: str = ""
    small: bool = False


@dataclass(frozen=True, slots=True)
class ConfusedClasses:
    """Views of images of one label that the teacher decided for another class."""

    label: str
    decided: str
    views: int
    share: float


def write_audit_page(
    path: Path,
    *,
    title: str,
    sentence: str,
    facts: Sequence[tuple[str, str]],
    notes: Sequence[str],
    suspects: Sequence[Suspect],
    losses: Sequence[LostObject],
    no_losses: str,
    classes: Sequence[str],
    matrix: Any,
    pairs: Sequence[ConfusedClasses],
) -> Path:
    """Write one HTML file that opens offline.

    Args:
        path: the file.
        title, sentence, facts: what was audited and what came out.
        notes: what a reader should know.
        suspects, losses, pairs: the first of each ranking.
        no_losses: what to say where there are no losses.
        classes: names of the matrix's rows and columns.
        matrix: whole per cent of decisions by given label; None leaves it out.

    Raises:
        UserError: when the place cannot be written.
    """
    return write_page(
        path,
        "audit.html.j2",
        title=title,
        sentence=sentence,
        facts=facts,
        notes=notes,
        suspects=suspects,
        losses=losses,
        no_losses=no_losses,
        classes=classes,
        matrix=matrix,
        pairs=pairs,
    )
