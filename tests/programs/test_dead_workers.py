"""A loader worker that dies ends a program with one message, soon, wherever it was used."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deit.cli.main import main
from deit.data.dataset import ArraySource

ALLOWED_SECONDS = 10


@pytest.fixture
def slow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image takes a worker a while, so that it is met at work."""
    read = ArraySource.read

    def slow(source: ArraySource, index: int) -> object:
        if multiprocessing.parent_process():
            time.sleep(0.02)
        return read(source, index)

    monkeypatch.setattr(ArraySource, "read", slow)


@pytest.fixture
def killer() -> Iterator[list[float]]:
    """Kills the first loader worker there is; the list gets the time at which it did."""
    killed: list[float] = []
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.1):
            for child in multiprocessing.active_children():
                if child.name.startswith("deit loader worker") and child.pid:
                    os.kill(child.pid, signal.SIGKILL)
                    killed.append(time.monotonic())
                    return

    thread = threading.Thread(target=kill)
    thread.start()
    yield killed
    stop.set()
    thread.join()


def words_of(verb: str, teacher: Path, folder: Path) -> list[str]:
    short = ["--epochs", "1", "--batch-size", "128", "--workers", "2"]
    if verb == "train":
        return ["train", "digits", *short, "--out", str(folder / "run")]
    if verb == "label":
        given = ["--teacher", str(teacher), "--recipe", "digits"]
        return ["label", "digits", *given, *short, "--out", str(folder / "store")]
    return ["evaluate", str(teacher), "digits", "--workers", "2"]


@pytest.mark.parametrize("verb", ["train", "evaluate", "label"])
@pytest.mark.usefixtures("slow_reads")
@pytest.mark.filterwarnings("ignore:Exception ignored in.*metrics.jsonl")  # the run's open journal
def test_a_killed_worker_ends_the_program(verb, teacher_run, tmp_path, killer, capsys):
    """Exit code 1 and one message within ten seconds; no process is left."""
    words = words_of(verb, teacher_run, tmp_path)
    assert main(words) == 1
    assert time.monotonic() - killer[0] < ALLOWED_SECONDS
    assert multiprocessing.active_children() == []
    error = capsys.readouterr().err
    assert "a loader worker died: process" in error
    assert "was killed by SIGKILL while" in error
    assert "Traceback" not in error
