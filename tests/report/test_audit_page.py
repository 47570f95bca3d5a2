"""The page of an audit."""

import numpy as np
import pytest

from deit.report.audit_page import ConfusedClasses, LostObject, Suspect, write_audit_page
from deit.report.gallery import embed_picture

IMAGE = embed_picture(np.zeros((8, 8, 3), np.uint8))


def write(path, **changes):
    """A page with one entry of each kind, unless told otherwise."""
    values = {
        "title": "photos",
        "sentence": "One label is contradicted.",
        "facts": [("Teacher", "runs/t")],
        "notes": ["2 images have no view"],
        "suspects": [Suspect("a.jpg", "cat", "dog", 1.5, 10, 0.1, *IMAGE)],
        "losses": [
            LostObject("b.jpg", "fox", 12, 0.9, 0.2, 0.5, ((False, 0.1, 0.2, 0.3, 0.4),), *IMAGE)
        ],
        "no_losses": "None is lost.",
        "classes": ["cat", "dog", "fox"],
        "matrix": [[90, 10, 0], [0, 100, 0], [30, 0, 70]],
        "pairs": [ConfusedClasses("fox", "cat", 30, 0.3)],
    } | changes
    return write_audit_page(path / "audit.html", **values)


def test_page_shows_every_list_and_needs_nothing_from_outside(tmp_path, read_page, check_page):
    """Pictures, scores, crops in per cent of the picture, matrix and pairs."""
    page = read_page(write(tmp_path))
    check_page(page)
    assert len(page.all("img")) == 2
    for text in ("cat → dog", "1.50", "10 % of 10 agree", "90 % → 20 % of 12 views"):
        assert text in page.text
    assert "left:10.00%;top:20.00%;width:30.00%;height:40.00%" in page.html
    assert "--share:0.300" in page.html  # the bar: 1.5 of 5
    assert "foxcat3030.0 %" in page.rows()
    assert "2 images have no view" in page.text


def test_empty_lists_are_said(tmp_path, read_page, check_page):
    """Three sentences instead of three lists; many classes have no matrix."""
    nothing = {"suspects": [], "losses": [], "pairs": [], "matrix": None}
    page = read_page(write(tmp_path, **nothing))
    check_page(page)
    assert page.all("table") == []
    for text in ("No view was decided for another", "None is lost.", "Every view was decided"):
        assert text in page.text


def test_an_image_without_picture_is_still_named(tmp_path, read_page, check_page):
    """One that cannot be read any more."""
    page = read_page(write(tmp_path, suspects=[Suspect("gone.jpg", "cat", "dog", 1.0, 4, 0.0)]))
    check_page(page)
    assert len(page.all("img")) == 1
    assert "gone.jpg" in page.text


def test_hostile_names_stay_text(tmp_path, read_page, check_page):
    """Class and file names come from folders of others."""
    name = '"><script>alert(1)</script>'
    suspect = Suspect(name, name, name, -0.5, 1, 0.0, *IMAGE)
    pairs = [ConfusedClasses(name, name, 1, 1.0)]
    page = read_page(write(tmp_path, suspects=[suspect], pairs=pairs, classes=[name] * 3))
    check_page(page)
    assert name in page.text


@pytest.mark.parametrize(("score", "bar"), [(-1, 0), (0, 0), (1, 0.2), (5, 1), (6, 1)])
def test_bar_is_full_from_five_on(score, bar):
    """What speaks for a label has none."""
    assert Suspect("a", "b", "c", score, 1, 0.0).bar == bar
