import io
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from deit.report.gallery import (
    MAX_VIEWS,
    Gallery,
    Mistake,
    confident_mistakes,
    heaviest_targets,
    load_gallery,
    save_mistakes,
    save_views,
)


def pixels(uri: str) -> np.ndarray:
    data = b64decode(uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_small_views_are_kept_pixel_for_pixel(tmp_path):
    """A digit of 8 pixels is worth keeping as it is, with its labels and the teacher's."""
    images = noise(2, 8, 8, 3)
    save_views(tmp_path, images, [[("a", 0.6), ("b", 0.4)], [("b", 1.0)]], ["a", "c"])
    first, second = load_gallery(tmp_path).views
    np.testing.assert_array_equal(pixels(first.image), images[0])
    assert first.targets == (("a", 0.6), ("b", 0.4))
    assert (first.teacher, first.disagrees, first.small) == ("a", False, True)
    assert second.disagrees


def test_teacher_agrees_with_either_mixed_class(tmp_path):
    """Disagreement means a class that is not in the view at all."""
    targets = [[("a", 0.6), ("b", 0.4)]] * 2
    save_views(tmp_path, noise(2, 8, 8, 3), targets, ["b", "c"])
    assert [view.disagrees for view in load_gallery(tmp_path).views] == [False, True]


def test_views_without_a_teacher(tmp_path):
    """A plain run has views and no opinions."""
    save_views(tmp_path, noise(1, 8, 8, 3), [[("a", 1.0)]], None)
    (view,) = load_gallery(tmp_path).views
    assert view.teacher is None
    assert not view.disagrees


def test_large_images_become_thumbnails(tmp_path):
    """A photograph keeps its proportions and loses its size."""
    save_mistakes(tmp_path, [noise(300, 600, 3)], [Mistake("x.jpg", "a", "b", 0.9)])
    (mistake,) = load_gallery(tmp_path).mistakes
    assert pixels(mistake.image).shape == (112, 224, 3)
    assert not mistake.small
    assert len(mistake.image) < 60_000


def test_views_and_mistakes_stand_side_by_side(tmp_path):
    """They are saved at different times; a second saving replaces its own kind alone."""
    entry = Mistake("\udcff.png", "a", "b", 0.9)
    save_mistakes(tmp_path, [noise(8, 8, 3)] * 3, [entry] * 3)
    save_views(tmp_path, noise(MAX_VIEWS + 5, 8, 8, 3), [[("a", 1.0)]] * (MAX_VIEWS + 5), None)
    save_mistakes(tmp_path, [noise(8, 8, 3)], [entry])
    gallery = load_gallery(tmp_path)
    assert (len(gallery.views), len(gallery.mistakes)) == (MAX_VIEWS, 1)
    assert gallery.mistakes[0].name == "\udcff.png"
    assert len(list((tmp_path / "gallery").iterdir())) == MAX_VIEWS + 2


def test_only_pictures_of_the_gallery_are_read(tmp_path):
    """An index from elsewhere cannot draw other files into a report that is passed on."""
    save_views(tmp_path, noise(1, 8, 8, 3), [[("a", 1.0)]], None)
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    index = tmp_path / "gallery" / "gallery.json"
    index.write_text(index.read_text().replace("views-000.png", "../secret.png"))
    assert load_gallery(tmp_path) == Gallery()


def test_unequal_lengths_are_refused(tmp_path):
    """An image without a label is a mistake of the caller."""
    with pytest.raises(ValueError, match="zip"):
        save_views(tmp_path, noise(2, 8, 8, 3), [[("a", 1.0)]], None)


def test_targets_leave_out_the_smoothing():
    """Of 10 classes smoothed by 0.1, only the two that were mixed remain, the heavier first."""
    row = np.full((1, 10), 0.01)
    row[0, 3], row[0, 7] = 0.9 * 0.3 + 0.01, 0.9 * 0.7 + 0.01
    ((first, second),) = heaviest_targets(row, [f"c{number}" for number in range(10)])
    assert first == ("c7", pytest.approx(0.64))
    assert second == ("c3", pytest.approx(0.28))


def test_flat_targets_keep_one_class():
    """A thousand equal weights are all smoothing, and still something is shown."""
    assert heaviest_targets(np.full((1, 1000), 0.001), ["x"] * 1000) == [[("x", 0.001)]]


def test_mistakes_begin_with_the_most_confident():
    """Right decisions are no mistakes, however confident."""
    right = np.array([True, False, False, True, False])
    confidence = np.array([0.99, 0.5, 0.8, 0.7, 0.6])
    assert confident_mistakes(right, confidence, limit=2).tolist() == [2, 4]
