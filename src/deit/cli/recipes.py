"""`deit recipes list | show NAME | diff A B`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from deit import config
from deit.cli.options import parse
from deit.cli.training import named_recipe
from deit.recipes import book
from deit.recipes.recipe import Recipe, load_recipe


@dataclass(frozen=True, kw_only=True)
class List:
    """Every recipe with one line about it."""


@dataclass(frozen=True, kw_only=True)
class Show:
    """A recipe as YAML, whole: what `-c FILE` reads."""

    recipe: tyro.conf.Positional[str]
    """Its name, a YAML file, or a run folder."""


@dataclass(frozen=True, kw_only=True)
class Diff:
    """The fields in which two recipes differ."""

    first: tyro.conf.Positional[str]
    """Name, YAML file or run folder."""
    second: tyro.conf.Positional[str]
    """Name, YAML file or run folder."""


def recipes(arguments: Sequence[str]) -> int:
    """`deit recipes`."""
    options = parse(List | Show | Diff, arguments, verb="recipes")
    print(_answer(options))  # noqa: T201
    return 0


def find_recipe(name: str, source: str | None = None) -> Recipe:
    """A recipe by its name, file or run folder; ``source`` sizes those that need it."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return load_recipe(path)
    if (path / "recipe.yaml").is_file():
        return load_recipe(path / "recipe.yaml")
    return book.get_recipe(name) if source is None else named_recipe(name, source)


def _answer(options: object) -> str:
    match options:
        case Show(recipe=name):
            return config.to_yaml(find_recipe(name)).rstrip()
        case Diff(first=first, second=second):
            found = config.differences(find_recipe(first), find_recipe(second))
            return "\n".join(map(str, found)) or "no difference"
        case _:
            width = max(map(len, book.recipe_names()))
            return "\n".join(
                f"{name:{width}}  {book.describe(name)}" for name in book.recipe_names()
            )
