"""`deit benchmark KIND`: speed against other programs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.table import Table

from deit.cli.options import metavar, parse
from deit.cli.tables import check_least, check_writable
from deit.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from deit.benchmarking.distill import DistillTimes, StudentTimes

_STUDENT = "deit_tiny_distilled_patch16_224"


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Time a distillation step with stored labels against the online teacher and against timm.

    All sides train the same student on the same random images; their outputs are compared first.
    Weights are random: nothing is downloaded.
    """

    student: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], metavar("NAME")] = ()
    """A distilled model; give the option again for a further one. Left out:
    deit_tiny_distilled_patch16_224."""
    teacher: Annotated[str, metavar("timm:NAME")] = "timm:regnety_160"
    """A model of timm."""
    batch_size: int = 16
    """Images per step."""
    rounds: int = 5
    """Timed steps of each side, taken in turns, after one that is not timed."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of student and teacher on all sides."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    threads: Annotated[int | None, metavar("N")] = None
    """Threads of the CPU. Left out: as torch chooses."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """Also write the figures to this file."""


def benchmark(arguments: Sequence[str]) -> int:
    """`deit benchmark`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())  # noqa: T201
        return 0
    kind = arguments[0]
    if kind not in KINDS:
        raise UserError(
            f"deit benchmark {kind}: no such benchmark",
            ", ".join(KINDS),
            did_you_mean(kind, KINDS) or "`deit benchmark --help` describes them",
        )
    return KINDS[kind][0](arguments[1:])


def distill(arguments: Sequence[str]) -> int:
    """`deit benchmark distill`."""
    options = parse(Distill, arguments, verb="benchmark distill")
    students = options.student or (_STUDENT,)
    for name in students:
        if students.count(name) > 1:
            raise UserError(f"--student {name} twice", "each student once", "leave one out")
    check_least("--batch-size", options.batch_size, 1)
    check_least("--rounds", options.rounds, 1)
    if options.threads is not None:
        check_least("--threads", options.threads, 1)
    check_writable(options.json)
    from rich.console import Console

    from deit.benchmarking.distill import time_distillation
    from deit.run.folder import write_json
    from deit.run.progress import Monitor

    console = Console()
    measured = time_distillation(
        students,
        options.teacher,
        batch_size=options.batch_size,
        rounds=options.rounds,
        precision=options.precision,
        device=options.device,
        threads=options.threads,
        monitor=Monitor(console),
    )
    _show(console.print, measured)
    if options.json:
        write_json(options.json, measured.to_json())
    return 0


KINDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "distill": (distill, "a step with stored labels, the online teacher, and timm"),
}


def _overview() -> str:
    lines = "\n".join(f"  {name:10}  {text}" for name, (_, text) in KINDS.items())
    return (
        "usage: deit benchmark KIND ...\n\nSpeed against other programs, side by side in one "
        f"process.\n\n{lines}\n\n`deit benchmark KIND --help` describes one."
    )


def _show(say: Callable[..., None], measured: "DistillTimes") -> None:
    told = measured.environment
    say(
        f"{told['processor']}, {told['device']}, {told['threads']} threads; "
        f"torch {told['versions']['torch']}, timm {told['versions']['timm']}; "
        f"{measured.precision}, batch {measured.batch_size}, {measured.rounds} rounds",
        highlight=False,
    )
    for name, student in measured.students.items():
        say(f"\n{name}, taught by {measured.teacher}", highlight=False)
        say(step_table(student, measured.batch_size))
    say(f"\nlabel store: {measured.bytes_per_view:.3f} bytes per view", highlight=False)


def step_table(student: "StudentTimes", batch_size: int) -> Table:
    """Seconds of a step on each side, and how much faster stored labels are."""
    table = Table(box=None, pad_edge=False)
    table.add_column("teacher's labels")
    for column in ("s/step", "quartiles", "images/s", "stored is faster by"):
        table.add_column(column, justify="right")
    names = {"stored": "stored", "online": "asked online", "timm": "asked by timm"}
    for side, timing in student.timings.items():
        low, high = timing.quartiles
        ratio = student.ratios.get(side)
        table.add_row(
            names[side],
            f"{timing.median:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{batch_size / timing.median:.1f}",
            "" if ratio is None else f"{ratio:.2f}",
        )
    return table
