"""All recipes by name."""

import inspect
from collections.abc import Callable
from functools import partial

from deit.errors import UserError, did_you_mean
from deit.recipes import finetune, paper, small, teachers, transfer, tuned
from deit.recipes.recipe import Recipe
from deit.recipes.small import DataFacts

RECIPES: dict[str, Callable[[], Recipe]] = {
    "digits": small.digits,
    "digits-teacher": small.digits_teacher,
    "cifar": small.cifar,
    **{
        f"paper/deit-{size}": partial(paper.table_3, size, "none")
        for size in ("tiny", "small", "base")
    },
    **{
        f"paper/deit-{size}-{method}": partial(paper.table_3, size, method)
        for size in ("tiny", "small", "base")
        for method in ("distilled", "soft", "hard")
    },
    **{
        f"paper/deit-{size}-two-class-tokens": partial(paper.two_class_tokens, size)
        for size in ("tiny", "small", "base")
    },
    "tuned/deit-tiny": partial(tuned.lighter, "tiny"),
    "tuned/deit-small": partial(tuned.lighter, "small"),
    "finetune": finetune.gentle,
    "finetune/paper": finetune.paper_384,
    "finetune/paper-distilled": finetune.paper_384_distilled,
    "finetune/readme": finetune.readme_384,
    "finetune/fixres": finetune.fixres,
    "transfer/cifar10": transfer.cifar10,
    "transfer/cifar10-adamw": transfer.cifar10_adamw,
    "transfer/cifar100": transfer.cifar100,
    "transfer/cars": transfer.cars,
    "transfer/inat": transfer.inat,
}

SIZED_RECIPES: dict[str, Callable[[DataFacts], Recipe]] = {
    "folder": small.folder,
    "folder-teacher": small.folder_teacher,
    "folder-adapted": teachers.adapted,
}
"""Recipes that size themselves to the data."""

_TYPICAL = DataFacts(num_images=10_000, num_classes=10, image_size=256)


def get_recipe(name: str, facts: DataFacts | None = None) -> Recipe:
    """The recipe of a name; ``facts`` of the data are needed by those that size themselves.

    >>> get_recipe("paper/deit-tiny").epochs
    300

    Raises:
        UserError: for an unknown name, with the nearest known one.
    """
    if name in SIZED_RECIPES:
        return SIZED_RECIPES[name](facts or _TYPICAL)
    if name in RECIPES:
        return RECIPES[name]()
    known = recipe_names()
    raise UserError(
        f"--recipe {name}: no such recipe",
        ", ".join(known),
        did_you_mean(name, known) or "`deit recipes list` describes them",
    )


def recipe_names() -> list[str]:
    """Every name that `get_recipe` knows."""
    return [*SIZED_RECIPES, *RECIPES]


def describe(name: str) -> str:
    """The first sentence of what is written about a recipe."""
    maker = (SIZED_RECIPES | RECIPES)[name]
    function = maker.func if isinstance(maker, partial) else maker
    return (inspect.getdoc(function) or "").partition("\n")[0]
