"""Looking at all images before a run: every bad one is named, none is replaced."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit.data.check import advise, check_images, leave_out
from deit.data.classes import ClassList
from deit.data.dataset import DataSet
from deit.data.images import BadImage
from deit.data.sources import ArraySource, open_data
from deit.errors import UserError


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


BAD = {
    "train/cat/3.png": b"",
    "train/dog/0.png": b"<html>404</html>",
    "val/dog/2.png": None,  # cut in half
}


@pytest.fixture
def damaged(tmp_path: Path) -> DataSet:
    """A data set with three bad images."""
    root = write_tree(tmp_path)
    for name, content in BAD.items():
        path = root / name
        path.write_bytes(path.read_bytes()[:120] if content is None else content)
    return open_data(str(root))


@pytest.mark.parametrize("threads", [1, 4])
def test_every_bad_image_is_named(damaged: DataSet, threads: int) -> None:
    """In order, with its reason, and no good one; the progress reaches the whole."""
    seen: list[tuple[int, int]] = []
    bad = check_images(damaged, threads=threads, progress=lambda *done: seen.append(done))
    assert [problem.name for problem in bad] == list(BAD)
    assert [problem.reason.partition(";")[0] for problem in bad[:2]] == [
        "an empty file",
        "a text such as SVG or HTML",
    ]
    assert all(problem.__traceback__ is None for problem in bad)  # it would hold the file
    assert seen[-1] == (28, 28)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_header_check_finds_what_headers_show(damaged: DataSet) -> None:
    """Not the file that is cut off behind its header."""
    bad = check_images(damaged, how="header")
    assert [problem.name for problem in bad] == list(BAD)[:2]


def test_bad_images_are_left_out_not_replaced(damaged: DataSet) -> None:
    """The others stay in their order; what is gone is listed in the notes."""
    bad = check_images(damaged)
    rest = leave_out(damaged, bad)
    assert list(rest.train.names) == [name for name in damaged.train.names if name not in BAD]
    assert list(rest.val.names) == [name for name in damaged.val.names if name not in BAD]
    assert check_images(rest) == []
    assert rest.notes[-1].startswith("3 images that cannot be used are left out: train/cat/3.png")
    for index, name in enumerate(rest.train.names):
        assert rest.classes.names[rest.train.labels[index]] == name.split("/")[1]


def test_without_bad_images_nothing_changes(tmp_path: Path) -> None:
    """The very same data set."""
    data = open_data(str(write_tree(tmp_path)))
    assert check_images(data) == []
    assert leave_out(data, []) is data


def test_a_class_is_never_emptied(tmp_path: Path) -> None:
    """Leaving out the last training image of a class would change the task."""
    data = open_data(str(write_tree(tmp_path)))
    cats = [BadImage(name, "") for name in data.train.names if "cat" in name]
    with pytest.raises(UserError, match="no usable image is left for cat"):
        leave_out(data, cats)
    with pytest.raises(UserError, match="no usable image is left for validation"):
        leave_out(data, [BadImage(name, "") for name in data.val.names])


class _Slow(ArraySource):
    """Counts its reads, a millisecond each."""

    reads = 0

    def read(self, index: int) -> np.ndarray:
        self.reads += 1
        time.sleep(0.001)
        return super().read(index)


def test_an_interruption_ends_the_check() -> None:
    """What has not begun is dropped, and no thread is left at work."""
    images, labels = np.zeros((5000, 2, 2), dtype=np.uint8), np.zeros(5000, dtype=np.int64)
    slow = _Slow(images, labels, ClassList(("a",)), [str(number) for number in range(5000)])

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_images(DataSet(slow, slow), threads=2, progress=interrupt)
    reads = slow.reads
    assert reads < 500
    time.sleep(0.01)
    assert slow.reads == reads


def test_images_above_the_limit_are_no_broken_ones(damaged: DataSet, tmp_path: Path) -> None:
    """8 x 6 pixels are more than 40: what helps is another limit, and mending helps the others."""
    data = open_data(str(write_tree(tmp_path / "small")), max_pixels=40)
    assert advise(check_images(data), "mend").startswith("raise the limit, data.max_pixels")
    assert advise(check_images(damaged), "mend") == "mend"
    both = advise([*check_images(data, how="header"), *check_images(damaged)], "mend")
    assert both.startswith("mend; for the 28 above the limit: raise the limit, data.max_pixels")
    with pytest.raises(UserError, match=r"no usable image is left(.|\n)*data\.max_pixels"):
        leave_out(data, check_images(data))
