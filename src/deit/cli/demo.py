"""`deit demo`."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from deit.cli.options import metavar, parse, recipe_fields, split_overrides
from deit.cli.tables import check_least, check_writable


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Compare a plain DeiT with four ways to distil one from a convnet, on real images.

    Without options: scikit-learn's handwritten digits, two minutes on two cores.

    Any field of the students' recipe can be changed: --optim.lr 1e-3, or optim.lr=1e-3.
    """

    data: Annotated[str, metavar("DATA")] = "digits"
    """digits, a folder of images, or torchvision:CIFAR10 and the like."""
    out: Annotated[Path | None, metavar("DIR")] = None
    """Where the runs and report.html go; must be new. Left out: runs/demo, or runs/demo-2 and so on
    when that exists."""
    seeds: Annotated[int, metavar("N")] = 3
    """Seeds per method; intervals need at least two."""
    teacher: Annotated[str | None, metavar("T")] = None
    """An existing teacher: run folder, timm:NAME, torchvision:NAME or onnx:FILE. Left out: a small
    convnet is trained on the same images."""
    methods: Annotated[str | None, metavar("KEYS")] = None
    """Which methods, separated by commas: plain, soft-class, hard-class, soft-token, hard-token.
    Left out: all."""
    recipe: Annotated[str | None, metavar("NAME")] = None
    """Recipe of the students; left out, the demo's own for the data."""
    epochs: Annotated[str | None, metavar("N")] = None
    """Length of every student's run; left out, the recipe's."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """Also write the table to this file."""


def run_demo(arguments: Sequence[str]) -> int:
    """`deit demo`."""
    words, overrides = split_overrides(arguments)
    options = parse(Demo, words, verb="demo", epilog=recipe_fields)
    check_least("--seeds", options.seeds, 1)
    from rich.console import Console

    from deit import config
    from deit.cli.recipes import find_recipe
    from deit.cli.tables import comparison_table
    from deit.demo import demo, demo_recipes
    from deit.run.folder import check_new, write_json
    from deit.students import find_methods

    out = options.out or free_folder(Path("runs/demo"))
    check_new(out)
    check_writable(json=options.json)
    student, _ = demo_recipes(options.data)
    if options.recipe is not None:
        chosen = find_recipe(options.recipe, options.data)
        student = dataclasses.replace(chosen, data=student.data)
    if options.epochs is not None:
        overrides = {"epochs": options.epochs, **overrides}
    student = config.override(student, overrides)
    console = Console()
    report, comparison = demo(
        out,
        source=options.data,
        seeds=options.seeds,
        teacher=options.teacher,
        student=student,
        methods=None if options.methods is None else find_methods(options.methods),
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
