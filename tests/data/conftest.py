"""An index of one's own, for the tests of what is kept between runs."""

import os
from pathlib import Path

import pytest

from deit.data import archive_index, cache, file_systems
from kept_index import TICK_SECONDS, put


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index folder of its own, used for the smallest data, and soon."""
    monkeypatch.setenv("DEIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "LEAST_IMAGES", 1)
    monkeypatch.setattr(archive_index, "LEAST_MEMBERS", 1)
    monkeypatch.setattr(cache, "_complained", set())
    for name in ("SETTLED_NS", "SKEWED_NS"):
        monkeypatch.setattr(file_systems, name, int(TICK_SECONDS * 1e9))
    return tmp_path / "cache" / "index"


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are listed, by name."""
    scandir, folders = os.scandir, []

    def noting(path: str | int) -> object:
        folders.append(os.path.basename(str(path)))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noting)
    return folders


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two splits, classes with folders in them, links to files and folders, strays."""
    root = tmp_path / "photos"
    for name in ("elsewhere/cats/7.png", "elsewhere/dogs/8.png", "elsewhere/dogs/deep/9.png"):
        put(tmp_path / name)
    for name in ("cat/1.jpg", "cat/2.jpg", "cat/paws/3.jpg", "dog/1.jpg", "fox/1.jpg", "fox/a.txt"):
        put(root / "train" / name)
        put(root / "val" / name)
    (root / "train/fox/linked").symlink_to(tmp_path / "elsewhere/dogs")
    (root / "train/dog/link.png").symlink_to(tmp_path / "elsewhere/cats/7.png")
    (root / "train/dog/dead.png").symlink_to("../../../elsewhere/cats/later.png")
    (root / "train/dog/lost.png").symlink_to(tmp_path / "gone/away.png")
    return root
