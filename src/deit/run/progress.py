"""What a person sees of a run: a line that moves, and a line per evaluation that stays."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


class Monitor:
    """Shows the progress of a run on a terminal; on anything else, a plain line per evaluation.

    Args:
        console: where to print; None prints nothing.
    """

    def __init__(self, console: Console | None) -> None:
        self.console = console
        self._progress: Progress | None = None
        self._task: Any = None

    def say(self, text: str) -> None:
        """A sentence that stays on the screen."""
        if self.console is not None:
            self.console.print(text, highlight=False, markup=False)

    @contextmanager
    def steps(self, first: int, last: int, what: str = "train") -> Iterator[None]:
        """The moving line, while steps ``first`` to ``last`` are taken."""
        if self.console is None or not self.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.fields[what]}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            self._progress = progress
            self._task = progress.add_task("", total=last, completed=first, what=what, text="")
            try:
                yield
            finally:
                self._progress = None

    def step(self, done: int, text: str) -> None:
        """Move the line: ``done`` steps are finished."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, text=text)


class Pace:
    """Images per second, time left and the share of time spent waiting for data, since a start."""

    def __init__(self, total_steps: int, first_step: int, batch_size: int) -> None:
        self.total_steps = total_steps
        self.batch_size = batch_size
        self._begin = self._mark = time.perf_counter()
        self._first_step = self._mark_step = first_step
        self._waited = 0.0
        self._paused = 0.0

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time that is no training, such as an evaluation: it does not count as slowness."""
        begin = time.perf_counter()
        yield
        spent = time.perf_counter() - begin
        self._mark += spent
        self._paused += spent

    def measure(self, step: int, waited: float) -> dict[str, float]:
        """Speed since the last call; call it at each logged step.

        Args:
            step: steps finished.
            waited: seconds waited for data so far.
        """
        now = time.perf_counter()
        seconds = max(now - self._mark, 1e-9)
        measured = {
            "images_per_second": round((step - self._mark_step) * self.batch_size / seconds, 1),
            "data_wait": round(min((waited - self._waited) / seconds, 1.0), 4),
        }
        self._mark, self._mark_step, self._waited = now, step, waited
        return measured

    def seconds_left(self, step: int) -> float:
        """Estimated seconds of training still to come, evaluations left out."""
        done = step - self._first_step
        spent = time.perf_counter() - self._begin - self._paused
        return (self.total_steps - step) * spent / max(done, 1)


def clock(seconds: float) -> str:
    """Seconds as people read them.

    >>> clock(75), clock(4000), clock(200_000)
    ('1:15', '1:06:40', '2 d 7 h')
    """
    whole = round(seconds)
    if whole >= 86400:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
