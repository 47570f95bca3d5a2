"""Classes are found by their names in any spelling, or refused; never by their place."""

import random

import pytest
from timm.data import ImageNetInfo

from deit.data.classes import ClassList
from deit.data.spellings import (
    Match,
    described,
    imagenet_ids,
    match_classes,
    normal_form,
    spellings,
    with_imagenet_ids,
)
from deit.errors import UserError

WORDS = ["red fox", "arctic fox", "grey wolf", "house cat", "polar bear", "wild boar", "sea lion"]
IMAGENET = ClassList(imagenet_ids())


def places(names, known=IMAGENET):
    return match_classes(names, known, "the teacher").places


def respell(name, draw):
    """The same name as somebody else would write it."""
    signs = draw.choice((" ", "_", "-", "  "))
    return draw.choice((str.title, str.upper, str.lower, str))(name.replace(" ", signs))


def perturbed(draw):
    """Names for some data, with each one's true place among WORDS; None where there is none."""
    chosen = draw.sample(range(len(WORDS)), draw.randint(1, len(WORDS)))
    names = [(respell(WORDS[place], draw), place) for place in chosen]
    for change in draw.choices(("none", "unknown", "typing error", "twice"), (4, 1, 1, 1), k=2):
        spot = draw.randrange(len(names))
        name, place = names[spot]
        if change == "unknown":
            names.insert(spot, (draw.choice(("okapi", "fox", "wolf grey", "redfox")), None))
        elif change == "typing error":
            names[spot] = (name + "s", None)
        elif change == "twice" and place is not None:
            names.append((draw.choice((name.swapcase(), f"{name} ", name + "\t")), place))
    unique = dict(names)
    return list(unique), list(unique.values())


def test_a_thousand_perturbed_lists_are_mapped_by_name_or_refused():
    """Permuted, shortened, lengthened, respelled, renamed, doubled: no class ever shifts."""
    counts = {"mapped": 0, "refused": 0}
    for seed in range(1000):
        draw = random.Random(seed)
        names, truth = perturbed(draw)
        order = draw.sample(range(len(WORDS)), len(WORDS))  # the teacher's own order
        known = ClassList(tuple(WORDS[place] for place in order))
        if None in truth or len(set(truth)) < len(truth):
            with pytest.raises(UserError):
                places(names, known)
            counts["refused"] += 1
        else:
            assert [order[place] for place in places(names, known)] == truth
            counts["mapped"] += 1
    assert min(counts.values()) > 100


def test_every_unshared_word_of_imagenet_names_its_class():
    """All lemmas of all 1000 descriptions, counted here anew: its class, or a refusal."""
    info = ImageNetInfo("imagenet-1k")
    owners: dict[str, set[int]] = {}
    for place, name in enumerate(info.label_names()):
        for word in info.label_name_to_description(name).split(","):
            owners.setdefault(word.strip().lower(), set()).add(place)
    unshared = {word: min(ids) for word, ids in owners.items() if len(ids) == 1}
    while unshared:  # one word of each class at a time: two would be one class twice
        at_once = {place: word for word, place in unshared.items()}
        assert places([word.upper().replace(" ", "_") for word in at_once.values()]) == (*at_once,)
        unshared = {word: p for word, p in unshared.items() if word not in at_once.values()}
    shared = [word for word, ids in owners.items() if len(ids) > 1]
    for word in shared:
        with pytest.raises(UserError, match="several classes that could be meant"):
            places([word])
    assert len(shared) == 19


@pytest.mark.parametrize("known", [IMAGENET, ClassList(("n02012849", "n01440764"))])
def test_ambiguous_words_are_refused_with_what_they_could_mean(known):
    """Also by a teacher that knows only one of the two cranes: the data may mean the other."""
    with pytest.raises(UserError) as caught:
        places(["crane", "tench"], known)
    assert "n02012849 (crane), n03126707 (crane)" in caught.value.given
    assert "ids above" in caught.value.todo


def test_words_are_found_from_ids_too():
    """A teacher trained on folders in words, data in WordNet ids: unless the word is shared."""
    teacher = ClassList(("Goldfish", "tench", "crane"))
    assert places(["n01440764", "n01443537"], teacher) == (1, 0)
    with pytest.raises(UserError, match=r"does not know.*n02012849"):
        places(["n02012849"], teacher)


def test_the_name_itself_comes_first():
    """Equal names are the same class whatever else could be spelled so."""
    assert places(["cat", "Cat"], ClassList(("Cat", "cat"))) == (1, 0)
    with pytest.raises(UserError, match=r"could be meant: CAT \(Cat, cat\)"):
        places(["CAT"], ClassList(("Cat", "cat")))


@pytest.mark.parametrize(
    "names", [("tench", "n01440764"), ("tench", "Tinca tinca"), ("A b", "a b")]
)
def test_two_names_of_one_class_are_refused(names):
    """They would share a logit, and one of them would never be right."""
    known = IMAGENET if "tench" in names else ClassList(("aa b", "a b"))
    with pytest.raises(UserError):
        places(names, known)


@pytest.mark.parametrize("name", ["a", "P", "-1", "1_2", "+"])
def test_letters_and_numbers_have_one_spelling(name):
    """A and a are two letters, 1 and -1 two numbers."""
    assert spellings(name) == {name}
    with pytest.raises(UserError):
        places([name.swapcase() if name.isalpha() else f"{name}_"], ClassList((name, "zz")))


def test_letters_taken_apart_are_the_same_letters():
    """macOS writes é as two characters."""
    assert normal_form("cafe\u0301") == normal_form("Café")


def test_what_was_matched_otherwise_is_said():
    """Nothing for equal names; pairs, with the words of an id, for others."""
    assert match_classes(["n01440764"], IMAGENET, "T").notes("T") == ()
    (note,) = match_classes(["Tench"], IMAGENET, "T").notes("T")
    assert note == "T spells classes in another way: Tench = n01440764 (tench, Tinca tinca)"
    assert Match((1, 0)).notes("T") == ()
    assert described("n99999999") == "n99999999"


def test_imagenets_list_in_words_becomes_ids():
    """Both cranes; a class of one's own keeps its name, and another order is left alone."""
    info = ImageNetInfo("imagenet-1k")
    words = [info.label_name_to_description(name) for name in info.label_names()]
    assert with_imagenet_ids(words) == imagenet_ids() == tuple(info.label_names())
    changed = ["my own class", *words[1:]]
    assert with_imagenet_ids(changed) == ("my own class", *imagenet_ids()[1:])
    assert with_imagenet_ids(["background", *words]) == ("background", *imagenet_ids())
    assert with_imagenet_ids(words[::-1]) == tuple(words[::-1])
    assert with_imagenet_ids(words[:10]) == tuple(words[:10])
