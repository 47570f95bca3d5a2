"""A bank of views against fresh ones: is what a label store saves paid for with accuracy?

Students of one seed differ in `order.bank_epochs` alone: fresh views in every epoch, or the views
and labels of the first K epochs again and again. The run with fresh views asks the teacher and
fills a label store; the runs with a bank read the first K epochs of it.

    python benchmarks/label_banks.py DATA --teacher T --banks 10,25,50 --seeds 3 \\
        --out runs/banks --json results.json epochs=100 data.images_per_class=100

Prints the accuracies of the last weights on the validation split, with differences to fresh views
and 95 % intervals over paired seeds. Nothing is chosen on that split.
"""

import argparse
import dataclasses
import shlex
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from deit.cli.options import split_overrides
from deit.cli.tables import check_writable
from deit.config import to_plain
from deit.errors import UserError
from deit.model.variants import named_config
from deit.programs.train import train
from deit.recipes.book import get_recipe
from deit.recipes.recipe import Recipe, distilled, override
from deit.report.intervals import paired_interval
from deit.run import machine
from deit.run.folder import write_json


def run_one(base: Recipe, teacher: str, seed: int, bank: int, out: Path) -> dict[str, Any]:
    """One student: ``bank`` epochs of views, 0 for fresh ones; its accuracies and its time."""
    torch.set_num_threads(1)
    labels = str(out / f"labels-seed{seed}")
    recipe = distilled(base, f"labels:{labels}" if bank else teacher)
    recipe = override(recipe, {"seed": seed, "order.bank_epochs": bank})
    if not bank:
        recipe = override(recipe, {"distillation.labels": labels})
    result = train(recipe, out / f"bank{bank}-seed{seed}")
    return {
        "seed": seed,
        "bank_epochs": bank,
        "seconds": result.seconds,
        "evaluations": result.evaluations,
    }


def run_all(base: Recipe, options: argparse.Namespace, banks: list[int]) -> list[dict[str, Any]]:
    """Every seed with fresh views, then with every bank."""
    context = get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        results = []
        for kinds in ([0], banks):  # the banks read what the runs with fresh views have stored
            jobs: list[Future[dict[str, Any]]] = [
                pool.submit(run_one, base, options.teacher, seed, bank, options.out)
                for bank in kinds
                for seed in range(options.seeds)
            ]
            for job in jobs:
                results.append(job.result())
                print(results[-1], flush=True)
    return results


def table(results: list[dict[str, Any]], weights: str) -> str:
    """Mean top-1 of every bank and head, and its difference to fresh views."""

    def accuracies(bank: int, head: str) -> list[float]:
        rows = sorted((r for r in results if r["bank_epochs"] == bank), key=lambda r: r["seed"])
        return [100 * row["evaluations"][weights][head]["top1"] for row in rows]

    lines = [f"{'views':>12} {'head':13} {'top-1 %':>8}  difference to fresh views (95 %)"]
    for bank in sorted({row["bank_epochs"] for row in results}):
        for head in results[0]["evaluations"][weights]:
            values = accuracies(bank, head)
            label = f"bank of {bank}" if bank else "fresh"
            line = f"{label:>12} {head:13} {sum(values) / len(values):8.2f}"
            if bank:
                gap = paired_interval(values, accuracies(0, head))
                line += f"  {gap.mean:+.2f}"
                line += "" if gap.low is None else f" ({gap.low:+.2f} to {gap.high:+.2f})"
            lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Run everything, then print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--recipe", default="cifar")
    parser.add_argument("--student", help="name of the student, as --model of deit distill")
    parser.add_argument("--banks", default="10,25,50")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    words, overrides = split_overrides(sys.argv[1:])
    options = parser.parse_args(words)
    check_writable(options.json)
    base = override(get_recipe(options.recipe), {"data.source": options.data, "run.workers": 0})
    if options.student:
        base = dataclasses.replace(base, model=named_config(options.student))
    base = override(base, {"run.eval_epochs": 10**6, **overrides})
    results = run_all(base, options, [int(bank) for bank in options.banks.split(",")])
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "teacher": options.teacher,
        "recipe": to_plain(base),
        "environment": machine.describe_environment(torch.device("cpu")),
        "results": results,
    }
    write_json(options.json, report)
    for weights in results[0]["evaluations"]:
        print(f"\n{weights} weights\n{table(results, weights)}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
