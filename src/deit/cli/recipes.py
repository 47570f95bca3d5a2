"""`deit recipes list | show NAME | diff A B`."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from deit import config
from deit.cli.options import parse
from deit.data.limits import MOST_PIXELS
from deit.data.sources import open_data
from deit.errors import UserError
from deit.recipes import book
from deit.recipes.recipe import Recipe, load_recipe
from deit.recipes.small import DataFacts

_EXAMPLE = "# sized for an example; a run sizes its model and its length to its own data\n"


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
    """A recipe by its name, file or run folder.

    Args:
        name: what `deit recipes list` shows, a YAML file with a whole recipe, or a run folder.
        source: the DATA that sizes those recipes which size themselves, and that turns ``folder``
            into ``digits``; without it they have the sizes of an example.

    Raises:
        UserError: for an unknown name, or a file that leaves out a part of a recipe.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return _whole_recipe(path)
    if (path / "recipe.yaml").is_file():
        return load_recipe(path / "recipe.yaml")
    if source == "digits" and name in ("folder", "folder-teacher"):
        name = name.replace("folder", "digits")
    if source is None or name not in book.SIZED_RECIPES:
        return book.get_recipe(name)
    return _sized_recipe(name, source)


def missing_parts(plain: Mapping[str, Any]) -> list[str]:
    """The top-level keys of a recipe that a file leaves out; none: it is a whole recipe."""
    return [field.name for field in dataclasses.fields(Recipe) if field.name not in plain]


def _whole_recipe(path: Path) -> Recipe:
    plain = config.read_yaml(path)
    if missing := missing_parts(plain):
        raise UserError(
            f"{path} leaves out {', '.join(missing)}",
            "a whole recipe, such as `deit recipes show NAME` prints",
            f"set it over a recipe with -c {path}",
        )
    return config.from_plain(Recipe, plain)


def _sized_recipe(name: str, source: str) -> Recipe:
    """A recipe sized to the data, and said so."""
    facts = DataFacts.of(open_data(source, max_pixels=MOST_PIXELS))  # by headers, nothing decoded
    recipe = book.get_recipe(name, facts)
    if source == "digits":  # they must not be mirrored
        recipe = dataclasses.replace(recipe, views=book.get_recipe("digits").views)
    print(  # noqa: T201
        f"recipe {name}: sized to {facts.num_images:,} images of about {facts.image_size} px: "
        f"{recipe.model.name}, {recipe.epochs} epochs, batch {recipe.batch_size}, "
        "before your own changes"
    )
    return recipe


def _answer(options: object) -> str:
    match options:
        case Show(recipe=name):
            sized = name in book.SIZED_RECIPES
            return (_EXAMPLE if sized else "") + config.to_yaml(find_recipe(name)).rstrip()
        case Diff(first=first, second=second):
            found = config.differences(find_recipe(first), find_recipe(second))
            return "\n".join(map(str, found)) or "no difference"
        case _:
            width = max(map(len, book.recipe_names()))
            return "\n".join(
                f"{name:{width}}  {book.describe(name)}" for name in book.recipe_names()
            )
