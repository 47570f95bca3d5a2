"""What a prepared store brings: bytes, views per second on one core, and how far its views differ.

Camera-sized and ImageNet-sized JPEGs are cut and enlarged from scikit-learn's two photographs, so
their bytes and speeds are of that size of file, the differences an example. Original and stores
take turns.

    python benchmarks/prepared_store.py --json prepared_store.json
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from deit.benchmarking.data_peers import SIZE
from deit.benchmarking.timing import time_interleaved, use_threads
from deit.cli.tables import check_writable
from deit.data.loader import TrainLoader
from deit.data.order import OrderConfig
from deit.data.plan import ViewConfig
from deit.data.shrinking import ShrinkConfig
from deit.data.sources import open_data
from deit.programs.prepare_data import prepare_data
from deit.programs.prepared_views import compare_views
from deit.recipes.book import get_recipe
from deit.run import machine
from deit.run.folder import write_json

ORIGINALS = {"4000 x 3000": (4000, 3000, 90, 32), "500 x 375": (500, 375, 95, 128)}
"""Name: width, height, JPEG quality, how many."""

STORES = {"4000 x 3000": (256, 512), "500 x 375": (256, 320)}
"""Sizes of the stores that are made of them."""


def write_originals(folder: Path, name: str) -> None:
    """Training and validation images in two classes, all different."""
    width, height, quality, count = ORIGINALS[name]
    for index in range(count):
        label = ("china", "flower")[index % 2]
        photograph = Image.fromarray(load_sample_image(f"{label}.jpg"))
        left, top = index * 7 % 100, index * 5 % 60
        cut = photograph.resize(
            (width, height), Image.Resampling.BICUBIC, box=(left, top, left + 480, top + 360)
        )
        path = folder / ("val" if index % 8 > 5 else "train") / label / f"{index:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cut.save(path, quality=quality)


def measure(folder: Path, name: str, rounds: int) -> dict[str, dict[str, Any]]:
    """The original's row and those of its stores."""
    write_originals(folder / "original", name)
    data = open_data(str(folder / "original"))
    recipe = get_recipe("paper/deit-tiny")
    rows: dict[str, dict[str, Any]] = {"original": {}}
    for size in STORES[name]:
        config, path = ShrinkConfig(size=size), folder / str(size)
        made = prepare_data(
            data,
            "original",
            path,
            config,
            difference=lambda config=config: compare_views(recipe, data, config),
        )
        rows[f"--size {size}"] = {
            "bytes": made.bytes_after,
            "of_original": made.bytes_after / (made.bytes_before or 1),
            "difference": made.difference,
        }
        rows["original"]["bytes"] = made.bytes_before
    sources = {"original": data} | {
        f"--size {s}": open_data(str(folder / str(s))) for s in STORES[name]
    }

    def views_of(opened: Any) -> Any:
        loader = TrainLoader(
            opened.train, ViewConfig(), OrderConfig(), SIZE, 0, len(opened.train), workers=0
        )
        return lambda: list(loader.batches(0, 1))

    timings = time_interleaved(
        {row: views_of(opened) for row, opened in sources.items()},
        rounds=rounds,
        device=torch.device("cpu"),
    )
    for row, timing in timings.items():
        rows[row]["views_per_second"] = len(data.train) / timing.median
    return rows


def main(words: list[str] | None = None) -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(words)
    check_writable(options.json)
    told = {}
    with use_threads(1), tempfile.TemporaryDirectory() as name:
        for original in ORIGINALS:
            told[original] = measure(
                Path(name, original.replace(" ", "")), original, options.rounds
            )
    for original, rows in told.items():
        for row, figures in rows.items():
            print(f"{original:12} {row:11} {figures['views_per_second']:6.0f} views/s", end="")
            found = figures.get("difference")
            if found:
                print(
                    f"  {figures['of_original']:.0%} of the bytes, {found['training']:.1f} and "
                    f"{found['evaluation']:.1f} grey levels, crops enlarged "
                    f"{found['enlarged_before']:.0%} before, {found['enlarged_after']:.0%} after",
                    end="",
                )
            print()
    if options.json:
        environment = machine.describe_environment(torch.device("cpu"))
        write_json(options.json, {"originals": told, "environment": environment})


if __name__ == "__main__":
    main()
