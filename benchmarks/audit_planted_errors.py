"""How many planted label errors does an audit of stored labels find?

Some labels of the training images are replaced by another class, uniformly at random. A teacher's
decisions on several views of each image are recorded, without mixing, and `deit audit` ranks the
images. Two teachers: one that is given, and a small convnet that is trained here on the very images
with the wrong labels, for a few epochs.

    python benchmarks/audit_planted_errors.py DATA --teacher T --json results.json \\
        --plot curve.svg views.policy=none

Recipe fields are those of the views that are recorded.

The teacher that is given may have been trained on these images with their right labels: then its
curve says what a knowing teacher can do, and the other one what one can do for oneself.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64

from deit.cli.options import split_overrides
from deit.cli.tables import check_writable
from deit.data.dataset import ArraySource, DataSet, Source, take_per_class
from deit.data.plan import ViewConfig
from deit.data.sources import open_data
from deit.model.variants import named_config
from deit.optim.config import OptimConfig
from deit.programs.audit import audit_labels
from deit.programs.record import record_labels
from deit.programs.train import train
from deit.randomness import Stream, uniform
from deit.recipes.book import get_recipe
from deit.recipes.recipe import Recipe, distilled, override
from deit.run import machine
from deit.run.folder import write_json
from deit.run.progress import Monitor

LISTED = 50
"""Images in the list that `deit audit` prints."""


def plant_errors(
    labels: Int64[np.ndarray, "images"], num_classes: int, errors: int, seed: int
) -> tuple[Int64[np.ndarray, "images"], Bool[np.ndarray, "images"]]:
    """Labels of which so many are another class, and which those are."""
    draws = uniform(seed, 0, np.arange(len(labels)), Stream.SPLIT, 2)
    wrong = np.zeros(len(labels), dtype=bool)
    wrong[np.argsort(draws[:, 0], kind="stable")[:errors]] = True
    other = (labels + 1 + (draws[:, 1] * (num_classes - 1)).astype(np.int64)) % num_classes
    return np.where(wrong, other, labels), wrong


def in_memory(source: Source, labels: Int64[np.ndarray, "images"]) -> Source:
    """Images of one size with other labels, decoded once."""
    images = np.stack([source.read(index) for index in range(len(source))])
    return ArraySource(images, labels, source.classes, list(source.names))


def average_precision(found: Bool[np.ndarray, "ranked"], errors: int) -> float:
    """Mean over the errors of the precision at their place in a ranking; 0 for those outside it.

    >>> average_precision(np.array([True, False, True]), 2)
    0.8333333333333333
    """
    places = np.flatnonzero(found)
    return float(((np.arange(len(places)) + 1) / (places + 1)).sum() / errors)


def measure(
    store: Path, data: DataSet, truth: Int64[np.ndarray, "images"], views: int
) -> dict[str, Any]:
    """What the ranking of an audit with the first so many views of each image finds."""
    evidence = audit_labels(store, data=data, epochs=views).labels
    wrong = evidence.labels != truth
    ranking = evidence.ranking()
    found, errors = wrong[ranking], int(wrong.sum())
    hits = np.cumsum(found)
    off = evidence.off
    right = evidence.suggested[wrong] == truth[wrong]
    return {
        "views": views,
        "errors": errors,
        "images": len(wrong),
        "average_precision": average_precision(found, errors),
        f"precision_at_{LISTED}": float(found[:LISTED].mean()),
        "precision_at_errors": float(found[:errors].mean()),
        "suggestion_right": float(right.mean()),
        "off": int(off.sum()),
        "off_precision": float(wrong[off].mean()) if off.any() else None,
        "off_recall": float(off[wrong].mean()),
        "agreement": float(np.nanmean(evidence.agreement[~wrong])),
        "curve": curve(hits, errors),
    }


def curve(hits: Int64[np.ndarray, "ranked"], errors: int, points: int = 60) -> list[list[float]]:
    """Recall and precision after so many places of the ranking, evenly spread over recall."""
    places = np.searchsorted(hits, np.unique(np.linspace(1, errors, points).astype(int)))
    return [
        [round(float(hits[place] / errors), 4), round(float(hits[place] / (place + 1)), 4)]
        for place in places[places < len(hits)]
    ]


def audit_recipe(options: argparse.Namespace, teacher: str) -> Recipe:
    """The views that are recorded: the recipe's, without mixing."""
    base = override(
        get_recipe(options.recipe),
        {"data.source": options.data, "mix.mixup": 0, "mix.cutmix": 0, "batch_size": 100}
        | {"epochs": max(options.views), "run.workers": 0, "run.precision": "float32"}
        | {"schedule.warmup_epochs": 0, "run.check_images": "none"}
        | options.overrides,
    )
    return distilled(base, teacher, "hard", token=True)


def own_teacher(options: argparse.Namespace, data: DataSet, folder: Path) -> Path:
    """A small convnet, trained on the labels as they are, with crops and flips only.

    One that stands in the folder already is taken as it is.
    """
    if (folder / "result.json").is_file():
        return folder
    base = override(
        get_recipe(options.recipe),
        {"data.source": options.data, "mix.mixup": 0, "mix.cutmix": 0, "batch_size": 100}
        | {"epochs": options.epochs, "run.workers": 0, "run.precision": "float32"}
        | {"run.eval_epochs": options.epochs, "ema.decay": 0, "run.check_images": "none"}
        | {"schedule.warmup_epochs": 1},
    )
    recipe = dataclasses.replace(
        base,
        model=dataclasses.replace(named_config("convnet_small", img_size=32), width=options.width),
        views=ViewConfig(scale=(0.35, 1.0), policy="none", erase=0.0),
        optim=OptimConfig(lr=2e-3, lr_batch=64),
    )
    return train(recipe, folder, data=data).path


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Both teachers, each with every number of views."""
    monitor = Monitor(None)
    opened = open_data(options.data, images_per_class=options.images_per_class)
    truth = np.asarray(opened.train.labels, dtype=np.int64)
    labels, _ = plant_errors(truth, len(opened.classes), options.errors, options.seed)
    val = take_per_class(opened.val, options.val_per_class)
    data = DataSet(in_memory(opened.train, labels), val)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = options.stores or Path(folder)
        teachers = {"given": options.teacher, "own": None}
        for name, teacher in teachers.items():
            if teacher is None:
                teacher = str(own_teacher(options, data, place / "teacher"))
            recorded = record_labels(
                audit_recipe(options, teacher), place / name, data=data, monitor=monitor
            )
            results[name] = {
                "teacher_accuracy": recorded.examination["accuracy"],
                "rows": [measure(place / name, data, truth, views) for views in options.views],
            }
            print(name, table(results[name]), sep="\n", flush=True)
    return results


def table(result: dict[str, Any]) -> str:
    """One line for each number of views."""
    head = f"{'views':>5} {'AP':>6} {'at ' + str(LISTED):>6} {'at errors':>9} {'agree':>6}"
    rows = [
        f"{row['views']:>5} {row['average_precision']:>6.3f} "
        f"{row[f'precision_at_{LISTED}']:>6.3f} {row['precision_at_errors']:>9.3f} "
        f"{row['agreement']:>6.3f}"
        for row in result["rows"]
    ]
    return "\n".join([f"teacher knows {result['teacher_accuracy']:.2%}", head, *rows])


def draw(results: dict[str, Any], path: Path) -> None:
    """Precision over recall: a panel for each teacher, a line for each number of views."""
    from matplotlib.figure import Figure

    titles = {"given": "a teacher that knew the right labels", "own": "trained on the wrong labels"}
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, result) in zip(panels, results.items(), strict=True):
        for shade, row in enumerate(result["rows"]):
            recall, precision = zip(*row["curve"], strict=True)
            label = (
                f"{row['views']} view{'s' * (row['views'] > 1)}: AP {row['average_precision']:.2f}"
            )
            axes.plot(recall, precision, color=f"C{shade}", label=label)
        chance = result["rows"][0]["errors"] / result["rows"][0]["images"]
        axes.axhline(chance, color="grey", linewidth=0.8, linestyle=":")
        axes.set_title(titles[name], fontsize=10)
        axes.set_xlabel("recall: share of the wrong labels that is found")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.legend(loc="lower left", frameon=False, fontsize=9)
    panels[0].set_ylabel("precision of the list so far")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


def main(words: Sequence[str] | None = None) -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--recipe", default="cifar")
    parser.add_argument("--images-per-class", type=int)
    parser.add_argument("--val-per-class", type=int, default=100)
    parser.add_argument("--errors", type=int, default=500)
    parser.add_argument("--views", type=int, nargs="+", default=[1, 4, 10, 20])
    parser.add_argument("--epochs", type=int, default=10, help="of the teacher trained here")
    parser.add_argument("--width", type=int, default=16, help="of the teacher trained here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stores", type=Path, help="keep stores and teacher there, and reuse them")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--plot", type=Path, required=True)
    words, overrides = split_overrides(sys.argv[1:] if words is None else words)
    options = parser.parse_args(words, argparse.Namespace(overrides=overrides))
    check_writable(options.json, options.plot)
    torch.set_num_threads(1)
    results = compare(options)
    settings = {
        name: value
        for name, value in vars(options).items()
        if name not in ("data", "teacher", "stores", "json", "plot")
    }
    environment = machine.describe_environment(torch.device("cpu"))
    write_json(
        options.json,
        {
            "settings": settings | {"teacher": Path(options.teacher).name},
            "device": environment["device"],
            "versions": environment["versions"],
            "results": results,
        },
    )
    draw(results, options.plot)


if __name__ == "__main__":
    main()
