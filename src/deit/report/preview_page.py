"""The page of `deit data preview`: each view beside its image, with what was done."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deit.report.page import write_page


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture on the page.

    Attributes:
        name: what it is.
        image: the picture as a data URI.
        small: whether it is to be shown enlarged, pixel by pixel.
    """

    name: str
    image: str
    small: bool


@dataclass(frozen=True, slots=True)
class Card:
    """A view with what it was made of.

    Attributes:
        view: the finished view.
        source: its image.
        partner: the image that it is mixed with; None where it is not.
        targets: classes and weights, the heaviest first.
        box: left, top, width and height of the crop as shares of the image.
        words: what was done, in order.
    """

    view: Shown
    source: Shown
    partner: Shown | None
    targets: tuple[tuple[str, float], ...]
    box: tuple[float, float, float, float]
    words: tuple[str, ...]


def write_preview_page(
    path: Path, *, title: str, facts: Sequence[tuple[str, str]], cards: Sequence[Card]
) -> Path:
    """Write one HTML file that opens offline.

    Args:
        path: the file.
        title: how the data are called.
        facts: the settings that made the views.
        cards: the views.

    Raises:
        UserError: when the place cannot be written.
    """
    return write_page(path, "preview.html.j2", title=title, facts=facts, cards=cards)
