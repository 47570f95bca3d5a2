"""The machine a run is on: which device, which precision, which versions."""

import contextlib
import importlib.metadata
import os
import platform
import sys
from typing import Any, Literal

import torch

from deit.errors import UserError

Precision = Literal["auto", "float32", "bfloat16"]
Render = Literal["auto", "host", "device"]

_REPORTED = (
    *("deit", "torch", "torchvision", "timm", "numpy", "scipy", "safetensors"),
    *("pillow", "opencv-python-headless", "simplejpeg"),
)


def resolve_device(name: str) -> torch.device:
    """The device of a name: auto takes CUDA where there is one, else the CPU.

    Raises:
        UserError: for an unknown name or a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    allowed = "auto, cpu, cuda, cuda:N, mps"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"recipe.run.device = {name}", allowed, "use one of these") from None
    available = {
        "cpu": True,
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise UserError(
            f"recipe.run.device = {name}, which this machine does not have",
            allowed,
            "use --device auto or --device cpu",
        )
    return device


def resolve_precision(name: Precision, device: torch.device) -> Precision:
    """float32 or bfloat16; auto takes bfloat16 where the device computes in it."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "bfloat16"
    return "float32"


def resolve_render(name: Render, device: torch.device) -> Literal["host", "device"]:
    """Where views are finished; auto takes the device where it is a CUDA GPU.

    Raises:
        UserError: for a device that lacks the double precision of some tables.
    """
    if name == "auto":
        return "device" if device.type == "cuda" else "host"
    if name == "device" and device.type == "mps":
        raise UserError(
            "recipe.run.render = device on mps, which has no double precision",
            "render = device on cpu or cuda",
            "use render = host, or another device",
        )
    return name


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The context in which a model's forward pass runs."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Versions, machine and command: what a reader needs to judge a run's speed and repeat it."""
    return {
        "command": " ".join(["deit", *sys.argv[1:]]),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "versions": {name: _version(name) for name in _REPORTED},
    }


def load_average() -> float | None:
    """Processes that wanted to compute during the last minute, on average; None where unknown."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def processor_name() -> str:
    """The processor as the system calls it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
