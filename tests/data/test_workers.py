"""Workers give rows in order, end with their parent, and are named when they die."""

import contextlib
import faulthandler
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from deit.data import workers as workers_module
from deit.data.worker_process import Note
from deit.data.workers import MOST_AHEAD, WorkerDied, num_slots, run_in_order
from deit.errors import UserError

ALLOWED_SECONDS = 10


class Squares:
    """Rows of three bytes from numbers; `trouble` may strike before each."""

    row_shape = (3,)
    names = tuple(f"{index}.jpg" for index in range(2000))

    def __init__(self, trouble: Callable[[int], None] = lambda index: None) -> None:
        self.trouble = trouble

    def fill(self, item: range, rows: np.ndarray, note: Note) -> None:
        for row, number in zip(rows, item, strict=True):
            note(number)
            self.trouble(number)
            row[:] = (number % 256, number**2 % 256, number // 256)


def items(count: int = 40) -> Iterator[range]:
    """Numbers from 0 on, seven to an item, the last with three."""
    numbers = range(7 * count - 4)
    return (numbers[first : first + 7] for first in numbers[::7])


def rows_of(task: Squares, workers: int, count: int = 40) -> Iterator[np.ndarray]:
    return run_in_order(task, items(count), workers, items_ahead=4, most_rows=7)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """No process, no descriptor, no shared memory segment: counted before and after each test."""
    before = open_things()
    yield
    assert multiprocessing.active_children() == []
    assert open_things() == before


def open_things() -> tuple[int, list[str]]:
    """Open descriptors, and shared memory with a name that is ours or whose maker has died."""
    shared = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
    makers = {name: int(name.split("_")[1]) for name in shared if name.startswith("torch_")}
    ours = [name for name, pid in makers.items() if pid == os.getpid() or not is_running(pid)]
    return len(os.listdir("/dev/fd")), sorted(ours)


@contextlib.contextmanager
def named_in_time(match: str) -> Iterator[None]:
    """The block raises `WorkerDied` within ten seconds."""
    began = time.monotonic()
    with pytest.raises(WorkerDied, match=match):
        yield
    assert time.monotonic() - began < ALLOWED_SECONDS


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_rows_come_in_the_order_of_the_items(workers: int) -> None:
    """Though the first worker to finish is not the first that began."""

    def dawdle(number: int) -> None:
        time.sleep(0.002 * (number // 7 % 3))

    found = [rows.copy() for rows in rows_of(Squares(dawdle), workers)]
    expected = [[(n % 256, n * n % 256, n // 256) for n in item] for item in items()]
    assert [rows.tolist() for rows in found] == [[list(row) for row in rows] for rows in expected]


def run_out_of_memory() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    faulthandler.disable()  # pytest's, which would print a traceback
    os.kill(os.getpid(), signal.SIGSEGV)


def test_rows_stay_until_the_next_are_asked_for() -> None:
    """A worker that is fast does not write over what is being read."""
    for item, rows in zip(items(6), rows_of(Squares(), 2, count=6), strict=True):
        time.sleep(0.1)
        assert rows[:, 0].tolist() == list(item)


@pytest.mark.parametrize(
    ("workers", "die", "said"),
    [
        (1, run_out_of_memory, "was killed by SIGKILL"),
        (2, run_out_of_memory, "was killed by SIGKILL"),
        (4, run_out_of_memory, "was killed by SIGKILL"),
        (2, crash, "was killed by SIGSEGV"),
        (2, lambda: os._exit(3), "ended with code 3"),
    ],
)
def test_a_worker_that_dies_at_work_is_named_with_its_image(
    workers: int, die: Callable[[], None], said: str
) -> None:
    """Killed by the kernel, by a crashed decoder, or by a library that ends the process."""
    task = Squares(lambda number: die() if number == 100 else None)
    with named_in_time(rf"{said} while at 100\.jpg.*fewer --workers"):
        list(rows_of(task, workers))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_worker_that_dies_idle_is_named(workers: int) -> None:
    """While the parent computes, when all that may be ahead is done."""
    rows = rows_of(Squares(), workers)
    next(rows)
    time.sleep(0.2)
    victim = multiprocessing.active_children()[-1]
    os.kill(victim.pid, signal.SIGKILL)
    with named_in_time(f"process {victim.pid} was killed by SIGKILL while waiting for work"):
        list(rows)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_worker_that_dies_before_its_first_item_is_named(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of them, on entering its function."""
    work = workers_module.work

    def begin(number: int, *arguments: object) -> None:
        if number == workers - 1:
            os._exit(7)
        work(number, *arguments)

    monkeypatch.setattr(workers_module, "work", begin)
    with named_in_time("ended with code 7 while waiting for work"):
        list(rows_of(Squares(), workers))


def test_a_worker_that_dies_is_noticed_though_its_pipe_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a process that something else forked in the moment in which the worker was started."""
    monkeypatch.setattr(workers_module, "LOOK_SECONDS", 0.2)
    context = type(multiprocessing.get_context("fork"))
    held: list[int] = []

    def held_pipe(_context: object) -> tuple[Connection, Connection]:
        ours, theirs = multiprocessing.Pipe()
        held.append(os.dup(theirs.fileno()))
        return ours, theirs

    monkeypatch.setattr(context, "Pipe", held_pipe)
    with named_in_time(r"SIGKILL while at 100\.jpg"):
        list(rows_of(Squares(lambda number: run_out_of_memory() if number == 100 else None), 2))
    for number in held:
        os.close(number)


def test_a_death_is_said_where_rows_are_asked_for_and_nowhere_else() -> None:
    """Not in the middle of the parent's own work, which a handler of SIGCHLD would interrupt."""
    rows = rows_of(Squares(), 2)
    next(rows)
    handler = signal.getsignal(signal.SIGCHLD)
    for victim in multiprocessing.active_children():
        os.kill(victim.pid, signal.SIGKILL)
    time.sleep(0.3)
    assert handler == signal.SIG_DFL
    with named_in_time("SIGKILL"):
        list(rows)


def test_a_worker_that_hangs_is_named_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a network drive that does not answer for a while; nothing is lost when it does."""
    monkeypatch.setattr(workers_module, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(workers_module, "LOOK_SECONDS", 0.05)
    resume = multiprocessing.get_context("fork").Event()

    def hang(number: int) -> None:
        if number == 23:
            resume.wait()

    rows = rows_of(Squares(hang), 2, count=5)
    found = [next(rows).copy() for _ in range(3)]
    threading.Timer(0.5, resume.set).start()
    with pytest.warns(RuntimeWarning, match=r"no images for \d+ s: .* at 23\.jpg") as caught:
        found += [part.copy() for part in rows]
    assert [part[0, 0] for part in found] == [0, 7, 14, 21, 28]
    assert len(caught) >= 2


def test_a_worker_that_hangs_can_be_left() -> None:
    """Closing ends it at once, whatever it waits for."""
    rows = rows_of(Squares(lambda number: time.sleep(1000) if number == 80 else None), 2)
    next(rows)
    began = time.monotonic()
    rows.close()
    assert time.monotonic() - began < 2


class StubbornError(Exception):
    """Can be pickled, but not made again."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__("stubborn")


def raise_local() -> None:
    class LocalError(Exception):
        """Cannot be pickled."""

    raise LocalError("local")


def raise_stubborn() -> None:
    raise StubbornError(1, 2)


@pytest.mark.parametrize("fail", [raise_local, raise_stubborn])
def test_an_exception_that_cannot_travel_is_told(fail: Callable[[], None]) -> None:
    """With the worker's traceback, whatever the exception is like."""
    with pytest.raises(RuntimeError, match="a loader worker failed") as caught:
        list(rows_of(Squares(lambda number: fail() if number == 50 else None), 2))
    assert fail.__name__ in str(caught.value.__cause__)


@pytest.mark.parametrize(("workers", "ahead"), [(1, 4), (2, 4), (4, 8)])
def test_no_more_than_the_documented_items_are_ahead(workers: int, ahead: int) -> None:
    """Of a consumer that dawdles, after every item: four, or two per worker."""
    with tempfile.TemporaryFile() as begun:

        def count(number: int) -> None:
            if number % 7 == 0:
                os.write(begun.fileno(), b".")

        most = 0
        for taken, _ in enumerate(rows_of(Squares(count), workers, count=30), 1):
            time.sleep(0.02)
            most = max(most, os.fstat(begun.fileno()).st_size - taken)
    assert most == ahead


def test_what_is_ahead_is_bounded_for_any_batch_size() -> None:
    """The pipe to a worker, 64 KiB, holds all that it may be told: no deadlock, no gigabytes."""
    assert num_slots(1, 10_000) == MOST_AHEAD + 1
    assert num_slots(8, 10_000) == 8 * MOST_AHEAD + 1


def test_handing_out_work_never_blocks_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items of 1 KB for a worker that is stuck: all that may be ahead is in its pipe."""
    monkeypatch.setattr(workers_module, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(workers_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(workers_module._Pool, "_complain", give_up)
    drawn: list[int] = []
    stuck = Squares(lambda number: time.sleep(1000))
    rows = run_in_order(stuck, large_items(drawn), 1, items_ahead=10_000, most_rows=96)
    began = time.monotonic()
    with contextlib.closing(rows), pytest.raises(TimeoutError):
        next(rows)
    assert len(drawn) == MOST_AHEAD + 1
    assert time.monotonic() - began < 5


class LargeItem(list[int]):
    """96 numbers and a kilobyte beside them."""

    def __reduce__(self) -> tuple[object, ...]:
        return (LargeItem, (list(self),), {"ballast_bytes": bytes(1000)})


def large_items(drawn: list[int]) -> Iterator[LargeItem]:
    for number in itertools.count():
        drawn.append(number)
        yield LargeItem(range(96))


def give_up(*_arguments: object) -> None:
    raise TimeoutError


ORPHANS = """
import multiprocessing, time
from deit.data.workers import run_in_order
from test_workers import Squares, rows_of
rows = rows_of(Squares(lambda number: time.sleep(0.05)), 2, 400)
next(rows)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""


@pytest.mark.long
def test_workers_end_with_a_parent_that_is_killed() -> None:
    """SIGKILL leaves it no time to end them."""
    src, tests = Path(workers_module.__file__).parents[2], Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{src}{os.pathsep}{tests}"}
    command = [sys.executable, "-c", ORPHANS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        orphans = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    deadline = time.monotonic() + ALLOWED_SECONDS
    while any(is_running(pid) for pid in orphans) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(orphans) == 2
    assert not any(is_running(pid) for pid in orphans)


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie, which its new parent may be slow to collect."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_that_cannot_be_started_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three; the first is ended."""
    start = BaseProcess.start

    def start_one(process: BaseProcess) -> None:
        if process.name.endswith("1"):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        start(process)

    monkeypatch.setattr(BaseProcess, "start", start_one)
    with pytest.raises(UserError, match=r"--workers 3: process 2 cannot be started: Resource"):
        next(rows_of(Squares(), 3))
