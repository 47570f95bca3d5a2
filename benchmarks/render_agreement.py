"""Does a teacher decide the same on views of the host and of the device?

The views of a recipe are rendered twice from one plan: on the host, one by one, and as batched
operations on a device (the CPU, unless another is named; the bytes are the same). A teacher is
asked about both, once about the views as they are and once as they are trained on, erased and
mixed. Its classes need not be those of the data, whose labels are not looked at: DATA may be a
folder of nothing but images.

    python benchmarks/render_agreement.py imagenet --teacher deit_tiny_patch16_224.safetensors \\
        --recipe paper/deit-tiny --views 2048 --json render_agreement.json

Each call adds its result to the file, under the teacher's name.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deit.artifacts import build_teacher, load_classifier
from deit.cli.options import split_overrides
from deit.cli.tables import check_writable
from deit.data.classes import ClassList
from deit.data.folder import FileSource
from deit.data.loader import TrainLoader
from deit.data.names import Names
from deit.data.operations import Operation
from deit.data.operations_device import DEVICE_RENDERER
from deit.data.plan import plan_operations
from deit.data.render import RENDERER
from deit.data.render_device import HostBatch, finish_crops
from deit.data.sources import Source, open_data
from deit.distillation.teacher import Teacher
from deit.programs.step import finish_views
from deit.recipes.book import get_recipe
from deit.recipes.recipe import Recipe, override
from deit.run import machine
from deit.run.folder import write_json

BATCH = 64
"""Views that are rendered, mixed and asked about at a time: a group of mixing."""

KINDS = {
    "turned": (Operation.ROTATE,),
    "slid": (
        Operation.SHEAR_X,
        Operation.SHEAR_Y,
        Operation.TRANSLATE_X,
        Operation.TRANSLATE_Y,
    ),
}
"""Views with the one, and of the others those with the other."""


def open_images(place: str) -> Source:
    """The training images of a data set, or the images of a folder without classes."""
    folder = Path(place)
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    images = [path for path in inside if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    if not images:
        return open_data(place).train
    labels = np.zeros(len(images), dtype=np.int64)
    names = Names.of(path.name for path in images)
    return FileSource(str(folder), names, labels, ClassList(("image",)))


def open_teacher(spec: str) -> Teacher:
    """A teacher for its own classes, whatever the data's are."""
    classifier = load_classifier(spec)
    numbers = ClassList(tuple(map(str, range(classifier.num_classes))))
    return build_teacher(dataclasses.replace(classifier, classes=numbers), numbers)


def loaded(recipe: Recipe, source: Source, render: str) -> Iterator[tuple[HostBatch, float]]:
    """The batches of a run without end, each with the seconds that the loader took."""
    loader = TrainLoader(
        source,
        recipe.views,
        recipe.order,
        image_size=recipe.model.img_size,
        seed=recipe.seed_of_views,
        batch_size=BATCH,
        workers=0,
        render="host" if render == "host" else "device",
    )
    before = 0.0
    for batch in loader.batches(0, sys.maxsize):
        yield batch, loader.seconds_waiting - before
        before = loader.seconds_waiting


def compare(
    recipe: Recipe, source: Source, teacher: Teacher, views: int, device: torch.device
) -> dict[str, np.ndarray]:
    """Render the first views of a run in both ways and ask the teacher about them.

    Returns:
        For each view: whether the decision is the ``same``, and so after erasing and mixing
        (``same_mixed``); the mean ``distance`` of the pixels in grey levels; the largest ``gap`` in
        a class's probability; its ``kind``. And for each batch the seconds of ``host``, ``crops``
        and ``device``.
    """
    columns: dict[str, list[np.ndarray]] = {}
    plain = override(recipe, {"mix.mixup": 0, "mix.cutmix": 0, "views.erase": 0})
    both = zip(loaded(recipe, source, "host"), loaded(recipe, source, "device"), strict=True)
    for done, ((host, spent), (crops, cutting)) in zip(range(0, views, BATCH), both, strict=False):
        began = time.perf_counter()
        there = finish_on(crops, recipe, device)
        rendering = time.perf_counter() - began
        on_host, on_device = (ask(teacher, plain, batch) for batch in (host, there))
        decisions = [ask(teacher, recipe, batch).argmax(-1) for batch in (host, there)]
        distance = (host.images.to(torch.int16) - there.images).abs().float().mean((1, 2, 3))
        measured = {
            "same": (on_host.argmax(-1) == on_device.argmax(-1)).numpy(),
            "same_mixed": (decisions[0] == decisions[1]).numpy(),
            "distance": distance.numpy(),
            "gap": (on_host - on_device).abs().amax(-1).numpy(),
            "kind": kinds(recipe, host),
            "host": np.array([spent]),
            "crops": np.array([cutting]),
            "device": np.array([rendering]),
        }
        for name, values in measured.items():
            columns.setdefault(name, []).append(values)
        print(f"{done + BATCH} views", file=sys.stderr)
    return {name: np.concatenate(column) for name, column in columns.items()}


def finish_on(crops: HostBatch, recipe: Recipe, device: torch.device) -> HostBatch:
    """A batch of crops, finished on a device and brought back."""
    images = finish_crops(
        crops.images.to(device),
        recipe.views,
        recipe.seed_of_views,
        crops.epoch,
        crops.positions.numpy(),
    )
    return dataclasses.replace(crops, images=images.cpu(), holds="views")


def ask(teacher: Teacher, recipe: Recipe, batch: HostBatch) -> Float[Tensor, "views classes"]:
    """The teacher's probabilities on a batch of views, erased and mixed as the recipe says."""
    images = finish_views(recipe, batch, torch.device("cpu")).images
    return teacher.logits(images, recipe.preprocess.mean, recipe.preprocess.std).softmax(-1)


def kinds(recipe: Recipe, batch: HostBatch) -> np.ndarray:
    """The first of `KINDS` that each view of a batch belongs to, else "other"."""
    positions = batch.positions.numpy()
    ops, _ = plan_operations(recipe.views, recipe.seed_of_views, batch.epoch, positions)
    has = [np.isin(ops, operations).any(1) for operations in KINDS.values()]
    return np.select(has, list(KINDS), default="other")


def summarise(measured: dict[str, np.ndarray]) -> dict[str, Any]:
    """Counts and means, of all views and of each kind."""
    chosen = {"all": np.full(len(measured["kind"]), True)}
    chosen |= {kind: measured["kind"] == kind for kind in (*KINDS, "other")}
    return {
        "milliseconds_per_view": {
            name: 1000 * float(np.median(measured[name])) / BATCH
            for name in ("host", "crops", "device")
        },
        "views": {
            name: {
                "views": int(rows.sum()),
                "same": int(measured["same"][rows].sum()),
                "same_mixed": int(measured["same_mixed"][rows].sum()),
                "equal_bytes": int((measured["distance"][rows] == 0).sum()),
                "mean_distance": float(measured["distance"][rows].mean()),
                "largest_distance": float(measured["distance"][rows].max()),
                "mean_gap": float(measured["gap"][rows].mean()),
            }
            for name, rows in chosen.items()
            if rows.any()
        },
    }


def table(result: dict[str, Any]) -> str:
    """A line for each kind of views."""
    head = "views         number   same  mixed  equal bytes  grey levels (most)  probability"
    lines = [
        f"{name:<12} {row['views']:>7} {row['same'] / row['views']:>6.2%} "
        f"{row['same_mixed'] / row['views']:>6.2%} {row['equal_bytes'] / row['views']:>12.2%} "
        f"{row['mean_distance']:>11.3f} ({row['largest_distance']:.2f}) {row['mean_gap']:>11.4f}"
        for name, row in result["views"].items()
    ]
    times = ", ".join(f"{name} {ms:.2f}" for name, ms in result["milliseconds_per_view"].items())
    return "\n".join([head, *lines, f"milliseconds per view: {times}"])


def main(words: Sequence[str] | None = None) -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--recipe", required=True, help="of the views; fields may follow")
    parser.add_argument("--views", type=int, default=2048)
    parser.add_argument("--device", default="cpu", help="where the device's part is done")
    parser.add_argument("--json", type=Path, required=True)
    words, overrides = split_overrides(sys.argv[1:] if words is None else words)
    options = parser.parse_args(words)
    check_writable(options.json)
    torch.set_num_threads(1)
    recipe = override(get_recipe(options.recipe), overrides)
    teacher = open_teacher(options.teacher)
    recipe = override(recipe, {"model.num_classes": len(teacher.classes)})
    device = machine.resolve_device(options.device)
    measured = compare(recipe, open_images(options.data), teacher, options.views, device)
    result = summarise(measured)
    print(table(result))
    environment = machine.describe_environment(device)
    told = json.loads(options.json.read_text()) if options.json.exists() else {}
    told[Path(options.teacher).name] = {
        "recipe": options.recipe,
        "overrides": overrides,
        "renderers": {"host": RENDERER, "device": DEVICE_RENDERER},
        "processor": environment["processor"],
        "device": environment["device"],
        "versions": environment["versions"],
    } | result
    write_json(options.json, told)


if __name__ == "__main__":
    main()
