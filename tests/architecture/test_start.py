"""How soon the command line answers, and what it does not import for that."""

import os
import subprocess
import sys

import pytest

HELP_SECONDS = 0.5
"""From goals.md's figures: `deit --help` answers within this."""

RUN = "import sys; from deit.cli.main import main; sys.exit(main(sys.argv[1:]))"

SAY_WHETHER_TORCH = """
import atexit, sys
atexit.register(lambda: print("torch" in sys.modules, file=sys.stderr))
"""


def processor_seconds(*words: str) -> float:
    """Processor time of a fresh `deit` process, which other programs on the machine lengthen less
    than they lengthen its wall time."""
    with open(os.devnull, "wb") as nowhere:
        child = subprocess.Popen([sys.executable, "-c", RUN, *words], stdout=nowhere)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_help_answers_in_half_a_second():
    """The best of five: the first may compile modules, any may be disturbed."""
    assert min(processor_seconds("--help") for _ in range(5)) < HELP_SECONDS


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["distill", "--help"],
        ["teacher", "--help"],
        ["evaluate", "--help"],
        ["data", "--help"],
        ["recipes", "list"],
        ["recipes", "show", "paper/deit-tiny"],
    ],
    ids=" ".join,
)
def test_asking_costs_no_torch(words):
    """Help, which lists every field of a recipe, and the recipes themselves need no torch."""
    command = [sys.executable, "-c", SAY_WHETHER_TORCH + RUN, *words]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip()
    assert finished.stderr.strip() == "False"


def test_a_wrong_word_is_answered_without_torch():
    """A typing error comes back at once: exit code 2, the nearest verb, no traceback."""
    command = [sys.executable, "-c", SAY_WHETHER_TORCH + RUN, "trian", "photos"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 2
    assert "train" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert finished.stderr.strip().endswith("False")
