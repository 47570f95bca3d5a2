"""`deit evaluate` and `deit report`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from deit.cli.options import metavar, parse
from deit.cli.tables import accuracy_table, check_least, check_writable, count_on_terminal
from deit.data.limits import MAX_PIXELS, check_max_pixels
from deit.errors import UserError

if TYPE_CHECKING:
    from deit.measuring.evaluate import Evaluation

_MOST_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a model on a data set: top-1, top-5 and NLL of each head and of both together."""

    model: Annotated[tyro.conf.Positional[str], metavar("MODEL")]
    """Run folder, weights file, timm:NAME, torchvision:NAME or onnx:FILE."""
    data: Annotated[tyro.conf.Positional[str], metavar("DATA")]
    """A folder with val/ (or train/ and val/) of class folders, tar shards of such folders,
    a manifest, hf:NAME, torchvision:CIFAR10 and the like, or digits."""
    split: Literal["val", "train"] = "val"
    """Which split to measure on."""
    weights: Literal["best", "last", "ema"] = "best"
    """Which weights of a run folder."""
    batch_size: int = 256
    """Images per step."""
    workers: int = 2
    """Processes that decode images; 0 decodes in this one."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Arithmetic of the forward pass."""
    bad_images: Literal["refuse", "wrong"] = "refuse"
    """What to do about images that cannot be decoded: stop at the first, or count them as wrong,
    by name. The figures are taken over all images either way, but NLL over those decoded."""
    max_pixels: Annotated[int, metavar("N")] = MAX_PIXELS
    """Images of more pixels, width times height, cannot be decoded; as data.max_pixels in training.
    """
    json: Annotated[Path | None, metavar("FILE")] = None
    """Also write the figures to this file."""
    predictions: Annotated[Path | None, metavar("FILE")] = None
    """Also write a CSV with the decision on every image to this file."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a run's report: one HTML file that opens offline."""

    run: Annotated[tyro.conf.Positional[Path], metavar("RUN")]
    """The run's folder."""


def evaluate(arguments: Sequence[str]) -> int:
    """`deit evaluate`."""
    options = parse(Evaluate, arguments, verb="evaluate")
    check_least("--batch-size", options.batch_size, 1)
    check_least("--workers", options.workers, 0)
    check_max_pixels("--max-pixels", options.max_pixels)
    check_writable(options.predictions, json=options.json)
    from rich.console import Console

    from deit import artifacts
    from deit.data.images import BadImage
    from deit.data.sources import open_data, open_evaluation
    from deit.measuring.evaluate import evaluate as measure
    from deit.run import machine
    from deit.run.folder import write_json

    device = machine.resolve_device(options.device)
    classifier = artifacts.load_classifier(options.model, which=options.weights)
    if options.split == "val":
        source, notes = open_evaluation(options.data, max_pixels=options.max_pixels)
    else:
        data = open_data(options.data, max_pixels=options.max_pixels)
        source, notes = data.train, data.notes
    classifier = classifier.for_classes(source.classes)
    console = Console()
    for note in (*classifier.notes, *notes):
        console.print(note, highlight=False, markup=False)
    try:
        evaluation = measure(
            classifier,
            source,
            batch_size=options.batch_size,
            workers=options.workers,
            device=device,
            precision=machine.resolve_precision(options.precision, device),
            bad_images=options.bad_images,
            progress=count_on_terminal("evaluating"),
        )
    except BadImage as bad:
        raise UserError(
            f"{bad}",
            "images that can be decoded",
            "mend or remove it (`deit data check` names all of them), or count such images as "
            "wrong: --bad-images wrong",
        ) from bad
    figures = evaluation.to_json()
    console.print(accuracy_table({"": figures}))
    if evaluation.unreadable:
        console.print(_counted_wrong(evaluation), highlight=False, markup=False)
    if options.json:
        write_json(options.json, figures | _bad_images(evaluation, options))
    if options.predictions:
        evaluation.write_predictions(options.predictions)
    return 0


def _counted_wrong(evaluation: "Evaluation") -> str:
    """How many of how many images count as wrong because they cannot be decoded, and which."""
    bad, count = evaluation.unreadable, len(evaluation.labels)
    names = "".join(f"\n  {problem}" for problem in bad[:_MOST_NAMED])
    rest = len(bad) - _MOST_NAMED
    more = f"\n  and {rest} more, which --json and --predictions name" if rest > 0 else ""
    verb = (
        "image cannot be decoded and counts"
        if len(bad) == 1
        else "images cannot be decoded and count"
    )
    return f"{len(bad)} of {count:,} {verb} as wrong; NLL is that of the others:{names}{more}"


def _bad_images(evaluation: "Evaluation", options: Evaluate) -> dict[str, Any]:
    """What --json says of images that cannot be decoded, where they may count as wrong."""
    if options.bad_images == "refuse":
        return {}
    named = [{"name": bad.name, "reason": bad.reason} for bad in evaluation.unreadable]
    return {"counted_wrong": len(named), "bad_images": named}


def report(arguments: Sequence[str]) -> int:
    """`deit report`."""
    options = parse(Report, arguments, verb="report")
    from deit.report.run_report import write_report

    print(write_report(options.run))  # noqa: T201
    return 0
