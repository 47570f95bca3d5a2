"""The one kind of error that is meant for the person at the keyboard."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Wrong use or unusable input, said in three parts.

    Args:
        given: what was given, with its place (``recipe.optim.lr = -1``, a path, a verb).
        allowed: what is allowed there.
        todo: what to do about it.

    The command line prints the three parts, no traceback, and ends with exit code 2.

    >>> print(UserError("recipe.epochs = 0", "a whole number from 1", "set --epochs 1 or more"))
    recipe.epochs = 0
      allowed: a whole number from 1
      to do:   set --epochs 1 or more
    """

    def __init__(self, given: str, allowed: str = "", todo: str = "") -> None:
        super().__init__(given, allowed, todo)
        self.given = given
        self.allowed = allowed
        self.todo = todo

    def __str__(self) -> str:
        lines = [self.given]
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        if self.todo:
            lines.append(f"  to do:   {self.todo}")
        return "\n".join(lines)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question with the nearest known name, or nothing when none is near.

    >>> did_you_mean("recipe.optim.lrr", ["recipe.optim.lr", "recipe.epochs"])
    'did you mean recipe.optim.lr?'
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""


class RunError(Exception):
    """A run that cannot go on through nobody's wrong use, said in one message; exit code 1."""
