"""What a check says of images that are equal or look alike: within a split, across splits, across
classes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from deit.data.duplicates import equal_groups, near_groups
from deit.data.findings import Finding, Item
from deit.data.image_findings import usable
from deit.data.survey import Flag, Survey

SMALLEST_SIDE = 16
"""Pixels; smaller pictures are too coarse for looks to tell them apart."""


def duplicate_findings(survey: Survey, near: int) -> list[Finding]:
    """Findings about equal images and, unless ``near`` is 0, about near duplicates.

    A group of equal images stands in every kind that it belongs to; one of near duplicates in the
    first of different labels, different splits, neither.
    """
    good = np.flatnonzero(usable(survey))
    equal = [good[group] for group in equal_groups(survey.facts["pixels"][good])]
    by_kind: dict[str, list[Item]] = {kind: [] for kind in ("labels", "splits", "")}
    for group in equal:
        item = _item(survey, group, {"files": len(np.unique(survey.facts["file"][group]))})
        for kind in _kinds(survey, group):
            by_kind[kind].append(item)
    found = [Finding(_joined("duplicate", kind), items) for kind, items in by_kind.items()]
    return found + (_near_findings(survey, good, equal, near) if near else [])


def too_small(survey: Survey) -> Bool[np.ndarray, "images"]:
    """Which usable images are left out of the search for near duplicates."""
    sides = np.minimum(survey.facts["height"], survey.facts["width"])
    return np.asarray(usable(survey) & (sides < SMALLEST_SIDE))


def _near_findings(
    survey: Survey,
    good: Int64[np.ndarray, "good"],
    equal: Sequence[Int64[np.ndarray, "_"]],
    near: int,
) -> list[Finding]:
    """Each of a group of equal images but the first stays out: it has been reported."""
    facts = survey.facts
    out = too_small(survey) | ((facts["flags"] & Flag.CONSTANT) > 0)
    for group in equal:
        out[group[1:]] = True
    rows = good[~out[good]]
    layouts = facts["layout"]
    by_kind: dict[str, list[Item]] = {kind: [] for kind in ("labels", "splits", "")}
    for places in near_groups(layouts[rows], facts["slopes"][rows], near):
        group = rows[places]
        bits = np.bitwise_count(layouts[group] ^ layouts[group[0]])
        by_kind[_kinds(survey, group)[0]].append(_item(survey, group, {"bits": bits.tolist()}))
    note = f"hashes of how they look differ in up to {near} of 64 bits; --near changes it"
    return [Finding(_joined("near", kind), items, note) for kind, items in by_kind.items()]


def _kinds(survey: Survey, group: Int64[np.ndarray, "group"]) -> list[str]:
    labels = ["labels"] if len(np.unique(survey.labels[group])) > 1 else []
    splits = ["splits"] if len(np.unique(survey.splits[group])) > 1 else []
    return [*labels, *splits] or [""]


def _item(
    survey: Survey, group: Int64[np.ndarray, "group"], values: dict[str, int | Sequence[int]]
) -> Item:
    return Item(tuple(survey.image(row) for row in group.tolist()), values=values)


def _joined(first: str, second: str) -> str:
    return f"{first}-{second}" if second else first
