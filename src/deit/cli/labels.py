"""`deit label`: a teacher's decisions on every view of a run, stored ahead; `deit label verify`."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from deit.cli.options import metavar, parse, recipe_fields, split_overrides
from deit.cli.tables import check_least, check_writable
from deit.cli.training import WithTeacher, build_distilled
from deit.errors import UserError
from deit.recipes.recipe import Recipe, load_recipe


@dataclass(frozen=True, kw_only=True)
class Label(WithTeacher):
    """Ask a teacher about every view of a run and store what it says, two bytes a view.

    `deit distill DATA --teacher labels:DIR` then trains any number of students without it.

    A command that was interrupted goes on when it is given again, or with --out DIR alone.

    `deit label verify DIR` compares a store with its teacher.
    """

    out: Annotated[Path | None, metavar("DIR")] = None
    """The store's folder: new, or one that was begun."""
    dry_run: bool = False
    """Only tell how large the store would be, and how long it would take."""
    resume: tyro.conf.Suppress[bool] = False  # no option of this verb: it always goes on

    top_k: Annotated[int | None, metavar("K")] = None
    """Also keep the probabilities of so many classes, the likeliest, which soft labels need."""
    confidence: bool = False
    """Also keep the probability of the decision."""
    processes: int = 1
    """Processes that share the work, each with a teacher of its own."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """Also write the figures to this file."""


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Check the sums of a label store, and ask its teacher again about a sample of its views."""

    store: Annotated[tyro.conf.Positional[Path], metavar("DIR")]
    """The label store."""
    views: int = 2000
    """Labels to compare, at least."""
    data: Annotated[str | None, metavar("DATA")] = None
    """Where its images are now. Left out: as recorded."""
    teacher: Annotated[str | None, metavar("T")] = None
    """Where its teacher is now. Left out: as recorded."""
    device: Annotated[str | None, metavar("NAME")] = None
    """auto, cpu, cuda, cuda:1, mps. Left out: as recorded."""
    json: Annotated[Path | None, metavar("FILE")] = None
    """Also write the figures to this file."""


def label(arguments: Sequence[str]) -> int:
    """`deit label`."""
    if arguments and arguments[0] == "verify":
        return verify(arguments[1:])
    words, overrides = split_overrides(arguments)
    options = parse(Label, words, verb="label", epilog=recipe_fields)
    check_least("--processes", options.processes, 1)
    check_least("--top-k", options.top_k or 0, 0)
    check_writable(json=options.json)
    recipe = _recipe(options, overrides)
    from rich.console import Console

    from deit.programs.record import estimate_labels, record_labels
    from deit.run.folder import write_json
    from deit.run.progress import Monitor

    monitor = Monitor(Console())
    keep = {"top_k": options.top_k, "confidence": options.confidence or None}
    if options.dry_run:
        print(estimate_labels(recipe, **keep, processes=options.processes, monitor=monitor))  # noqa: T201
        return 0
    assert options.out is not None
    recorded = record_labels(
        recipe, options.out, **keep, processes=options.processes, monitor=monitor
    )
    if options.json:
        write_json(options.json, recorded.to_json())
    if recorded.missing:
        go_on = f"deit label --out {shlex.quote(str(options.out))}"
        print(f"interrupted: {recorded.missing:,} views are missing; go on with: {go_on}")  # noqa: T201
        return 75
    print(recorded)  # noqa: T201
    return 0


def verify(arguments: Sequence[str]) -> int:
    """`deit label verify`."""
    options = parse(Verify, arguments, verb="label verify")
    check_least("--views", options.views, 1)
    check_writable(json=options.json)
    from rich.console import Console

    from deit.programs.verify import verify_labels
    from deit.run.folder import write_json
    from deit.run.progress import Monitor

    verified = verify_labels(
        options.store,
        views=options.views,
        source=options.data,
        teacher=options.teacher,
        device=options.device,
        monitor=Monitor(Console()),
    )
    if options.json:
        write_json(options.json, verified.to_json())
    print(verified)  # noqa: T201
    return 0 if verified.is_sound else 1


def _recipe(options: Label, overrides: dict[str, Any]) -> Recipe:
    """The recipe of the words; with --out alone, that of the store."""
    if options.out is None and not options.dry_run:
        raise UserError("deit label without --out", "--out DIR, the store's folder", "add it")
    kept = options.out / "recipe.yaml" if options.out else Path()
    stated = (options.data, options.recipe, options.config, options.teacher, options.model)
    if not any(stated) and kept.is_file():
        from deit import config

        changes = {"schedule.warmup_epochs": 0, **options.changes(), **overrides}
        return config.override(load_recipe(kept), changes)  # a warm-up changes no label
    if options.out is not None and not any(stated):
        raise UserError(
            f"{options.out} holds no stored labels yet",
            "DATA and --teacher, to begin a store",
            "give the whole command: `deit label DATA --teacher T --out DIR`",
        )
    return build_distilled(options, overrides)
