"""`deit benchmark KIND`: speed against other programs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.table import Table

from deit.cli.options import metavar, parse
from deit.cli.tables import check_least, check_writable
from deit.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from deit.benchmarking.data import DataTimes
    from deit.benchmarking.distill import DistillTimes, StudentTimes
    from deit.benchmarking.timing import Timing

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


@dataclass(frozen=True, kw_only=True)
class Data:
    """Time the making of training views against timm and torchvision, on the same JPEG files.

    One view of each image (single), and three (repeat3); on one core, and on all.
    """

    data: Annotated[tyro.conf.Positional[str | None], metavar("FOLDER")] = None
    """Where to take JPEGs from, at any depth. Left out: 500 x 375 pixels, from scikit-learn's
    photographs."""
    peers: Annotated[str, metavar("NAMES")] = "timm,torchvision,torchvision-tensors"
    """Some of timm, torchvision and torchvision-tensors, with commas between."""
    images: Annotated[int, metavar("N")] = 192
    """Files, and views in an epoch."""
    batch_size: int = 64
    """Views in a batch."""
    rounds: int = 7
    """Timed epochs of each side and case, taken in turns, after one that is not timed."""
    cores: Literal["one", "all", "both"] = "both"
    """Where to measure."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """Also write the figures to this file."""
    plot: Annotated[Path | None, metavar("FILE")] = None
    """Also draw them, as .svg or .png."""


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
    check_writable(json=options.json)
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


def data(arguments: Sequence[str]) -> int:
    """`deit benchmark data`."""
    options = parse(Data, arguments, verb="benchmark data")
    peers = [name.strip() for name in options.peers.split(",") if name.strip()]
    for name in peers:
        if name not in _DATA_PEERS or peers.count(name) > 1:
            raise UserError(
                f"--peers {options.peers}: {name}",
                f"each of {', '.join(_DATA_PEERS)} at most once, with commas between",
                did_you_mean(name, _DATA_PEERS) or "correct the list",
            )
    for option in ("images", "batch_size", "rounds"):
        check_least(f"--{option.replace('_', '-')}", getattr(options, option), 1)
    check_writable(json=options.json, plot=options.plot)
    if options.plot and options.plot.suffix not in (".svg", ".png"):
        raise UserError(f"--plot {options.plot}", "a name that ends in .svg or .png", "change it")
    from rich.console import Console

    from deit.benchmarking.data import time_data
    from deit.benchmarking.data_plot import draw_speeds
    from deit.run.folder import write_json
    from deit.run.progress import Monitor

    console = Console()
    measured = time_data(
        peers,
        data=options.data,
        images=options.images,
        batch_size=options.batch_size,
        rounds=options.rounds,
        cores=options.cores,
        monitor=Monitor(console),
    )
    show_data(console.print, measured)
    if options.json:
        write_json(options.json, measured.to_json())
    if options.plot:
        draw_speeds(measured, options.plot)
    return 0


_DATA_PEERS = ("timm", "torchvision", "torchvision-tensors")

KINDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "data": (data, "making training views, timm and torchvision"),
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


def show_data(say: Callable[..., None], measured: "DataTimes") -> None:
    """Tables of views per second, and of where the time goes."""
    told = measured.environment
    say(
        f"{told['processor']}, {told['system']}; Pillow {told['versions']['pillow']}, timm "
        f"{told['versions']['timm']}, torchvision {told['versions']['torchvision']}; "
        f"files of {measured.file_bytes / 1024:.0f} KB",
        highlight=False,
    )
    for case, sides in measured.timings.items():
        say()
        say(_speed_table(case, sides, measured))
    say()
    say(_stage_table(measured.stages))


def _speed_table(case: str, sides: Mapping[str, "Timing"], measured: "DataTimes") -> Table:
    from deit.benchmarking.data import OURS, epochs_of, views_of_an_image
    from deit.benchmarking.timing import speed_ratio

    repeats, views = views_of_an_image(case), measured.views_of(case)
    where = "one core" if epochs_of(case) == 1 else f"{measured.cores} cores"
    table = Table(box=None, pad_edge=False)
    table.add_column(f"{repeats} view{'s' if repeats > 1 else ''} of an image, {where}")
    for column in ("views/s", "quartiles", "deit is faster by"):
        table.add_column(column, justify="right")
    for side, timing in sides.items():
        fast, slow = (views / seconds for seconds in timing.quartiles)
        ratio = speed_ratio(sides[OURS], timing)
        table.add_row(
            side,
            f"{views / timing.median:.0f}",
            f"{slow:.0f} to {fast:.0f}",
            f"{ratio:.2f}" if side in measured.ratios else "",
        )
    return table


def _stage_table(stages: Mapping[str, float]) -> Table:
    from deit.benchmarking.data_stages import OF_AN_IMAGE, ON_THE_DEVICE

    host = {name: taken for name, taken in stages.items() if name not in ON_THE_DEVICE}
    table = Table(box=None, pad_edge=False)
    table.add_column("stage of deit, one core")
    for column in ("ms", "share, 1 view", "share, 3 views"):
        table.add_column(column, justify="right")
    shares = [
        {name: taken / (views if name in OF_AN_IMAGE else 1) for name, taken in host.items()}
        for views in (1, 3)
    ]
    for name, taken in stages.items():
        parts = [f"{each[name] / sum(each.values()):.0%}" for each in shares if name in host]
        table.add_row(name, f"{taken / 1000:.3f}", *(parts or ("the device's", "")))
    return table
