"""What the loader keeps in memory is bounded, documented, and there before the start."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from deit.data import workers
from deit.data.loader import TrainLoader, eval_batches
from deit.data.order import OrderConfig
from deit.data.plan import ViewConfig
from deit.data.preprocess import Preprocess
from deit.errors import UserError
from noise_source import Noise

VIEWS = ViewConfig(policy="none")
FORK = multiprocessing.get_context("fork")


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_no_more_than_two_batches_are_made_ahead(workers: int) -> None:
    """Of a consumer that is slow, at every step."""
    decoded = FORK.Value("i", 0)

    def count(index: int) -> None:
        with decoded.get_lock():
            decoded.value += 1

    source = Noise(4000, count)
    loader = TrainLoader(source, VIEWS, OrderConfig(), 16, 0, 400, workers)
    for taken, _ in enumerate(loader.batches(0, 5), 1):
        time.sleep(0.1)
        assert decoded.value <= (taken + 2) * 400
    assert decoded.value == 5 * 400


def test_all_that_may_be_ahead_is_made_ahead() -> None:
    """Two batches of three pieces, and the one that was taken."""
    decoded = FORK.Value("i", 0)

    def count(index: int) -> None:
        with decoded.get_lock():
            decoded.value += 1

    batches = TrainLoader(Noise(900, count), VIEWS, OrderConfig(), 16, 0, 200, 1).batches(0, 40)
    next(batches)
    assert wait_until_constant(lambda: decoded.value) == 3 * 200
    batches.close()


def wait_until_constant(read: Callable[[], int]) -> int:
    value = -1
    while value != (value := read()):
        time.sleep(0.3)
    return value


def begin_training() -> None:
    TrainLoader(Noise(900), VIEWS, OrderConfig(), 224, 0, 192, workers=2)


def begin_evaluation() -> None:
    next(eval_batches(Noise(900), Preprocess(image_size=224), 192, workers=2))


@pytest.mark.parametrize("begin", [begin_training, begin_evaluation])
def test_too_little_shared_memory_is_refused_before_the_start(
    begin: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where workers are not forked, in a container of 64 MB: ring of two batches and a piece."""
    monkeypatch.setattr(workers, "start_method", lambda: "spawn")
    monkeypatch.setattr(
        os, "statvfs", lambda folder: SimpleNamespace(f_bavail=16384, f_frsize=4096)
    )
    with pytest.raises(UserError) as caught:
        begin()
    needed = 5 * 96 * 3 * 224 * 224 / 2**20
    assert f"--workers 2 need {needed:.0f} MiB of shared memory" in caught.value.given
    assert "/dev/shm has 64 MiB left" in caught.value.given
    assert "--shm-size" in caught.value.todo


def test_forked_workers_need_no_shared_memory_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring has no name: what a container grants to /dev/shm does not matter."""
    monkeypatch.setattr(workers, "start_method", lambda: "fork")
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_bavail=0, f_frsize=4096))
    assert (
        len(
            list(TrainLoader(Noise(250), VIEWS, OrderConfig(), 16, 0, 100, workers=2).batches(0, 2))
        )
        == 2
    )


SMALL = """
mount -t tmpfs -o size=64k none /dev/shm || exit 77
exec "$0" -c '
import torch
from deit.data.loader import TrainLoader
from deit.data.order import OrderConfig
from deit.data.plan import ViewConfig
from noise_source import Noise
loader = TrainLoader(Noise(900), ViewConfig(), OrderConfig(), 16, 0, 600, workers=2)
print(sum(len(batch.images) for batch in loader.batches(0, 2)))
'
"""


@pytest.mark.long
@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare here")
def test_a_shared_memory_folder_of_64_kilobytes_is_enough_for_forked_workers() -> None:
    """A real one, mounted for this test alone; the ring takes 3 MB."""
    paths = [str(Path(workers.__file__).parents[2]), str(Path(__file__).parents[1])]
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", SMALL, sys.executable],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"mounting is not permitted: {done.stderr.strip()[:80]}")
    assert (done.returncode, done.stdout.strip()) == (0, "1200"), done.stderr
