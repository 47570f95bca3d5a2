"""`deit`: finds the verb, shows the overview, and turns errors into messages and exit codes."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence

from deit import __version__
from deit.errors import RunError, UserError, did_you_mean

VERBS: dict[str, tuple[str, str]] = {
    "demo": (
        "deit.cli.demo:run_demo",
        "teacher, plain and distilled DeiTs compared on real images",
    ),
    "train": ("deit.cli.training:train", "train a model on labelled images"),
    "distill": ("deit.cli.training:distill", "train a DeiT with a teacher"),
    "finetune": (
        "deit.cli.finetuning:run_finetune",
        "go on with a model: other size, other classes",
    ),
    "teacher": ("deit.cli.training:teacher", "train or adapt a network that can teach"),
    "label": ("deit.cli.labels:label", "store a teacher's decisions for later runs; verify them"),
    "audit": ("deit.cli.auditing:audit", "find likely wrong labels with a teacher's decisions"),
    "evaluate": ("deit.cli.measuring:evaluate", "measure a model on a data set, head by head"),
    "benchmark": (
        "deit.cli.benchmarks:benchmark",
        "speed against other programs, outputs compared first",
    ),
    "report": ("deit.cli.measuring:report", "write a run's report: one HTML file"),
    "recipes": ("deit.cli.recipes:recipes", "list, show or compare recipes"),
    "data": ("deit.cli.data:data", "check, count, preview or prepare a data set"),
    "doctor": ("deit.cli.doctor:doctor", "what this machine and installation can do"),
}

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code: 0 done, 2 wrong use, 75 resumable, 1 else."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())  # noqa: T201
        return DONE
    if words[0] in ("-V", "--version", "version"):
        print(f"deit {__version__}")  # noqa: T201
        return DONE
    try:
        return load_verb(words[0])(words[1:])
    except UserError as error:
        return _complain(str(error), WRONG_USE)
    except _failures() as error:
        return _complain(str(error), FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:  # the reader of our output, `head` for example, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def load_verb(name: str) -> Callable[[Sequence[str]], int]:
    """The function behind a verb; only its own module is imported.

    Raises:
        UserError: for an unknown verb, with the nearest known one.
    """
    if name not in VERBS:
        raise UserError(
            f"{name}: no such command",
            ", ".join(VERBS),
            did_you_mean(name, VERBS) or "`deit --help` describes them",
        )
    module, _, function = VERBS[name][0].partition(":")
    verb: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), function)
    return verb


def overview() -> str:
    """What `deit --help` prints."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:{width}}  {text}" for name, (_, text) in VERBS.items())
    return f"""deit {__version__}: train, distil and measure data-efficient image transformers.

usage: deit COMMAND ...

{verbs}

`deit COMMAND --help` describes a command. First steps:

  deit demo                                     two minutes on two cores
  deit train DATA                               DATA: a folder with train/ and val/
  deit teacher DATA --out runs/teacher          a convnet for your classes, then
  deit distill DATA --teacher runs/teacher      a DeiT that learns from it
"""


def _failures() -> tuple[type[Exception], ...]:
    """What ends a command with one message and code 1.

    The errors of reading images are looked up only where their modules were imported: the overview
    needs none of them.
    """
    elsewhere = (("deit.data.images", "BadImage"), ("deit.data.loader", "WorkerDied"))
    found = (getattr(sys.modules.get(module), name, RunError) for module, name in elsewhere)
    return (RunError, *found)


def _complain(message: str, code: int) -> int:
    print(f"deit: {message}", file=sys.stderr)  # noqa: T201
    return code
