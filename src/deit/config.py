"""Frozen dataclass trees to and from YAML, strictly.

A configuration is a tree of frozen dataclasses. This file turns one into plain dictionaries and
back, applies dotted overrides (``optim.lr=1e-3``) and tells two of them apart. An unknown key is an
error that names the nearest known one; a value is converted by its annotation, so that ``1e-3``,
which YAML reads as a string, becomes the number it looks like. Where the annotation is a union of
dataclasses, each has a field ``kind: Literal[...]``, and the key ``kind`` says which one is meant.
"""

import ast
import dataclasses
import inspect
import itertools
import math
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import yaml

from deit.errors import UserError, did_you_mean

Plain = dict[str, Any]
T = TypeVar("T")

_UNIONS = (typing.Union, types.UnionType)


class Difference(NamedTuple):
    """One field in which two configurations differ."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.old!r} -> {self.new!r}"


def to_plain(config: Any) -> Plain:
    """The configuration as nested dictionaries of strings, numbers, lists and None."""
    return {
        field.name: _plain_value(getattr(config, field.name))
        for field in dataclasses.fields(config)
    }


def from_plain(kind: type[T], plain: Mapping[str, Any], where: str = "recipe") -> T:
    """Build a configuration of type ``kind``; every key must be known and of the right type.

    Args:
        kind: the dataclass to build.
        plain: nested dictionaries, as `to_plain` gives or a YAML file holds; left-out fields keep
            their defaults.
        where: how the root is called in messages.

    Raises:
        UserError: for an unknown key, a missing one, or a value that does not fit its annotation.
    """
    hints = _hints(kind)
    for key in plain:
        if key not in hints:
            raise unknown_key(f"{where}.{key}", [f"{where}.{name}" for name in hints])
    values = {key: convert(hints[key], value, f"{where}.{key}") for key, value in plain.items()}
    missing = [
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{where}: no value for {', '.join(missing)}", "", "add the missing keys")
    return kind(**values)


def override(config: T, changes: Mapping[str, Any], where: str = "recipe") -> T:
    """A copy of ``config`` with dotted paths set to new values.

    A new ``kind`` for a node that may be of several starts that node anew, from the defaults of its
    kind and the other changes.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Optim:
    ...     lr: float = 5e-4
    >>> override(Optim(), {"lr": "1e-3"})
    Optim(lr=0.001)

    Raises:
        UserError: for a path that is not a field, or a value that does not fit it.
    """
    plain = to_plain(config)
    fields = dict(_fields_below(type(config)))
    # Kinds first: they decide which other keys there are.
    for path in sorted(changes, key=lambda path: not path.endswith(".kind")):
        if path not in fields:
            raise unknown_key(f"{where}.{path}", [f"{where}.{name}" for name in flatten(config)])
        parent, _, leaf = path.rpartition(".")
        node = _node_at(plain, parent)
        has_kinds = len(_dataclasses_of(fields.get(parent))) > 1
        if has_kinds and leaf == "kind" and changes[path] != node.get("kind"):
            node.clear()
        node[leaf] = changes[path]
    return from_plain(type(config), plain, where)


def merge(config: T, plain: Mapping[str, Any], where: str = "recipe") -> T:
    """A copy of ``config`` with the keys of nested dictionaries (a YAML file) set over its own."""
    changes: Plain = {}

    def visit(node: Mapping[str, Any], prefix: str) -> None:
        for key, value in node.items():
            path = f"{prefix}{key}"
            if isinstance(value, Mapping):
                visit(value, f"{path}.")
            else:
                changes[path] = value

    visit(plain, "")
    return override(config, changes, where)


def flatten(config: Any, prefix: str = "") -> Plain:
    """Every leaf of the tree under its dotted path, in the order of declaration."""
    flat: Plain = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        path = f"{prefix}{field.name}"
        if is_dataclass(value):
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def differences(old: Any, new: Any) -> list[Difference]:
    """The leaves in which two configurations of one type differ, in the order of declaration."""
    before, after = flatten(old), flatten(new)
    return [
        Difference(path, before.get(path), after.get(path))
        for path in before | after
        if before.get(path) != after.get(path)
    ]


def read_yaml(path: Path) -> Plain:
    """A YAML file that holds one mapping.

    Raises:
        UserError: when the file is missing, is no YAML, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}", "a readable YAML file", "check the path") from error
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {error}", "a YAML file", "mend the line named above") from error
    if plain is None:
        return {}
    if not isinstance(plain, dict):
        raise UserError(
            f"{path} holds a {type(plain).__name__}",
            "a mapping of recipe fields",
            "see `deit recipes show`",
        )
    return plain


def to_yaml(config: Any) -> str:
    """The whole configuration as YAML, in the order of declaration."""
    return yaml.dump(
        to_plain(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )


class _Dumper(yaml.SafeDumper):
    """PyYAML writes three characters as they are, and then reads them as the end of a line."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """A string; in double quotes, where these characters are escaped, if it has one."""
        ends_line = any(character in text for character in "\x85\u2028\u2029")
        return self.represent_scalar("tag:yaml.org,2002:str", text, '"' if ends_line else None)


_Dumper.add_representer(str, _Dumper.represent_text)


def field_docs(kind: type[Any], prefix: str = "") -> dict[str, str]:
    """The sentence that stands below each field in the source, by dotted path."""
    docs: dict[str, str] = {}
    own = _own_docs(kind)
    for name, hint in _hints(kind).items():
        members = _dataclasses_of(hint)
        for member in members:
            for path, text in field_docs(member, f"{prefix}{name}.").items():
                docs.setdefault(path, text)
        if not members:
            docs[f"{prefix}{name}"] = own.get(name, "")
    return docs


def unknown_key(given: str, known: Sequence[str]) -> UserError:
    """The error for a key that does not exist, with the nearest one that does."""
    nearest = did_you_mean(given, known)
    siblings = [name for name in known if name.rpartition(".")[0] == given.rpartition(".")[0]]
    listed = ", ".join(siblings or known)
    return UserError(
        f"unknown key {given}", listed, nearest or "`deit recipes show NAME` lists every key"
    )


def convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as its annotation says, or a `UserError` that names the place."""
    if is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        if not isinstance(value, Mapping):
            raise UserError(
                f"{where} = {value!r}", "a mapping of its own keys", "see `deit recipes show`"
            )
        return from_plain(hint, value, where)  # type: ignore[arg-type]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is typing.Literal:
        if value in arguments:
            return value
        allowed = ", ".join(str(argument) for argument in arguments)
        hint_text = did_you_mean(str(value), [str(argument) for argument in arguments])
        raise UserError(f"{where} = {value!r}", allowed, hint_text or "use one of these")
    if origin in _UNIONS:
        return _convert_union(hint, value, where)
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    return _convert_scalar(hint, value, where)


def _convert_union(hint: Any, value: Any, where: str) -> Any:
    arguments, members = get_args(hint), _dataclasses_of(hint)
    if type(None) in arguments and (value is None or value in ("none", "null")):
        return None
    if len(members) > 1 and isinstance(value, Mapping):
        return from_plain(_member(members, value, where), value, where)
    error: UserError | None = None
    for argument in arguments:
        if argument is type(None):
            continue
        try:
            return convert(argument, value, where)
        except UserError as caught:
            error = error or caught
    assert error is not None
    raise error


def _member(members: Sequence[type[Any]], plain: Mapping[str, Any], where: str) -> type[Any]:
    """The dataclass of a union whose ``kind: Literal[...]`` is the mapping's own."""
    kinds = {str(kind): member for member in members for kind in get_args(_hints(member)["kind"])}
    given = plain.get("kind")
    if isinstance(given, str) and given in kinds:
        return kinds[given]
    todo = did_you_mean(str(given), kinds) or "use one of these"
    raise UserError(f"{where}.kind = {given!r}", ", ".join(kinds), todo)


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = _split(value, where)
    if not isinstance(value, Sequence):
        value = [value]
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(value) != len(arguments):
        raise UserError(
            f"{where} = {value!r}", f"{len(arguments)} values", "separate them by commas"
        )
    return tuple(
        convert(argument, item, f"{where}[{index}]")
        for index, (argument, item) in enumerate(zip(arguments, value, strict=True))
    )


def _split(text: str, where: str) -> Any:
    """The items of ``1,2`` or of a YAML list ``[1, 2]``."""
    if not text.startswith("["):
        return text.split(",")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{where} = {text!r}", "a list", "close the bracket") from None


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is bool:
        word = str(value).lower()
        if word in ("true", "false", "yes", "no", "on", "off"):
            return word in ("true", "yes", "on")
        raise UserError(f"{where} = {value!r}", "true or false", "use one of these")
    if hint is str:
        if isinstance(value, str):
            return value
        raise UserError(f"{where} = {value!r}", "a text", "put it in quotes")
    kind = {int: "a whole number", float: "a number"}[hint]
    try:
        if isinstance(value, bool) or value is None:
            raise ValueError
        if hint is int:
            return _to_int(value)
        number = float(value)
        if math.isnan(number):
            raise ValueError
        return number
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{where} = {value!r}", kind, "correct the value") from None


def _to_int(value: Any) -> int:
    """A whole number; 3.0 is one, 3.5 and the text "3.0" are not."""
    number = int(value)
    if number != value and not isinstance(value, str):
        raise ValueError
    return number


def _node_at(plain: Plain, path: str) -> Plain:
    """The dictionary at a dotted path, an empty one where there was None."""
    for key in path.split(".") if path else []:
        if not isinstance(plain.get(key), dict):
            plain[key] = {}
        plain = plain[key]
    return plain


def _plain_value(value: Any) -> Any:
    if is_dataclass(value):
        return to_plain(value)
    if isinstance(value, tuple):
        return [_plain_value(item) for item in value]
    return value


def _hints(kind: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _dataclasses_of(hint: Any) -> list[type[Any]]:
    """The dataclasses that a value of this annotation can be: itself, or members of a union."""
    members = get_args(hint) if get_origin(hint) in _UNIONS else (hint,)
    return [member for member in members if isinstance(member, type) and is_dataclass(member)]


def _fields_below(kind: type[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Path and annotation of every field in the tree, for every kind that a node can be."""
    for name, hint in _hints(kind).items():
        yield f"{prefix}{name}", hint
        for member in _dataclasses_of(hint):
            yield from _fields_below(member, f"{prefix}{name}.")


def _own_docs(kind: type[Any]) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    body = typing.cast(ast.ClassDef, tree.body[0]).body
    docs: dict[str, str] = {}
    for statement, following in itertools.pairwise(body):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            docs[statement.target.id] = " ".join(following.value.value.split())
    return docs
