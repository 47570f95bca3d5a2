"""Fine-tuning at another image size, with the teacher and with the true labels alone.

Every run given is fine-tuned twice, by the commands of a user: `deit finetune RUN DATA --img-size`
with and without `--teacher`. Runs of several seeds are compared in pairs.

    python benchmarks/finetune_resolution.py DATA RUN... --teacher T --img-size 48 \\
        --out runs/finetuned --json results.json --epochs 12

Prints accuracies of the last weights on the validation split before and after, with differences and
95 % intervals over the paired runs. Nothing is chosen on that split.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from deit.cli.main import main as deit
from deit.cli.tables import check_writable
from deit.report.intervals import paired_interval
from deit.run import machine
from deit.run.folder import write_json


def fine_tune(words: list[str], out: Path) -> dict[str, Any]:
    """One command; what its run measured."""
    if deit(["finetune", *words, "--out", str(out)]) != 0:
        sys.exit(f"deit finetune {shlex.join(words)} failed")
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    return {"seconds": result["seconds"], "evaluations": result["evaluations"]}


def table(results: list[dict[str, Any]], weights: str) -> str:
    """Mean top-1 of each head before and after, and what the teacher adds."""

    def accuracies(kind: str, head: str) -> list[float]:
        return [100 * row[kind]["evaluations"][weights][head]["top1"] for row in results]

    lines = [f"{'head':13} {'before':>8} {'labels':>8} {'teacher':>8}  teacher - labels (95 %)"]
    for head in results[0]["before"]["evaluations"][weights]:
        before, labels, teacher = (accuracies(k, head) for k in ("before", "labels", "teacher"))
        gap = paired_interval(teacher, labels)
        means = " ".join(f"{sum(v) / len(v):8.2f}" for v in (before, labels, teacher))
        interval = "" if gap.low is None else f" ({gap.low:+.2f} to {gap.high:+.2f})"
        lines.append(f"{head:13} {means}  {gap.mean:+.2f}{interval}")
    return "\n".join(lines)


def main() -> None:
    """Fine-tune all runs, one after another, then print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--img-size", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    options, more = parser.parse_known_args()
    check_writable(options.json)
    torch.set_num_threads(1)
    results = []
    for number, run in enumerate(options.runs):
        before = json.loads((run / "result.json").read_text(encoding="utf-8"))
        words = [str(run), options.data, "--img-size", options.img_size, *more]
        taught = [*words, "--teacher", options.teacher]
        results.append(
            {
                "run": str(run),
                "before": {"evaluations": before["evaluations"]},
                "labels": fine_tune(words, options.out / f"labels-{number}"),
                "teacher": fine_tune(taught, options.out / f"teacher-{number}"),
            }
        )
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "environment": machine.describe_environment(torch.device("cpu")),
        "results": results,
    }
    write_json(options.json, report)
    for weights in results[0]["labels"]["evaluations"]:
        print(f"\n{weights} weights\n{table(results, weights)}")


if __name__ == "__main__":
    main()
