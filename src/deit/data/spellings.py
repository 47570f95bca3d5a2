"""Other spellings of a class name, and the matching of two lists of names (decision record 0013).

The same name always means the same class. Beyond that a name may be written in another case, with
underscores or hyphens for spaces, or in plain words where the other list has ImageNet's WordNet
ids. A spelling that could mean two classes means none.
"""

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deit.data.classes import ClassList, listed
from deit.data.names import printable
from deit.errors import UserError, did_you_mean

_WORDNET_ID = re.compile(r"n\d{8}")
_BETWEEN_WORDS = re.compile(r"(?<=\w)[\s_-]+(?=\w)")
_A_WORD = re.compile(r"[^\W\d_]{2}")  # two letters in a row


@dataclass(frozen=True, slots=True)
class Match:
    """Where each of some classes stands in another list.

    Attributes:
        places: the index there of each class here.
        respelled: pairs (name here, name there) of those that are not written alike.
    """

    places: tuple[int, ...]
    respelled: tuple[tuple[str, str], ...] = ()

    def notes(self, whose: str) -> tuple[str, ...]:
        """What a person should know of the matching, in no sentence or in one."""
        if not self.respelled:
            return ()
        pairs = listed(f"{here} = {described(there)}" for here, there in self.respelled)
        return (f"{whose} spells classes in another way: {pairs}",)


def match_classes(names: Sequence[str], known: ClassList, whose: str) -> Match:
    """Find each of ``names`` in another list, by the name itself or else by its one spelling.

    Args:
        names: the classes to find, all different.
        known: the list to find them in; it may have more.
        whose: how that list's owner is called in messages.

    >>> match_classes(["Red_Fox", "cat"], ClassList(("cat", "red fox", "dog")), "the teacher")
    Match(places=(1, 0), respelled=(('Red_Fox', 'red fox'),))

    Raises:
        UserError: naming the classes that have no partner, several, or one that another has too.
    """
    if all(name in known for name in names):
        return Match(tuple(known.index(name) for name in names))
    by_spelling = _by_spelling(known)
    found: dict[str, int] = {}
    unknown, unclear = [], []
    for name in names:
        candidates = {known.index(name)} if name in known else _found(name, by_spelling)
        if len(candidates) == 1:
            found[name] = candidates.pop()
        elif senses := [known.names[place] for place in sorted(candidates)] or _senses(name, known):
            unclear.append(f"{printable(name)} ({listed(map(described, senses))})")
        else:
            unknown.append(name)
    uses = Counter(found.values())
    twice = [name for name, place in found.items() if uses[place] > 1]
    if unknown or unclear or twice:
        raise _refusal(whose, known, list(by_spelling), unknown, unclear, twice)
    respelled = [(name, known.names[place]) for name, place in found.items()]
    return Match(
        tuple(found[name] for name in names),
        tuple((here, there) for here, there in respelled if here != there),
    )


def find_classes(names: Sequence[str], known: ClassList) -> tuple[int | None, ...]:
    """Like `match_classes`, with None for a class that has no partner or no single one.

    >>> find_classes(["Red_Fox", "cow"], ClassList(("cat", "red fox")))
    (1, None)
    """
    missing = any(name not in known for name in names)
    by_spelling = _by_spelling(known) if missing else {}
    places = [{known.index(name)} if name in known else _found(name, by_spelling) for name in names]
    uses = Counter(min(found) for found in places if len(found) == 1)
    single = (min(found) if len(found) == 1 else None for found in places)
    return tuple(place if place is not None and uses[place] == 1 else None for place in single)


def spellings(name: str) -> frozenset[str]:
    """The normal forms under which a class may be found, its own among them.

    For one of ImageNet's WordNet ids also its words, one by one and all together, without those
    that name two of ImageNet's classes. A name without two letters in a row (a digit, a sign, the
    letters ``a`` and ``A``) has no other spelling than itself.

    >>> sorted(spellings("Red_Fox")), sorted(spellings("a")), sorted(spellings("-1"))
    (['red fox'], ['a'], ['-1'])
    >>> sorted(spellings("n01440764"))
    ['n01440764', 'tench', 'tench, tinca tinca', 'tinca tinca']
    """
    own = normal_form(name)
    if not _WORDNET_ID.fullmatch(own):
        return frozenset({own})
    return frozenset({own, *(word for word in _words_of(own) if len(_classes_called(word)) == 1)})


def _by_spelling(known: ClassList) -> dict[str, set[int]]:
    """The places of the classes that a spelling may mean."""
    places: dict[str, set[int]] = {}
    for place, name in enumerate(known.names):
        for spelling in spellings(name):
            places.setdefault(spelling, set()).add(place)
    return places


def normal_form(name: str) -> str:
    """Case, spaces and signs between words made alike; what is no word stays as it is.

    >>> normal_form("Great-White  Shark"), normal_form("A"), normal_form("-1")
    ('great white shark', 'A', '-1')
    """
    composed = unicodedata.normalize("NFC", name)  # some file systems take letters apart
    if not _A_WORD.search(composed) and not _WORDNET_ID.fullmatch(composed):
        return composed
    return _BETWEEN_WORDS.sub(" ", composed.strip()).casefold()


def described(name: str) -> str:
    """A WordNet id of ImageNet with its words behind it; any other name as it is.

    >>> described("n02012849"), described("cat")
    ('n02012849 (crane)', 'cat')
    """
    words = _imagenet().get(name) if _WORDNET_ID.fullmatch(name) else None
    return name if words is None else f"{name} ({words})"


def imagenet_ids() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1000 classes, in the order of every published ImageNet head."""
    return tuple(_imagenet())


def with_imagenet_ids(names: Sequence[str]) -> tuple[str, ...]:
    """The list with WordNet ids where it is ImageNet's 1000 classes in words, in ImageNet's order.

    As transformers' configurations have it, where two classes are called crane; a class of the
    background may come first. Ten classes may be described in words of their own: they keep them.
    Any other list is returned as it is.
    """
    if len(names) not in (1000, 1001):
        return tuple(names)
    background, classes = tuple(names[:-1000]), names[-1000:]
    alike = [
        bool(set(_parts(name)) & set(_words_of(wordnet_id)))
        for name, wordnet_id in zip(classes, imagenet_ids(), strict=True)
    ]
    if sum(alike) < 990:
        return tuple(names)
    both = zip(classes, imagenet_ids(), alike, strict=True)
    return background + tuple(wordnet_id if same else name for name, wordnet_id, same in both)


@functools.cache
def _imagenet() -> dict[str, str]:
    """Words of each of ImageNet's 1000 classes, by WordNet id, in ImageNet's order."""
    from timm.data import ImageNetInfo  # it brings torch along

    info = ImageNetInfo("imagenet-1k")
    return {name: info.label_name_to_description(name) for name in info.label_names()}


def _words_of(wordnet_id: str) -> list[str]:
    """Normal forms of a class's words, one by one and all together; none outside of ImageNet."""
    return _parts(_imagenet().get(wordnet_id, ""))


def _parts(words: str) -> list[str]:
    parts = [normal_form(part.strip()) for part in words.split(",")]
    return [part for part in dict.fromkeys([*parts, normal_form(words)]) if part]


@functools.cache
def _by_word() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for wordnet_id in _imagenet():
        for word in _words_of(wordnet_id):
            found.setdefault(word, []).append(wordnet_id)
    return {word: tuple(ids) for word, ids in found.items()}


def _classes_called(word: str) -> tuple[str, ...]:
    """The ids of all of ImageNet's classes that a word names."""
    return _by_word().get(word, ())


def _found(name: str, by_spelling: Mapping[str, set[int]]) -> set[int]:
    return {place for spelling in spellings(name) for place in by_spelling.get(spelling, ())}


def _senses(name: str, known: ClassList) -> list[str]:
    """The classes that an ambiguous word of ImageNet's could mean, where the list has any."""
    senses = list(_classes_called(normal_form(name))) if _has_ids(known) else []
    return senses if any(sense in known for sense in senses) else []


def _has_ids(known: ClassList) -> bool:
    return any(_WORDNET_ID.fullmatch(name) for name in known.names)


def _refusal(
    whose: str,
    known: ClassList,
    written: list[str],
    unknown: list[str],
    unclear: list[str],
    twice: list[str],
) -> UserError:
    said = []
    if unknown:
        said.append(f"{whose} does not know these classes of the data: {listed(unknown)}")
    if unclear:
        said.append(f"{whose} has several classes that could be meant: {'; '.join(unclear[:8])}")
    if twice:
        said.append(f"several classes of the data are the same one of {whose}: {listed(twice)}")
    near = printable(did_you_mean(normal_form(unknown[0]), written)) if unknown else ""
    renaming = near or "rename the data's class folders" + (
        " to the ids above" if unclear and _has_ids(known) else ""
    )
    return UserError(
        "\n".join(said),
        f"its own {len(known)} classes: {listed(known.names)}",
        f"{renaming}; or fit a teacher to all of the data's classes: `deit teacher DATA --arch "
        "timm:regnety_160.deit_in1k` adapts a published network, `deit teacher DATA` trains one",
    )
