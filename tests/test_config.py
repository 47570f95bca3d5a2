"""Dataclass trees to and from YAML, by strict rules."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deit.config import (
    Difference,
    convert,
    differences,
    field_docs,
    flatten,
    from_plain,
    merge,
    override,
    read_yaml,
    to_plain,
    to_yaml,
)
from deit.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """One kind of model."""

    kind: Literal["tokens"] = "tokens"

    depth: int = 12
    """Number of
    blocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Convolutions:
    """The other kind of model."""

    kind: Literal["convolutions", "convs"] = "convolutions"

    width: int = 32
    """Channels of the first stage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Average:
    """An optional part."""

    decay: float = 0.5
    """Weight of the past."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """A part whose `kind` is a field like any other."""

    kind: Literal["soft", "hard"] = "hard"
    weight: float = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A small tree with a field of every sort."""

    name: str
    lr: float = 5e-4
    epochs: int = 300
    token: bool = True
    clip: float | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    milestones: tuple[int, ...] = ()
    loss: Loss = field(default_factory=Loss)
    model: Tokens | Convolutions = field(default_factory=Tokens)
    average: Average | None = None


recipes = st.builds(
    Recipe,
    name=st.text(),
    lr=st.floats(allow_nan=False),
    epochs=st.integers(),
    token=st.booleans(),
    clip=st.none() | st.floats(allow_nan=False),
    scale=st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    milestones=st.lists(st.integers()).map(tuple),
    loss=st.builds(Loss, kind=st.sampled_from(["soft", "hard"])),
    model=st.builds(Tokens, depth=st.integers()) | st.builds(Convolutions, width=st.integers()),
    average=st.none() | st.builds(Average, decay=st.floats(allow_nan=False)),
)


@given(recipes)
def test_yaml_gives_back_what_was_written(recipe: Recipe) -> None:
    """Bit for bit, whatever the values; read by PyYAML, not by our own reader."""
    assert from_plain(Recipe, yaml.safe_load(to_yaml(recipe))) == recipe


@given(recipes, recipes)
def test_overriding_with_all_leaves_makes_the_other_recipe(old: Recipe, new: Recipe) -> None:
    """Whatever the starting point, other kinds and optional parts included."""
    plain = {path: to_plain_leaf(value) for path, value in flatten(new).items()}
    assert override(old, plain) == new
    assert merge(old, to_plain(new)) == new


def to_plain_leaf(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("hint", "given", "expected"),
    [
        (float, "1e-3", 0.001),
        (float, 1, 1.0),
        (float, "inf", float("inf")),
        (int, "12", 12),
        (int, 3.0, 3),
        (int, 2**60 + 1, 2**60 + 1),
        (bool, "no", False),
        (bool, True, True),
        (float | None, "none", None),
        (float | None, "2", 2.0),
        (str | None, "x", "x"),
        (tuple[float, float], "0.1,1", (0.1, 1.0)),
        (tuple[float, float], "[0.1, 1]", (0.1, 1.0)),
        (tuple[int, ...], 7, (7,)),
        (tuple[int, ...], "[]", ()),
        (Literal["a", "b"], "b", "b"),
    ],
)
def test_values_are_converted_by_annotation(hint: Any, given: Any, expected: Any) -> None:
    """PyYAML reads 1e-3 as a text, and a command line gives nothing but texts."""
    converted = convert(hint, given, "recipe.x")
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("hint", "given"),
    [
        (float, "fast"),
        (float, True),
        (float, None),
        (float, "nan"),
        (int, 2.5),
        (int, "2.5"),
        (int, float("inf")),
        (int, [1]),
        (bool, 1),
        (str, 3),
        (tuple[float, float], "1,2,3"),
        (tuple[int, ...], "[1, 2"),
        (Literal["a", "b"], "c"),
        (float | None, "fast"),
        (Loss, 3),
        (Tokens | Convolutions, "tokens"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(hint: Any, given: Any) -> None:
    """Nothing is guessed and nothing is dropped."""
    with pytest.raises(UserError) as caught:
        convert(hint, given, "recipe.x")
    assert caught.value.given.startswith("recipe.x")
    assert caught.value.allowed


def test_an_unknown_key_is_refused_and_the_nearest_one_named() -> None:
    """In a file and in an override, at the root and below."""
    for attempt in (
        lambda: from_plain(Recipe, {"name": "x", "loss": {"weihgt": 1}}),
        lambda: override(Recipe(name="x"), {"loss.weihgt": 1}),
        lambda: merge(Recipe(name="x"), {"loss": {"weihgt": 1}}),
    ):
        with pytest.raises(UserError, match=r"unknown key recipe\.loss\.weihgt") as caught:
            attempt()
        assert caught.value.todo == "did you mean recipe.loss.weight?"


def test_a_missing_value_is_named() -> None:
    """A field without default must be given."""
    with pytest.raises(UserError, match="no value for name"):
        from_plain(Recipe, {"lr": 1})


def test_the_kind_says_which_dataclass_of_a_union_is_meant() -> None:
    """Each dataclass has one or several kinds of its own, and only its own keys are known."""
    plain = {"name": "x", "model": {"kind": "convs", "width": "8"}}
    assert from_plain(Recipe, plain).model == Convolutions(kind="convs", width=8)
    with pytest.raises(UserError, match=r"unknown key recipe\.model\.depth"):
        from_plain(Recipe, {"name": "x", "model": {"kind": "convs", "depth": 8}})


@pytest.mark.parametrize("given", ["convolution", None, 3, ["tokens"]])
def test_a_wrong_kind_is_refused_with_the_kinds_there_are(given: Any) -> None:
    """Also a mapping without kind: which one is meant is not guessed."""
    with pytest.raises(UserError) as caught:
        from_plain(Recipe, {"name": "x", "model": {"kind": given}})
    assert caught.value.given == f"recipe.model.kind = {given!r}"
    assert caught.value.allowed == "tokens, convolutions, convs"


def test_a_new_kind_starts_from_its_own_defaults() -> None:
    """In whatever order the changes come; a `kind` outside of unions replaces nothing else."""
    tokens = Recipe(name="x", model=Tokens(depth=3), loss=Loss(weight=0.7))
    changed = override(tokens, {"model.width": 5, "model.kind": "convs", "loss.kind": "soft"})
    assert changed.model == Convolutions(kind="convs", width=5)
    assert changed.loss == Loss(kind="soft", weight=0.7)
    assert override(tokens, {"model.kind": "tokens"}) == tokens


def test_an_optional_part_can_be_added_and_taken_away() -> None:
    """By one of its keys, and by none."""
    added = override(Recipe(name="x"), {"average.decay": "0.9"})
    assert added.average == Average(decay=0.9)
    assert override(added, {"average": "none"}).average is None


def test_differences_name_path_old_and_new_value() -> None:
    """What `deit recipes diff` prints."""
    old, new = Recipe(name="x"), Recipe(name="x", lr=1.0, loss=Loss(weight=0.5))
    assert differences(old, new) == [
        Difference("lr", 5e-4, 1.0),
        Difference("loss.weight", 0.1, 0.5),
    ]
    assert str(differences(old, new)[0]) == "lr: 0.0005 -> 1.0"
    assert differences(old, old) == []


def test_fields_are_documented_by_the_text_below_them() -> None:
    """For help texts: by path, on one line, for all kinds; empty where there is none."""
    docs = field_docs(Recipe)
    assert docs["model.depth"] == "Number of blocks."
    assert docs["model.width"] == "Channels of the first stage."
    assert docs["average.decay"] == "Weight of the past."
    assert docs["lr"] == ""
    assert list(docs)[:2] == ["name", "lr"]
    assert "model" not in docs


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"- 1", "holds a list"), (b"a: [1", "line 1"), (b"\xff\xfe\xfa", "decode")],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """With its path, and no traceback of PyYAML."""
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(path)
    assert str(path) in caught.value.given


def test_a_file_is_read_and_an_empty_or_missing_one_handled(tmp_path: Path) -> None:
    """An empty file changes nothing; a missing one is an error."""
    path = tmp_path / "recipe.yaml"
    path.write_text("lr: 1e-3\nloss:\n  kind: soft\n")
    assert merge(Recipe(name="x"), read_yaml(path)) == Recipe(
        name="x", lr=1e-3, loss=Loss(kind="soft")
    )
    path.write_text("")
    assert read_yaml(path) == {}
    with pytest.raises(UserError, match="No such file"):
        read_yaml(tmp_path / "none.yaml")
