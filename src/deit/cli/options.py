"""What the verbs that train share: their options, and how options and overrides make a recipe."""

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from deit import config
from deit.errors import UserError

_DOTTED = re.compile(r"--([A-Za-z_]\w*(?:\.\w+)+)(?:=(.*))?", re.DOTALL)
_ASSIGNED = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*)=(.*)", re.DOTALL)


def metavar(name: str) -> Any:
    """How an option's value is called in the help; a default of None is not mentioned there."""
    return tyro.conf.arg(metavar=name, help_behavior_hint="")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of every verb that trains."""

    data: Annotated[str | None, tyro.conf.Positional, metavar("[DATA]")] = None
    """A folder with train/ and val/ of class folders, a folder of class folders, a manifest
    (train.csv), hf:NAME, torchvision:CIFAR10 and the like, or digits. Left out: what the recipe
    names."""
    recipe: Annotated[str | None, metavar("NAME")] = None
    """Name of a recipe (`deit recipes list` shows them), a whole YAML file, or a run folder. Left
    out: one that sizes itself to the data (for digits: digits)."""
    config: Annotated[
        Path | None, tyro.conf.arg(aliases=["-c"], metavar="FILE", help_behavior_hint="")
    ] = None
    """A YAML file of recipe fields, set over the recipe. One that holds a whole recipe stands for
    it: a run's recipe.yaml reruns the run."""
    out: Annotated[Path | None, metavar("DIR")] = None
    """The run's folder; must be new. Left out: runs/<recipe>-<data>-<time>."""
    resume: bool = False
    """Go on with the run in --out, from its newest whole checkpoint."""
    dry_run: bool = False
    """Two steps of training, evaluation and saving, with an estimate of memory and time."""
    epochs: Annotated[str | None, metavar("N")] = None
    """Short for recipe.epochs."""
    batch_size: Annotated[str | None, metavar("N")] = None
    """Short for recipe.batch_size."""
    seed: Annotated[str | None, metavar("N")] = None
    """Short for recipe.seed."""
    view_seed: Annotated[str | None, metavar("N")] = None
    """Short for recipe.view_seed: the seed of order, views and mixing alone."""
    workers: Annotated[str | None, metavar("N")] = None
    """Short for recipe.run.workers."""
    device: Annotated[str | None, metavar("NAME")] = None
    """Short for recipe.run.device: auto, cpu, cuda, cuda:1, mps."""

    def changes(self) -> dict[str, Any]:
        """The short options as recipe fields, still texts: the recipe says what they must be."""
        short = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "view_seed": self.view_seed,
            "run.workers": self.workers,
            "run.device": self.device,
        }
        return {path: value for path, value in short.items() if value is not None}


def parse(
    options: Any,
    arguments: Sequence[str],
    *,
    verb: str,
    epilog: Callable[[], str] | None = None,
) -> Any:
    """The options of a verb from its arguments; prints the help and exits when asked for it.

    Args:
        options: a dataclass whose fields are the options, or a union of them, one per action.
        arguments: the words after the verb.
        verb: its name, for messages.
        epilog: makes what is printed below the help.
    """
    asked_for_help = "-h" in arguments or "--help" in arguments
    try:
        return tyro.cli(
            options,
            prog=f"deit {verb}",
            args=list(arguments),
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except SystemExit:
        if asked_for_help and epilog is not None:
            print(epilog())  # noqa: T201
        raise


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Take recipe overrides out of a command's words.

    ``--optim.lr 1e-3``, ``--optim.lr=1e-3`` and ``optim.lr=1e-3`` are the same.

    >>> split_overrides(["photos", "--optim.lr", "1e-3", "seed=3", "--epochs", "5"])
    (['photos', '--epochs', '5'], {'optim.lr': '1e-3', 'seed': '3'})
    """
    rest: list[str] = []
    overrides: dict[str, Any] = {}
    words = iter(arguments)
    for word in words:
        if dotted := _DOTTED.fullmatch(word):
            value = dotted[2] if dotted[2] is not None else next(words, None)
            if value is None:
                raise UserError(f"{word} without a value", f"{word} VALUE", "add the value")
            overrides[dotted[1]] = value
        elif assigned := _ASSIGNED.fullmatch(word):
            overrides[assigned[1]] = assigned[2]
        else:
            rest.append(word)
    return rest, overrides


def recipe_fields() -> str:
    """Every field of a recipe with its meaning, for the end of a verb's help."""
    from deit.recipes.recipe import Recipe

    docs = config.field_docs(Recipe)
    lines = ["recipe fields, each settable as --FIELD VALUE or FIELD=VALUE:", ""]
    for path, doc in docs.items():
        lines.append(f"  {path}")
        lines.extend(f"      {line}" for line in textwrap.wrap(doc, 72))
    return "\n".join(lines)
