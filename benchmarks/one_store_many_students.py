"""One label store, several students: what the teacher costs once, and what its reuse saves.

The first student asks the teacher and fills the store on the way; the others read it: another
size, and other seeds and learning rates over the same views. The first one is also trained from
the finished store, which must give the same weights, bit for bit; the difference of their times is
what the teacher takes.

    python benchmarks/one_store_many_students.py DATA --teacher T --out runs/many \\
        --json results.json --students deit_nano_patch4_32,deit_micro_patch4_32 epochs=10

Prints accuracies of the last weights on the validation split, seconds, and views that the teacher
was asked about. Nothing is chosen on that split.
"""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deit.cli.options import split_overrides
from deit.cli.tables import check_writable
from deit.config import to_plain
from deit.distillation.label_store import LabelStore
from deit.errors import UserError
from deit.model.variants import named_config
from deit.programs.train import train
from deit.programs.verify import verify_labels
from deit.recipes.book import get_recipe
from deit.recipes.recipe import Recipe, distilled, override
from deit.run import machine
from deit.run.checkpoint import load_newest
from deit.run.folder import write_json


def students(names: list[str], base: Recipe) -> dict[str, Recipe]:
    """The students: each size with seed 0, and the first one with another seed and rate."""
    found = {
        name: dataclasses.replace(base, model=named_config(name), view_seed=base.seed_of_views)
        for name in names
    }
    first = found[names[0]]
    halved = dataclasses.replace(first.optim, lr=first.optim.lr / 2)
    return found | {
        f"{names[0]}, seed 1": dataclasses.replace(first, seed=1),
        f"{names[0]}, half the rate": dataclasses.replace(first, optim=halved),
    }


def run(recipe: Recipe, out: Path, teacher: str, labels: Path | None) -> dict[str, Any]:
    """One student from its teacher (filling a store, if named) or from stored labels."""
    recipe = distilled(recipe, teacher)
    if labels is not None:
        recipe = override(recipe, {"distillation.labels": str(labels)})
    result = train(recipe, out)
    return {"seconds": result.seconds, "evaluations": result.evaluations}


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs ended in the same weights, averages and optimizer states, bit for bit."""
    states = [load_newest(run / "checkpoints")[0] for run in (one, other)]
    ours, theirs = (state.tensors for state in states if state is not None)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def main() -> None:
    """Run everything in one process, one thread, then print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--recipe", default="cifar")
    parser.add_argument("--students", default="deit_nano_patch4_32,deit_micro_patch4_32")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    words, overrides = split_overrides(sys.argv[1:])
    options = parser.parse_args(words)
    check_writable(options.json)
    torch.set_num_threads(1)
    base = override(get_recipe(options.recipe), {"data.source": options.data, "run.workers": 0})
    base = override(base, {"run.eval_epochs": 10**6, **overrides})
    chosen = students(options.students.split(","), base)
    store = options.out / "labels"
    first = next(iter(chosen.values()))
    results = {"online": run(first, options.out / "online", options.teacher, store)}
    for number, (name, recipe) in enumerate(chosen.items()):
        folder = options.out / f"stored-{number}"
        results[name] = run(recipe, folder, f"labels:{store}", None)
        print(name, results[name], flush=True)
    held = LabelStore.open(store)
    verified = verify_labels(store, views=int(np.prod([held.header.positions, len(held.epochs)])))
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "recipe": to_plain(base),
        "environment": machine.describe_environment(torch.device("cpu")),
        "results": results,
        "bitwise_equal": same_weights(options.out / "online", options.out / "stored-0"),
        "store": verified.to_json() | {"bytes": held.num_bytes()},
    }
    write_json(options.json, report)
    for name, found in results.items():
        heads = found["evaluations"]["raw"]
        figures = " ".join(f"{head} {100 * values['top1']:.2f}" for head, values in heads.items())
        print(f"{name:34} {found['seconds']:7.0f} s  {figures}")
    print(f"online and stored run end in equal bits: {report['bitwise_equal']}")
    print(verified)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
