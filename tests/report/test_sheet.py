import numpy as np
import pytest

from deit.report.sheet import image_sheet


def test_every_image_is_on_the_sheet():
    """Small images are enlarged by whole factors, so each colour covers its share exactly."""
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    images = [np.full((8, 8, 3), colour, dtype=np.uint8) for colour in colours]
    sheet = np.asarray(image_sheet(images, ["a", "b", "c"], columns=2))
    for colour in colours:
        assert (sheet == colour).all(-1).sum() == 96 * 96


def test_captions_do_not_leave_their_column():
    """A long, hostile or multi-line caption is cut, and nothing is written over the image."""
    black = np.zeros((32, 32, 3), dtype=np.uint8)
    long = "n" * 100_000
    sheet = image_sheet([black, black], [f"{long}\nsecond \x00\udcff line", "b"], columns=2)
    assert sheet.size == (2 * (96 + 8) + 8, 8 + 96 + 2 * 16 + 2 * 8)
    assert (np.asarray(sheet)[:, 104:112] == 255).all()


def test_large_images_keep_their_proportions():
    """A photograph is shrunk to a thumbnail; columns beyond the images are not drawn."""
    wide = np.zeros((300, 600, 3), dtype=np.uint8)
    sheet = np.asarray(image_sheet([wide], [""], columns=9))
    assert (sheet == 0).all(-1).sum() == 224 * 112


@pytest.mark.parametrize(("images", "columns"), [(0, 2), (1, 0)])
def test_no_sheet_without_images_or_columns(images, columns):
    """An empty picture would be a riddle."""
    black = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="no sheet"):
        image_sheet([black] * images, [""] * images, columns)


def test_each_image_needs_a_caption():
    """Captions that shifted by one would mislabel everything."""
    black = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="zip"):
        image_sheet([black, black], ["a"], columns=2)
