"""Ways to distil, side by side: plain, soft, hard and token students that take each step together.

All students of a seed see the very same batches, and the teacher is asked once per batch, so the
comparison costs one rendering and one teacher instead of one for each. A student's steps are those
of `deit train` and `deit distill`; the same recipe run alone ends in the same weights.

    python benchmarks/distillation_methods.py DATA --teacher T --recipe cifar --seeds 3 \\
        --json results.json --epochs 10 optim.lr=1e-3

Prints accuracies on the validation split after the last step, with differences to the plain student
and 95 % intervals over paired seeds. Nothing is chosen on that split.
"""

import argparse
import dataclasses
import shlex
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from deit.cli.options import split_overrides
from deit.cli.tables import check_writable
from deit.config import to_plain
from deit.data.order import steps_per_epoch
from deit.data.sources import DataSet, open_data
from deit.errors import UserError
from deit.measuring.evaluate import evaluate
from deit.programs.labels import open_answers
from deit.programs.prepare import examine_teacher, resolve
from deit.programs.step import (
    ask_teacher,
    build_loader,
    build_parts,
    model_preprocess,
    prepare_batch,
    take_step,
)
from deit.recipes.book import get_recipe
from deit.recipes.recipe import Recipe, override
from deit.report.intervals import paired_interval
from deit.run import machine
from deit.run.folder import write_json
from deit.students import Method, find_methods


def train_together(
    base: Recipe, methods: tuple[Method, ...], teacher_name: str, seed: int
) -> dict[str, Any]:
    """One seed: every method takes every step; accuracies of every head after the last one."""
    torch.set_num_threads(1)
    data = open_data(base.data.source, images_per_class=base.data.images_per_class)
    recipes = {
        method.key: resolve(dataclasses.replace(method.recipe(base, teacher_name), seed=seed), data)
        for method in methods
    }
    device = machine.resolve_device(base.run.device)
    distilled = next(recipe for recipe in recipes.values() if recipe.distillation.needs_teacher)
    teacher, examined = examine_teacher(distilled, data, None, device, print)
    answers = open_answers(distilled, data, teacher, examined, device, print)
    per_epoch = steps_per_epoch(len(data.train), base.batch_size)
    students = {
        key: build_parts(
            recipe, per_epoch, device, answers if recipe.distillation.needs_teacher else None
        )
        for key, recipe in recipes.items()
    }
    with_teacher = next(parts for parts in students.values() if parts.answers is not None)
    loader = build_loader(with_teacher.recipe, data, device)
    agreed = asked = 0
    began = time.perf_counter()
    for step, host in enumerate(loader.batches(0, base.epochs * per_epoch)):
        batch = prepare_batch(with_teacher, host)
        logits = ask_teacher(with_teacher, batch)
        assert logits is not None
        agreed += int((logits.argmax(1) == batch.targets.argmax(1)).sum())
        asked += len(logits)
        for parts in students.values():
            take_step(parts, batch, logits if parts.answers else None, step, data.train)
        if (step + 1) % per_epoch == 0:
            print(f"seed {seed} epoch {(step + 1) // per_epoch}", flush=True)
    return {
        "seed": seed,
        "seconds": time.perf_counter() - began,
        "teacher_agrees_with_heavier_label": agreed / asked,
        "students": {key: measure(parts, data) for key, parts in students.items()},
    }


def measure(parts: Any, data: DataSet) -> dict[str, Any]:
    """Accuracies of the last and of the averaged weights, head by head."""
    models = {"raw": parts.model} | ({"ema": parts.ema.model} if parts.ema else {})
    return {
        kind: evaluate(
            model, data, preprocess=model_preprocess(parts.recipe), precision="float32"
        ).to_json()
        for kind, model in models.items()
    }


def table(results: list[dict[str, Any]], weights: str) -> str:
    """Mean top-1 of each method and head, and its difference to plain with a 95 % interval."""

    def accuracies(key: str, head: str) -> list[float]:
        return [100 * r["students"][key][weights][head]["top1"] for r in results]

    plain = accuracies("plain", "class")
    lines = [f"{'method':12} {'head':13} {'top-1 %':>8}  difference to plain (95 %)"]
    for key in results[0]["students"]:
        for head in results[0]["students"][key][weights]:
            values = accuracies(key, head)
            line = f"{key:12} {head:13} {sum(values) / len(values):8.2f}"
            if key != "plain":
                gap = paired_interval(values, plain)
                line += f"  {gap.mean:+.2f}"
                line += "" if gap.low is None else f" ({gap.low:+.2f} to {gap.high:+.2f})"
            lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Run every seed in a process of its own, and print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--recipe", default="cifar")
    parser.add_argument("--methods", default="plain,soft-class,hard-class,hard-token")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, required=True)
    words, overrides = split_overrides(sys.argv[1:])
    options = parser.parse_args(words)
    if options.epochs:
        overrides["epochs"] = options.epochs
    overrides |= {"data.source": options.data, "run.workers": 0}
    base = override(get_recipe(options.recipe), overrides)
    methods = find_methods(options.methods)
    if len(methods) < 2:
        raise UserError("--methods plain", "plain and one method or more with a teacher", "add one")
    check_writable(options.json)
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(train_together, base, methods, options.teacher, seed)
            for seed in range(options.seeds)
        ]
        results = []
        for job in jobs:
            results.append(job.result())
            report = {
                "command": shlex.join(["python", *sys.argv]),
                "teacher": options.teacher,
                "recipe": to_plain(base),
                "environment": machine.describe_environment(torch.device("cpu")),
                "results": results,
            }
            write_json(options.json, report)
    for weights in results[0]["students"]["plain"]:
        print(f"\n{weights} weights\n{table(results, weights)}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
