"""How soon the command line answers, and what it does not import for that."""

import json
import os
import subprocess
import sys

from deit.cli.main import VERBS

HELP_SECONDS = 0.5
"""What `deit --help` may take."""

RUN = "import sys; from deit.cli.main import main; sys.exit(main(sys.argv[1:]))"

QUESTIONS = [
    ["--help"],
    ["--version"],
    *([verb, "--help"] for verb in VERBS),
    ["recipes", "list"],
    ["recipes", "show", "paper/deit-tiny"],
    ["trainn", "photos"],
]

ASK_ALL = """
import json, sys
from deit.cli.main import main
for words in json.loads(sys.argv[1]):
    try:
        code = main(words)
    except SystemExit as left:  # how the option parser ends after help
        code = left.code
    assert code == (2 if words[0] == "trainn" else 0), words
    assert "torch" not in sys.modules, words
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


def test_asking_costs_no_torch():
    """Help, which lists all fields of a recipe, the recipes and typing errors need no torch."""
    command = [sys.executable, "-c", ASK_ALL, json.dumps(QUESTIONS)]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "optim.weight_decay" in finished.stdout
