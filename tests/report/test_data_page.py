"""The page of `deit data stats`."""

import numpy as np
import pytest

from deit.data.classes import ClassList
from deit.data.dataset import ArraySource, DataSet
from deit.data.statistics import describe
from deit.report.data_page import MOST_CLASSES, Example, class_rows, write_data_page
from deit.report.gallery import embed_picture


def described(classes=("cat", "<b>dog</b>"), images=6):
    """Noise, the classes in turn."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (images, 9, 7, 3), dtype=np.uint8)
    labels = np.arange(images, dtype=np.int64) % len(classes)
    names = [str(number) for number in range(images)]
    source = ArraySource(pixels, labels, ClassList(tuple(classes)), names)
    return describe(DataSet(source, source, ["a note"]))


def test_page_tells_counts_sizes_and_levels(tmp_path, read_page, check_page):
    """Nothing from outside, names escaped, no plot of sizes that do not differ."""
    image = embed_picture(np.zeros((8, 8, 3), np.uint8))
    example = Example("cat", "1.png", *image)
    page = read_page(write_data_page(tmp_path / "d.html", "photos", described(), [example]))
    check_page(page)
    for text in ("6 training and 6 validation images of 2 classes.", "7 px", "a note", "1.png"):
        assert text in page.text
    assert "<b>dog</b>33" in page.rows()
    assert "Shorter side" not in page.text
    assert len(page.all("img")) == 1
    assert page.html.count('class="plot"') == 2


def test_sizes_that_differ_are_plotted(tmp_path, read_page):
    """A histogram for the split that has them."""
    told = described()
    told["train"]["shorter_side"] = {"edges": [7, 9, 11], "counts": [4, 2]}
    page = read_page(write_data_page(tmp_path / "d.html", "photos", told, []))
    assert "Shorter side, training images" in page.text
    assert "What they look like" not in page.text


def test_of_many_classes_the_ends_are_shown(tmp_path, read_page):
    """And how many are left out."""
    told = described([f"class {number}" for number in range(MOST_CLASSES + 50)], images=300)
    page = read_page(write_data_page(tmp_path / "d.html", "photos", told, []))
    assert len(page.rows()) == MOST_CLASSES + 1
    assert "50 between them are left out" in page.text


def test_classes_are_ranked_and_compared_with_the_largest():
    """By their training images."""
    told = {
        "classes": ["a", "b"],
        "train": {"per_class": {"a": 1, "b": 4}},
        "val": {"per_class": {"a": 2, "b": 0}},
    }
    first, second = class_rows(told, ["train", "val"])
    assert (first.label, first.counts, first.shares) == ("b", (4, 0), (1, 0))
    assert second.shares == (pytest.approx(0.25), 1)


def test_a_split_without_a_usable_image_is_told(tmp_path, read_page, check_page):
    """No figures, no plots, no failure."""
    told = described()
    kept = ("images", "per_class")
    told["val"] = {key: told["val"][key] for key in kept} | {"measured": 0, "bad": [{"name": "x"}]}
    page = read_page(write_data_page(tmp_path / "d.html", "photos", told, []))
    check_page(page)
    assert page.html.count('class="plot"') == 1
