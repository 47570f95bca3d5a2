"""What a README promises that one can type: its commands and its Python, taken out of its text.

Fences marked ``sh`` and ``python`` are executed. A comment line on its own above a fence,
``<!-- not executed: the reason -->``, leaves it out: for what needs a download or a GPU.
"""

import re
import shlex
from dataclasses import dataclass

NOT_OURS = ("make", "git", "pip", "python", "python3", "cd", "source", "conda", "uv", "docker")
"""Programs whose lines are left out: they set up what is set up already while testing."""

_FENCE = re.compile(r"^```([\w-]*)[^\n]*\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
_LEFT_OUT = re.compile(r"<!-- not executed: .+ -->\s*\Z")


@dataclass(frozen=True)
class Fence:
    """A fenced block that is to be executed, and the line of the file that it begins after."""

    language: str
    text: str
    line: int


def find_fences(markdown: str, language: str) -> list[Fence]:
    """The blocks of one language that are not left out for a reason."""
    found = []
    for match in _FENCE.finditer(markdown):
        before = markdown[: match.start()]
        if match[1] == language and not _LEFT_OUT.search(before):
            found.append(Fence(language, match[2], before.count("\n") + 1))
    return found


def find_commands(markdown: str) -> list[list[str]]:
    """The words after `deit` of every command, in order.

    Raises:
        ValueError: for a line that is neither a `deit` command nor one of `NOT_OURS`: it would
            look as if it were tested.
    """
    commands = []
    for fence in find_fences(markdown, "sh"):
        for line in fence.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "deit":
                commands.append(words[1:])
            elif words and words[0] not in NOT_OURS:
                raise ValueError(f"cannot execute {line!r}: not a deit command")
    return commands
