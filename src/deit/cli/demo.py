"""`deit demo`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from deit.cli.options import metavar, parse
from deit.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Compare a plain DeiT with four ways to distil one from a convnet, on real images.

    Without options: scikit-learn's handwritten digits, three minutes on two cores.
    """

    data: Annotated[str, metavar("DATA")] = "digits"
    """digits, a folder of images, or torchvision:CIFAR10 and the like."""
    out: Annotated[Path | None, metavar("DIR")] = None
    """Where the runs and report.html go; must be new. Left out: runs/demo, or runs/demo-2 and so on
    when that exists."""
    seeds: Annotated[int, metavar("N")] = 3
    """Seeds per method; intervals need at least two."""
    epochs: Annotated[int | None, metavar("N")] = None
    """Length of every run; left out, the recipe's."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """Also write the table to this file."""


def run_demo(arguments: Sequence[str]) -> int:
    """`deit demo`."""
    options = parse(Demo, arguments, verb="demo")
    for name, value in (("--seeds", options.seeds), ("--epochs", options.epochs)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value}", "from 1", "correct the number")
    from rich.console import Console

    from deit.cli.tables import check_writable, comparison_table
    from deit.demo import demo
    from deit.run.folder import check_new, write_json

    out = options.out or free_folder(Path("runs/demo"))
    check_new(out)
    check_writable(options.json)
    console = Console()
    report, comparison = demo(
        out,
        source=options.data,
        seeds=options.seeds,
        epochs=options.epochs,
        say=lambda text: console.print(text, highlight=False, markup=False),
    )
    console.print(comparison_table(comparison))
    console.print(f"report: {report}", highlight=False)
    if options.json:
        rows = [{"method": r.label, "head": r.head, "top1": r.top1s} for r in comparison.rows]
        write_json(options.json, {"seeds": comparison.seeds, "rows": rows})
    return 0


def free_folder(wanted: Path) -> Path:
    """The folder, or the first of its name with a number that does not exist yet."""
    number, path = 1, wanted
    while path.exists():
        number += 1
        path = wanted.with_name(f"{wanted.name}-{number}")
    return path
