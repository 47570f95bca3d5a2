"""What a data set is like: counts, sizes, files and levels, against NumPy."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit.data.classes import ClassList
from deit.data.dataset import DataSet
from deit.data.sources import open_data
from deit.data.statistics import BINS, describe

QUARTILES = ("min", "q1", "median", "q3", "max")


def write_tree(root: Path) -> Path:
    """Two classes with ten training and four validation images each, of 8 x 6 pixels."""
    random = np.random.default_rng(5)
    for split, count in (("train", 10), ("val", 4)):
        for name in ("cat", "dog"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (8, 6, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def test_a_description_is_what_numpy_says(tmp_path: Path) -> None:
    """Counts, sizes, mean and deviation of equal-sized images, as of one array; JSON as it is."""
    data = open_data(str(write_tree(tmp_path)))
    described = json.loads(json.dumps(describe(data)))
    for split, source in data.splits().items():
        stack = np.stack([source.read(index) for index in range(len(source))]) / 255
        found = described[split]
        np.testing.assert_allclose(found["mean"], stack.mean((0, 1, 2)), rtol=1e-12)
        np.testing.assert_allclose(found["std"], stack.std((0, 1, 2)), rtol=1e-9)
        assert found["height"] == dict.fromkeys(QUARTILES, 8)
        assert found["width"] == dict.fromkeys(QUARTILES, 6)
        assert found["images"] == found["measured"] == len(source)
        assert found["per_class"] == {"cat": len(source) // 2, "dog": len(source) // 2}
    assert described["classes"] == ["cat", "dog"]


def test_images_of_all_sizes_weigh_the_same() -> None:
    """One white pixel and a thousand black ones have a mean of a half."""
    source = _Pair()
    found = describe(DataSet(source, source))["train"]
    assert found["mean"] == pytest.approx([0.5] * 3)
    assert found["std"] == pytest.approx([0.5] * 3)
    assert found["height"] == {"min": 1, "q1": 25.75, "median": 50.5, "q3": 75.25, "max": 100}


class _Pair:
    classes = ClassList(("black", "white"))
    labels = np.array([0, 1], dtype=np.int64)
    names = ("black", "white")

    def __len__(self) -> int:
        return 2

    def read(self, index: int) -> np.ndarray:
        return np.full((1, 1, 3), 255, np.uint8) if index else np.zeros((100, 10, 3), np.uint8)


def test_a_description_measures_a_sample_and_names_bad_images(tmp_path: Path) -> None:
    """The sample is the same in every run; counts are of all images."""
    bad = ["train/cat/3.png", "train/dog/0.png", "val/dog/2.png"]
    root = write_tree(tmp_path)
    for name in bad:
        (root / name).write_bytes(b"")
    damaged = open_data(str(root))
    seen: list[tuple[int, int]] = []
    first = describe(damaged, sample=6, progress=lambda *done: seen.append(done))
    assert first == describe(damaged, sample=6, threads=1)
    assert first["train"]["measured"] + len(first["train"]["bad"]) == 6
    assert first["train"]["images"] == 20
    assert seen[-1] == (12, 12)
    everything = describe(damaged, sample=None)
    assert [problem["name"] for problem in everything["train"]["bad"]] == bad[:2]
    assert everything["val"]["measured"] == 7


def test_formats_and_bytes_are_those_of_the_files(tmp_path: Path) -> None:
    """By content, not by ending; the size of all files is estimated from the sample."""
    root = write_tree(tmp_path)
    Image.new("RGB", (6, 8)).save(root / "train/cat/0.png", "JPEG")
    sizes = [path.stat().st_size for path in sorted((root / "train").rglob("*.png"))]
    found = describe(open_data(str(root)))["train"]
    assert found["formats"] == {"JPEG": 1, "PNG": 19}
    assert found["bytes"]["all"] == found["bytes"]["measured"] == sum(sizes)
    assert found["bytes"]["median"] == np.median(sizes)
    half = describe(open_data(str(root)), sample=10)["train"]["bytes"]
    assert half["all"] == 2 * half["measured"]


def test_histograms_hold_every_image(tmp_path: Path) -> None:
    """Levels sum to 1 in each channel; sizes fall into at most so many bins."""
    root = write_tree(tmp_path)
    for number in range(10):
        side = 8 + 37 * number
        Image.new("RGB", (side, side + 5), (255, 0, 0)).save(root / f"train/cat/{number}.png")
    found = describe(open_data(str(root)))["train"]
    edges, counts = found["shorter_side"]["edges"], found["shorter_side"]["counts"]
    assert sum(counts) == 20
    assert len(edges) - 1 == len(counts) <= BINS
    assert edges[0] == 6
    assert edges[-1] >= 8 + 37 * 9
    for levels in found["levels"].values():
        assert sum(levels) == pytest.approx(1, abs=1e-3)
    assert found["levels"]["R"][255] > 0.49  # half of the images are red
