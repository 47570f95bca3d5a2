"""`max_pixels` wherever data are opened: where a tenth is set aside, and where training refuses."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit.cli.recipes import find_recipe
from deit.data.dataset import pixel_limit
from deit.data.lenient import open_leniently
from deit.data.sources import open_data
from deit.programs.check_data import check_data


def write(folder: Path, size: int, *names: str) -> str:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return str(folder)


SPLIT = ("train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png")
UNSPLIT = ("a/1.png", "a/2.png", "b/1.png", "b/2.png")
REFUSED = (*SPLIT, "val/c/1.png")  # a class that train lacks


@pytest.mark.parametrize("names", [SPLIT, UNSPLIT, REFUSED], ids=["split", "unsplit", "refused"])
def test_the_limit_holds_in_every_split_that_a_check_opens(names, tmp_path: Path) -> None:
    """So that images above it are said to be too large, not broken."""
    data = write(tmp_path, 20, *names)
    opened = open_leniently(data, max_pixels=399)
    assert {pixel_limit(source) for source in opened.splits.values()} == {399}
    kinds = {finding.kind for finding in check_data(data, max_pixels=399).findings}
    assert "too-large" in kinds
    assert "unusable" not in kinds


def test_a_selection_has_the_limit_of_what_it_selects_from(tmp_path: Path) -> None:
    """A validation split that was set aside is one; what lies in memory has the default."""
    data = open_data(write(tmp_path, 8, *UNSPLIT), max_pixels=100)
    assert pixel_limit(data.train) == pixel_limit(data.val) == 100
    assert pixel_limit(open_data("digits").train) == 2**26


def test_a_recipe_is_sized_by_images_above_the_limit_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever raises it has large photographs: a model for 1 pixel would be no help."""
    for name in SPLIT:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("1", (9000, 8000)).save(tmp_path / name)
    find_recipe("folder", str(tmp_path))
    assert "images of about 8000 px" in capsys.readouterr().out
