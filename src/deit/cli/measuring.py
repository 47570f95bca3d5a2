"""`deit evaluate` and `deit report`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from deit.cli.options import metavar, parse
from deit.cli.tables import accuracy_table, check_least, check_writable, count_on_terminal


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
    check_writable(options.json, options.predictions)
    from rich.console import Console

    from deit import artifacts
    from deit.data.sources import open_data, open_evaluation
    from deit.measuring.evaluate import evaluate as measure
    from deit.run import machine
    from deit.run.folder import write_json

    device = machine.resolve_device(options.device)
    classifier = artifacts.load_classifier(options.model, which=options.weights)
    if options.split == "val":
        source, notes = open_evaluation(options.data)
    else:
        data = open_data(options.data)
        source, notes = data.train, data.notes
    classifier = classifier.for_classes(source.classes)
    console = Console()
    for note in (*classifier.notes, *notes):
        console.print(note, highlight=False, markup=False)
    evaluation = measure(
        classifier,
        source,
        batch_size=options.batch_size,
        workers=options.workers,
        device=device,
        precision=machine.resolve_precision(options.precision, device),
        progress=count_on_terminal("evaluating"),
    )
    console.print(accuracy_table({"": evaluation.to_json()}))
    if options.json:
        write_json(options.json, evaluation.to_json())
    if options.predictions:
        evaluation.write_predictions(options.predictions)
    return 0


def report(arguments: Sequence[str]) -> int:
    """`deit report`."""
    options = parse(Report, arguments, verb="report")
    from deit.report.run_report import write_report

    print(write_report(options.run))  # noqa: T201
    return 0
