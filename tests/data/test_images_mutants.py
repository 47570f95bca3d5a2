"""Thousands of damaged files of seven formats: decoded or refused, at little cost."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from odd_files import mutants

TESTS = Path(__file__).parents[1]

MOST_SECONDS = 0.5
"""Processor time of one file. The slowest of 60,000 took 0.06 to 0.13 s: a GIF of 14 megapixels."""

MOST_MEGABYTES = 150
"""What the process may grow by. The largest of 60,000 cost 78 MB, for that GIF again."""


def decode_mutants(first: int, count: int) -> dict[str, Any]:
    """Figures of some mutants, decoded in a process whose memory is its own, warnings as errors."""
    command = [sys.executable, "-W", "error", "-m", "odd_files.mutants", str(first), str(count)]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=TESTS)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return json.loads(finished.stdout)


def check(figures: dict[str, Any], count: int) -> None:
    assert figures["faults"] == {}
    assert sum(figures["decoded"].values()) + sum(figures["refused"].values()) == count
    assert min(figures["decoded"].values()) > 0
    assert min(figures["refused"].values()) > 0
    assert figures["lost"] < figures["decoded"]["JPEG"] / 2
    assert figures["slowest"][0] < MOST_SECONDS
    assert figures["megabytes"][0] < MOST_MEGABYTES


def test_mutants_are_decoded_or_refused() -> None:
    """With a reason, in half a second and 150 MB; JPEGs exactly as Pillow does,
    but that a few which lack a part are refused."""
    check(decode_mutants(60_000, 1500), 1500)


@pytest.mark.long
def test_60_000_mutants_are_decoded_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The same, of other mutants; the figures are shown."""
    figures = decode_mutants(0, 60_000)
    with capsys.disabled():
        print(f"\n{json.dumps(figures)}")
    check(figures, 60_000)


def test_a_mutant_is_a_function_of_its_number() -> None:
    """So that what is found can be found again, and every format has its turn."""
    passes = [mutants.seeds() for _ in range(2)]
    again = [[mutants.mutant(number, whole) for number in range(70)] for whole in passes]
    assert again[0] == again[1]
    assert len(set(again[0])) > 65
