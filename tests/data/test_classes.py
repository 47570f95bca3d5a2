"""Classes are matched by name, never by place."""

import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deit.data.classes import ClassList, listed
from deit.errors import UserError

NAMES = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=12, unique=True)


@given(NAMES, st.randoms())
def test_mapping_keeps_every_name(names: list[str], order: random.Random) -> None:
    """For any order of the same classes: the name at the mapped place is the name asked for."""
    shuffled = list(names)
    order.shuffle(shuffled)
    here, there = ClassList(tuple(names)), ClassList(tuple(shuffled))
    mapping = here.map_from(there)
    assert [here.names[place] for place in mapping] == shuffled
    assert [here.index(name) for name in shuffled] == mapping.tolist()


FEW = st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True)


@given(FEW, FEW)
def test_lists_that_differ_are_refused(names: list[str], others: list[str]) -> None:
    """Unless the names are the same set, whatever their number; no index is ever guessed."""
    here, there = ClassList(tuple(names)), ClassList(tuple(others))
    if set(names) == set(others):
        assert len(here.map_from(there)) == len(others)
    else:
        with pytest.raises(UserError):
            here.map_from(there)


def test_a_part_of_the_classes_may_be_mapped_if_asked() -> None:
    """A validation split can lack classes; it can never have others."""
    animals = ClassList(("cat", "dog", "fox"))
    assert animals.map_from(ClassList(("fox", "cat")), complete=False).tolist() == [2, 0]
    with pytest.raises(UserError, match=r"those of val/ have what train/ lack: fxo"):
        animals.map_from(
            ClassList(("fxo", "cat")), complete=False, these="train/", others="those of val/"
        )


def test_messages_name_both_sides_and_the_nearest() -> None:
    """What is missing, what is extra, and what it may have been meant to be."""
    with pytest.raises(UserError) as caught:
        ClassList(("cat", "dog")).map_from(ClassList(("Dog", "cat")), others="the teacher's")
    message = str(caught.value)
    assert "the teacher's have what these classes lack: Dog" in message
    assert "the teacher's lack what these classes have: dog" in message
    assert "did you mean dog?" in message


@pytest.mark.parametrize(
    ("names", "message"), [((), "without a class"), (("a", "b", "a"), "stand twice.*: a\n")]
)
def test_a_list_has_each_class_once(names: tuple[str, ...], message: str) -> None:
    """An empty list or a doubled name is an error where the list is made."""
    with pytest.raises(UserError, match=message):
        ClassList(names)


def test_an_unknown_class_is_answered_with_the_nearest() -> None:
    """Bytes that cannot be printed are escaped on the way."""
    with pytest.raises(UserError, match="did you mean tabby cat"):
        ClassList(("tabby cat", "dog")).index("taby cat")
    with pytest.raises(UserError, match=r"no class is called caf\\xe9"):
        ClassList(("dog",)).index("caf\udce9")


def test_class_lists_are_values() -> None:
    """Equal by their names, and whole after a pickle."""
    classes = ClassList(("b", "a"))
    again = pickle.loads(pickle.dumps(classes))
    assert again == classes
    assert hash(again) == hash(classes)
    assert again.index("a") == 1
    assert again != ClassList(("a", "b"))


def test_long_lists_are_cut() -> None:
    """A message names a few and counts the rest."""
    assert listed(str(number) for number in range(1000)).endswith("7 and 992 more")
    assert listed(["a", "b"]) == "a, b"
