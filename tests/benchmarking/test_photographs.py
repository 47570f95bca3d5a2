"""Where the JPEG files come from that loading is timed on."""

from pathlib import Path

import pytest

from deit.benchmarking.photographs import link_images
from deit.errors import UserError
from photo_folder import write_photos


def test_a_folder_that_is_not_there_is_said_not_to_be(tmp_path: Path) -> None:
    """It is not counted as one without files."""
    with pytest.raises(UserError, match=r"no folder .*nope"):
        link_images(str(tmp_path / "nope"), tmp_path / "out", 4)


@pytest.mark.parametrize("kind", ["digits", "torchvision:CIFAR10", "hf:beans", "csv", "store"])
def test_other_data_than_plain_folders_are_refused_as_such(kind, tmp_path, monkeypatch) -> None:
    """Files are what is timed."""
    monkeypatch.chdir(tmp_path)
    if kind == "csv":
        Path("photos.csv").write_text("file,label\n")
    if kind == "store":
        Path("store").mkdir()
        Path("store/prepared.json").write_text("{}")
    with pytest.raises(UserError, match="is no plain folder of JPEG files"):
        link_images({"csv": "photos.csv"}.get(kind, kind), tmp_path / "out", 4)


def test_a_plain_folder_is_linked_and_too_few_files_are_counted(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", {"a/b": 3, "c": 2})
    link_images(str(photos), tmp_path / "out", 5)
    links = {path.resolve() for path in (tmp_path / "out/train").rglob("*.jpg")}
    assert links == set(photos.rglob("*.jpg"))
    with pytest.raises(UserError, match="5 JPEG files"):
        link_images(str(photos), tmp_path / "more", 6)
