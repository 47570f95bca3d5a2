"""How long it takes to list a million images: without an index, with one, and by others.

Makes a tree of class folders whose files are hard links to a few small images, and tar shards;
then starts a fresh process for each way of opening them, which tells the seconds and how much
memory it came to hold. The system has all folders in memory: on a drive that has to be asked, only
the ways that list every file take longer.

    python benchmarks/file_index.py --place scratch --json benchmarks/results/file_index.json

The tree takes about 60 MB for folders and no room for images, and is deleted at the end.
"""

import argparse
import io
import json
import os
import pickle
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

_LINKS = 60_000  # ext4 allows 65,000 names of a file
_SETTLED_SECONDS = 4
_SHOWN = ("seconds", "processor_seconds", "resident_mb", "sent_to_spawned_worker_bytes")


def make_tree(root: Path, num_classes: int, train: int, val: int) -> int:
    """Class folders with hard links to a few images; returns the number of files."""
    root.mkdir(parents=True)
    number, source = 0, b""
    for place in range(num_classes):
        name = f"n{place:08d}"
        for split, count in (("train", train), ("val", val)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for image in range(count):
                if number % _LINKS == 0:
                    source = os.fsencode(root / f".image{number}")
                    Path(os.fsdecode(source)).write_bytes(_image())
                os.link(source, os.fsencode(folder / f"{name}_{image}.JPEG"))
                number += 1
    return number


def make_shards(folder: Path, num_shards: int, per_shard: int) -> int:
    """Tar shards of ten classes each; returns the number of images."""
    folder.mkdir(parents=True)
    image = _image()
    for shard in range(num_shards):
        with tarfile.open(folder / f"train-{shard:04d}.tar", "w") as archive:
            for number in range(per_shard):
                name = f"n{shard * 10 + number % 10:08d}"
                info = tarfile.TarInfo(f"train/{name}/{name}_{number}.JPEG")
                info.size = len(image)
                archive.addfile(info, io.BytesIO(image))
    return num_shards * per_shard


def open_with_deit(data: str) -> Any:
    """Training images of this library."""
    from deit.data.sources import open_data

    return open_data(data).train


def open_with_torchvision(data: str) -> Any:
    """Training images of torchvision's ImageFolder."""
    from torchvision.datasets import ImageFolder

    return ImageFolder(f"{data}/train")


def open_with_timm(data: str) -> Any:
    """Training images of timm's folder reader."""
    from timm.data import create_dataset

    return create_dataset("", root=data, split="train")


OPENERS: dict[str, Callable[[str], Any]] = {
    "deit": open_with_deit,
    "torchvision": open_with_torchvision,
    "timm": open_with_timm,
}


def measure(opener: str, data: str) -> dict[str, Any]:
    """Open data in this process, once its libraries are imported; all that is told of it."""
    tiny = Path(tempfile.mkdtemp())
    make_tree(tiny / "data", 2, 1, 1)
    OPENERS[opener](str(tiny / "data"))
    shutil.rmtree(tiny)
    before, began, worked = _resident_mb(), time.perf_counter(), time.process_time()
    source = OPENERS[opener](data)
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    held = _resident_mb() - before
    began = time.perf_counter()
    sent = pickle.dumps(source)
    return {
        "images": len(source),
        "seconds": seconds,
        "processor_seconds": worked,
        "resident_mb": held,
        "sent_to_spawned_worker_bytes": len(sent),
        "pickle_seconds": time.perf_counter() - began,
    }


def measure_apart(opener: str, data: Path, cache: Path, index: str = "on") -> dict[str, Any]:
    """`measure` in a process of its own."""
    environment = os.environ | {"DEIT_CACHE": str(cache), "DEIT_INDEX": index}
    command = [sys.executable, __file__, "--measure", opener, str(data)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return result


def compare_folders(place: Path, num_classes: int, train: int, val: int) -> dict[str, Any]:
    """All ways of opening a tree, in turn; those that can be repeated three times each."""
    tree, cache = place / "tree", place / "cache"
    make_tree(tree, num_classes, train, val)
    time.sleep(_SETTLED_SECONDS)
    rows: dict[str, Any] = {}
    rows["first start: lists all, writes the index"] = [measure_apart("deit", tree, cache)]
    for _ in range(3):
        for name, opener, index in (
            ("later start: with the index", "deit", "on"),
            ("without an index", "deit", "off"),
            ("torchvision ImageFolder", "torchvision", "on"),
            ("timm create_dataset", "timm", "on"),
        ):
            rows.setdefault(name, []).append(measure_apart(opener, tree, cache, index))
    for number in range(3):
        new = tree / "train" / f"n{number:08d}" / "new.JPEG"
        new.write_bytes(_image())
        time.sleep(_SETTLED_SECONDS)
        rows.setdefault("one folder changed", []).append(measure_apart("deit", tree, cache))
    (place / "no split").mkdir()
    (place / "no split" / "train").symlink_to(tree / "train")
    time.sleep(_SETTLED_SECONDS)
    for number in range(4):
        name = "no validation split: " + ("later start" if number else "first start")
        rows.setdefault(name, []).append(measure_apart("deit", place / "no split", cache))
    rows["bytes of the index"] = sum(file.stat().st_size for file in cache.glob("index/folder-*"))
    return rows


def compare_shards(place: Path, num_shards: int, per_shard: int) -> dict[str, Any]:
    """The ways of opening tar shards."""
    shards, cache = place / "shards", place / "cache"
    make_shards(shards, num_shards, per_shard)
    time.sleep(_SETTLED_SECONDS)
    rows: dict[str, Any] = {}
    for number in range(4):
        name = "later start" if number else "first start"
        rows.setdefault(name, []).append(measure_apart("deit", shards, cache))
    rows["without an index"] = [measure_apart("deit", shards, cache, "off")]
    os.utime(shards / "train-0000.tar")
    time.sleep(_SETTLED_SECONDS)
    rows["one shard changed"] = [measure_apart("deit", shards, cache)]
    return rows


def table(title: str, rows: dict[str, Any]) -> str:
    """Medians, as text."""
    lines = [f"{title:44} {'seconds':>8} {'CPU s':>6} {'MB':>6} {'sent, bytes':>12}"]
    for name, runs in rows.items():
        if isinstance(runs, list):
            seconds, worked, held, sent = (_median([run[key] for run in runs]) for key in _SHOWN)
            lines.append(f"{name:44} {seconds:8.3f} {worked:6.2f} {held:6.0f} {sent:12,.0f}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Make, measure, delete."""
    if arguments[:1] == ["--measure"]:
        print(json.dumps(measure(arguments[1], arguments[2])))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--place", type=Path, default=None, help="a folder for the files")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--train", type=int, default=1281, help="files of each class")
    parser.add_argument("--val", type=int, default=50)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--per-shard", type=int, default=1281)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args(arguments)
    if options.place:
        options.place.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="file-index-", dir=options.place))
    load = [os.getloadavg()[0]]
    try:
        folders = compare_folders(place, options.classes, options.train, options.val)
        shards = compare_shards(place, options.shards, options.per_shard)
    finally:
        shutil.rmtree(place)
    load.append(os.getloadavg()[0])
    print(table("folders", folders))
    print(table("tar shards", shards))
    print(f"load average before and after: {load[0]:.1f}, {load[1]:.1f}")
    if options.json:
        found = {"machine": _machine(), "load": load, "folders": folders, "shards": shards}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def _image() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    return file.getvalue()


def _resident_mb() -> float:
    """Memory in use by this process, that of mapped files included."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _machine() -> dict[str, Any]:
    names = ("torch", "torchvision", "timm", "numpy")
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "date": time.strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
