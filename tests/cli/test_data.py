"""`deit data check | stats | preview`, as a user types them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit.cli.main import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of noise: 12 images each in train, 3 in val."""
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3)):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (32, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_check_of_good_data_ends_with_0(photos, capsys):
    """And says that there is nothing to say."""
    assert main(["data", "check", str(photos)]) == 0
    said = capsys.readouterr().out
    assert "30 images (train 24, val 6), 2 classes" in " ".join(said.split())
    assert "nothing speaks against training" in said


def test_check_ends_with_0_where_there_are_warnings_only(photos, capsys):
    """Odd sizes are no reason to stop a script."""
    Image.new("RGB", (200, 10), "red").save(photos / "train/cat/odd.png")
    assert main(["data", "check", str(photos)]) == 0
    said = capsys.readouterr().out
    assert "train/cat/odd.png: 200 x 10" in said
    assert "no errors, 3 kinds of warnings" in said


def test_check_names_errors_and_ends_with_1(photos, capsys, tmp_path):
    """A broken file and a class of val only: both are told, at 80 columns, and written in full."""
    (photos / "val" / "dog" / "3.png").write_bytes(b"no image")
    (photos / "val" / "dog").rename(photos / "val" / "Dog")
    report = tmp_path / "report.json"
    assert main(["data", "check", str(photos), "--json", str(report), "--show", "1"]) == 1
    said = capsys.readouterr().out
    assert max(map(len, said.replace(str(tmp_path), "").splitlines())) <= 80
    assert "Dog; train has dog" in said
    found = json.loads(report.read_text())
    kinds = {finding["kind"]: finding["count"] for finding in found["findings"]}
    assert (kinds["unusable"], kinds["unknown-class"], kinds["refused"]) == (1, 1, 1)
    assert found["errors"] == 3


def test_names_of_images_are_no_markup_and_move_no_cursor(photos, capsys):
    """Brackets stay, control characters are escaped."""
    (photos / "train" / "cat" / "[red]\033[2J.png").write_bytes(b"")
    assert main(["data", "check", str(photos)]) == 1
    said = capsys.readouterr().out
    assert "train/cat/[red]\\x1b[2J.png: an empty file" in said


def test_no_more_than_asked_for_are_named(photos, capsys):
    """The rest is counted."""
    for number in range(7):
        (photos / "train" / "cat" / f"bad{number}.png").write_bytes(b"")
    assert main(["data", "check", str(photos), "--show", "2"]) == 1
    said = capsys.readouterr().out
    assert "bad1.png" in said
    assert "bad2.png" not in said
    assert "... and 5 more" in said


@pytest.mark.parametrize(
    "words", [("--near", "17"), ("--near", "-1"), ("--show", "-1"), ("--recipe", "nothing")]
)
def test_check_refuses_wrong_use(photos, words, capsys):
    """Exit code 2 and the option that is meant."""
    assert main(["data", "check", str(photos), *words]) == 2
    assert words[1] in capsys.readouterr().err


def test_check_of_nothing_is_wrong_use(tmp_path):
    """What is not there has no findings."""
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 2


def test_check_compares_sizes_with_the_recipe(photos, capsys):
    """224 px from images of 32: all are small."""
    assert main(["data", "check", str(photos), "--recipe", "paper/deit-tiny"]) == 0
    assert "30  images" in capsys.readouterr().out


def test_stats_counts_the_digits(capsys, tmp_path):
    """The numbers of scikit-learn's data set."""
    assert main(["data", "stats", "digits", "--json", str(tmp_path / "s.json")]) == 0
    stats = json.loads((tmp_path / "s.json").read_text())
    assert stats["train"]["images"] + stats["val"]["images"] == 1797
    assert "1,438" in capsys.readouterr().out


def test_stats_measures_as_many_as_asked_for(photos, tmp_path):
    """0 is all."""
    out = tmp_path / "s.json"
    for sample, measured in (("5", 5), ("0", 24)):
        assert main(["data", "stats", str(photos), "--sample", sample, "--json", str(out)]) == 0
        assert json.loads(out.read_text())["train"]["measured"] == measured


def test_stats_writes_a_page(photos, tmp_path, capsys):
    """With pictures of both classes."""
    assert main(["data", "stats", str(photos), "--html", str(tmp_path / "s.html")]) == 0
    page = (tmp_path / "s.html").read_text()
    assert page.count("<img") == 16
    assert "s.html" in capsys.readouterr().out


def draw(out: Path, *words: str) -> int:
    options = ("--recipe", "digits", "--count", "16", "--out", str(out))
    return main(["data", "preview", "digits", *options, *words])


def test_preview_draws_as_many_views_as_asked_for(tmp_path):
    """Two rows of eight."""
    assert draw(tmp_path / "preview.png") == 0
    with Image.open(tmp_path / "preview.png") as sheet:
        assert sheet.width > 8 * 96
        assert 2 * 96 < sheet.height < 3 * 150


def test_preview_shows_the_epoch_that_was_asked_for(tmp_path):
    """Another epoch has other views."""
    for epoch in ("0", "1"):
        assert draw(tmp_path / f"{epoch}.png", "--epoch", epoch) == 0
    assert (tmp_path / "0.png").read_bytes() != (tmp_path / "1.png").read_bytes()


def test_preview_overwrites_nothing_unless_told_so(tmp_path, capsys):
    """What stands there stays, byte for byte; --force replaces it."""
    out = tmp_path / "preview.png"
    out.write_bytes(b"mine")
    assert draw(out) == 2
    assert out.read_bytes() == b"mine"
    assert "exists already" in capsys.readouterr().err
    assert draw(out, "--force") == 0
    assert out.read_bytes() != b"mine"


def test_preview_of_a_broken_image_names_it_and_the_way_on(photos, tmp_path, capsys):
    """Exit code 2, after the notes on the data."""
    for path in (photos / "train/cat").iterdir():
        path.write_bytes(b"no image")
    shutil.rmtree(photos / "val")
    out = tmp_path / "preview.png"
    assert main(["data", "preview", str(photos), "--out", str(out), "--count", "24"]) == 2
    told = capsys.readouterr()
    assert "train/cat/" in told.err
    assert f"`deit data check {photos}`" in told.err
    assert "has no validation split" in told.out
    assert not out.exists()


def test_preview_of_one_class_as_a_page(tmp_path):
    """Every card's image is of that class; an unknown class is wrong use."""
    out = tmp_path / "preview.html"
    assert draw(out, "--only", "3") == 0
    assert out.read_text().count("<figure>") == 16
    assert draw(tmp_path / "other.html", "--only", "three") == 2
