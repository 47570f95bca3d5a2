"""What a check says of single images: unusable ones, odd sizes, odd files, odd colours."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool

from deit.data.findings import Finding, Item
from deit.data.survey import FORMATS, Flag, Survey, expected_format

LEAST_SIDE = 16
"""Pixels; a shorter side below it is tiny, unless the model's input is smaller still."""

MOST_ENLARGED = 2
"""An image that has to be enlarged by more than this is tiny."""

MOST_SHRUNK = 4
"""An image whose shorter side is more than so many times the model's input is oversized: less than
a sixteenth of its pixels would do."""

MOST_STRETCHED = 4
"""Length of the longer side by the shorter one's."""


def image_findings(survey: Survey, image_size: int) -> list[Finding]:
    """Findings about single images.

    Args:
        survey: the images.
        image_size: side of the model's input, pixels.
    """
    return [
        *_unusable(survey),
        *_sizes(survey, image_size),
        _wrong_suffixes(survey),
        _flagged(survey, "constant", Flag.CONSTANT),
        _odd_colours(survey),
        _flagged(survey, "transparent", Flag.TRANSPARENT),
        _flagged(survey, "turned", Flag.TURNED),
        _flagged(survey, "cmyk", Flag.CMYK),
        _flagged(survey, "animated", Flag.ANIMATED),
    ]


def usable(survey: Survey) -> Bool[np.ndarray, "images"]:
    """Which images could be decoded."""
    return np.asarray((survey.facts["flags"] & Flag.UNUSABLE) == 0)


def _unusable(survey: Survey) -> list[Finding]:
    large = set(survey.having(Flag.TOO_LARGE).tolist())
    return [
        Finding(
            kind,
            [
                Item((survey.image(row),), values={"reason": reason})
                for row, reason in sorted(survey.reasons.items())
                if (row in large) == (kind == "too-large")
            ],
        )
        for kind in ("unusable", "too-large")
    ]


def _sizes(survey: Survey, image_size: int) -> list[Finding]:
    heights = survey.facts["height"].astype(np.int64)
    widths = survey.facts["width"].astype(np.int64)
    shorter, longer = np.minimum(heights, widths), np.maximum(heights, widths)
    good = usable(survey)
    tiny = (shorter < min(LEAST_SIDE, image_size)) | (shorter * MOST_ENLARGED < image_size)
    large = shorter > MOST_SHRUNK * image_size
    long = longer > MOST_STRETCHED * shorter

    def finding(kind: str, which: Bool[np.ndarray, "images"], note: str) -> Finding:
        rows = np.flatnonzero(which & good)
        items = [
            Item(
                (survey.image(row),),
                values={"width": int(widths[row]), "height": int(heights[row])},
            )
            for row in rows.tolist()
        ]
        return Finding(kind, items, note)

    return [
        finding(
            "tiny",
            tiny,
            f"a side below {min(LEAST_SIDE, image_size)} px, or enlarged more than "
            f"{MOST_ENLARGED} times for an input of {image_size} px",
        ),
        finding(
            "oversized",
            large,
            f"the shorter side is more than {MOST_SHRUNK} times the input's {image_size} px",
        ),
        finding("stretched", long, f"one side is more than {MOST_STRETCHED} times the other"),
    ]


def _wrong_suffixes(survey: Survey) -> Finding:
    items = []
    for row in survey.having(Flag.WRONG_SUFFIX).tolist():
        image = survey.image(row)
        found = FORMATS[survey.facts["format"][row]]
        items.append(
            Item((image,), values={"content": found, "ending": expected_format(image.name)})
        )
    return Finding("wrong-suffix", items)


def _odd_colours(survey: Survey) -> Finding:
    """The fewer of grey and colour images, where there are both."""
    good = usable(survey)
    grey = (survey.facts["flags"] & Flag.GREY) > 0
    greys, colours = np.flatnonzero(good & grey), np.flatnonzero(good & ~grey)
    fewer = greys if len(greys) <= len(colours) else colours
    note = f"{len(greys):,} grey and {len(colours):,} colour images"
    return Finding("odd-colour", _items(survey, fewer.tolist()), note)


def _flagged(survey: Survey, kind: str, flag: Flag) -> Finding:
    rows = survey.having(flag)
    return Finding(kind, _items(survey, rows[usable(survey)[rows]].tolist()))


def _items(survey: Survey, rows: Iterable[int]) -> list[Item]:
    return [Item((survey.image(row),)) for row in rows]
