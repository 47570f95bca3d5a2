"""What a check says of classes: which a split lacks, how many images they have, names alike."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from deit.data.classes import ClassList
from deit.data.findings import Finding, Item
from deit.data.spellings import normal_form

FEW = 10
"""Training images; a class with fewer learns little."""

MOST_UNEVEN = 10
"""The largest class has more than so many times the images of the smallest."""

_LEAST_LETTERS = 6  # a letter more or less makes another word of a shorter name

_LEADING_ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")


def class_findings(
    classes: ClassList, counts: Mapping[str, Int64[np.ndarray, "classes"]]
) -> list[Finding]:
    """Findings about classes.

    Args:
        classes: the classes of all splits.
        counts: images of each of them, for each split: ``train``, ``val``.
    """
    names = np.array(classes.names, dtype=object)
    findings = [_alike_names(classes.names)]
    train, val = counts.get("train"), counts.get("val")
    if train is not None:
        findings += [_few_images(names, train), _imbalance(names, train)]
    if train is not None and val is not None:
        findings += [_unknown(names, train, val), _named("empty-class", names[(train + val) == 0])]
        findings.append(_named("unmeasured-class", names[(train > 0) & (val == 0)]))
    elif train is not None:
        findings.append(_named("empty-class", names[train == 0]))
    return findings


def alike_names(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Names that are nearly alike, in groups: in other letters or signs, in the plural, mistyped.

    Numbers are alike where only zeros in front of them differ.

    >>> alike_names(["cat", "dog", "Cats", "elephant", "elephnt", "2", "3", "02"])
    [('cat', 'Cats'), ('elephant', 'elephnt'), ('2', '02')]
    """
    groups: dict[str, list[str]] = {}
    leader: dict[str, str] = {}
    for name in names:
        keys = _keys(name)
        first = next((leader[key] for key in keys if key in leader), name)
        groups.setdefault(first, []).append(name)
        for key in keys:
            leader.setdefault(key, first)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _unknown(
    names: np.ndarray, train: Int64[np.ndarray, "classes"], val: Int64[np.ndarray, "classes"]
) -> Finding:
    """Classes that only val has, each with the one of train that is spelled nearly like it."""
    lacking = names[(train == 0) & (val > 0)].tolist()
    alike = alike_names(names.tolist())
    known = set(names[train > 0].tolist())
    items = []
    for name in lacking:
        near = [other for group in alike if name in group for other in group if other in known]
        items.append(Item(classes=(name,), values={"like": near[0]} if near else {}))
    return Finding("unknown-class", items)


def _few_images(names: np.ndarray, train: Int64[np.ndarray, "classes"]) -> Finding:
    few = np.flatnonzero((train > 0) & (train < FEW)).tolist()
    items = [Item(classes=(names[place],), values={"images": int(train[place])}) for place in few]
    return Finding("few-images", items, f"fewer than {FEW} training images")


def _imbalance(names: np.ndarray, train: Int64[np.ndarray, "classes"]) -> Finding:
    """The largest and the smallest class that has images, where they differ much."""
    note = f"the largest has more than {MOST_UNEVEN} times the images of the smallest"
    there = np.flatnonzero(train)
    if len(there) == 0:
        return Finding("imbalance", [], note)
    ends = there[[train[there].argmax(), train[there].argmin()]]
    if train[ends[0]] <= MOST_UNEVEN * train[ends[1]]:
        return Finding("imbalance", [], note)
    items = [Item(classes=(names[end],), values={"images": int(train[end])}) for end in ends]
    return Finding("imbalance", items, note)


def _alike_names(names: Sequence[str]) -> Finding:
    return Finding("alike-names", [Item(classes=group) for group in alike_names(names)])


def _named(kind: str, names: Iterable[str]) -> Finding:
    return Finding(kind, [Item(classes=(name,)) for name in names])


def _keys(name: str) -> list[str]:
    """What two names that are nearly alike have in common: one of these.

    A letter replaced in both is the same place with another letter; one replaced here and added
    there is one letter more.
    """
    word = "".join(letter for letter in normal_form(name).casefold() if letter.isalnum())
    if sum(letter.isalpha() for letter in word) < 2:
        return [_LEADING_ZEROS.sub("", name)]  # else digits and signs mean what they say
    stem = word[:-1] if word.endswith("s") and len(word) > 3 else word
    if any(letter.isdigit() for letter in stem) or len(stem) < _LEAST_LETTERS:
        return [stem]
    replaced = [f"{stem[:place]}?{stem[place + 1 :]}" for place in range(len(stem))]
    added = [f"{stem[:place]}?{stem[place:]}" for place in range(len(stem) + 1)]
    return [stem, *replaced, *added]
