"""`deit doctor`: what this machine and this installation can do, and what is missing."""

import importlib.util
import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from deit.cli.options import parse
from deit.cli.tables import check_writable

_OPTIONAL = {
    "datasets": ("data", "data sets of Hugging Face"),
    "onnxruntime": ("export", "ONNX teachers and models"),
    "pyarrow": ("data", "Parquet manifests and images"),
    "tensorboard": ("track", "curves in TensorBoard"),
    "transformers": ("hf", "checks against transformers"),
}


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """What this machine and this installation can do, and what is missing."""

    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write the findings to this file."""


def doctor(arguments: Sequence[str]) -> int:
    """`deit doctor`."""
    options = parse(Doctor, arguments, verb="doctor")
    check_writable(json=options.json)
    findings = examine()
    width = max(map(len, findings))
    for name, value in findings.items():
        print(f"{name:{width}}  {value}")  # noqa: T201
    if options.json:
        options.json.write_text(json.dumps(findings, indent=1) + "\n", encoding="utf-8")
    return 0


def examine() -> dict[str, Any]:
    """One line for everything that training here depends on."""
    import torch

    from deit.run import machine

    device = machine.resolve_device("auto")
    environment = machine.describe_environment(device)
    findings: dict[str, Any] = {
        "python": platform.python_version(),
        "system": environment["system"],
        "processor": f"{environment['processor']}, {environment['cores']} cores, "
        f"torch uses {environment['threads']} threads",
        "memory": f"{_memory_gib():.1f} GiB",
        "device": environment["device"],
        "precision": machine.resolve_precision("auto", device) + " where a recipe says auto",
        "views": f"rendered on the {machine.resolve_render('auto', device)} where a recipe says "
        "auto",
        "matrix product": _products(torch, device),
        "shared memory": _free("/dev/shm"),
        "disk here": _free("."),
        "file index": _file_index(),
    }
    findings |= dict(environment["versions"].items())
    for module, (extra, purpose) in _OPTIONAL.items():
        present = importlib.util.find_spec(module) is not None
        missing = f'missing; pip install "deit[{extra}]" for {purpose}'
        findings[module] = f"present ({purpose})" if present else missing
    return findings


def _products(torch: Any, device: Any) -> str:
    """Speed of a matrix product in both precisions, GFLOP/s."""
    import time

    speeds = []
    for dtype in (torch.float32, torch.bfloat16):
        left = torch.randn(1024, 1024, device=device).to(dtype)
        _ = left @ left
        began = time.perf_counter()
        for _ in range(5):
            left @ left
        if device.type == "cuda":
            torch.cuda.synchronize()
        speed = 5 * 2 * 1024**3 / (time.perf_counter() - began) / 1e9
        speeds.append(f"{str(dtype).removeprefix('torch.')} {speed:,.0f} GFLOP/s")
    return ", ".join(speeds)


def _file_index() -> str:
    """Where what is kept of data sets is, and how much."""
    from deit.data import cache

    folder = cache.index_folder()
    if folder is None:
        return "off (DEIT_INDEX), or no home folder"
    files, num_bytes = cache.usage()
    return f"{folder}: {files} files, {num_bytes / 2**20:.1f} MiB; may be deleted"


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _free(path: str) -> str:
    if not Path(path).exists():
        return "none"
    usage = shutil.disk_usage(path)
    return f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB free"
