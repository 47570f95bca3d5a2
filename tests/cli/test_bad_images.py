"""What the verbs say of images that cannot be used, and of those that are larger than allowed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit.cli.main import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twenty images of ten classes in each split; two of validation are bad."""
    random = np.random.default_rng(3)
    for split in ("train", "val"):
        for number in range(20):
            folder = tmp_path / "photos" / split / str(number % 10)
            folder.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "photos/val/3/3.png").write_bytes(b"<html>404</html>")
    whole = (tmp_path / "photos/val/7/17.png").read_bytes()
    (tmp_path / "photos/val/7/17.png").write_bytes(whole[:300])
    return tmp_path / "photos"


@pytest.fixture
def evaluate_ten(teacher_of_ten: Path, photos: Path, tmp_path: Path):
    """Run `deit evaluate` on the photos; its exit code and what it wrote to --json."""

    def run(*options: str) -> tuple[int, dict]:
        target = tmp_path / "figures.json"
        words = ["evaluate", str(teacher_of_ten), str(photos), "--workers", "0", *options]
        code = main([*words, "--json", str(target)])
        return code, json.loads(target.read_text()) if target.exists() else {}

    return run


def test_evaluating_bad_images_is_refused(evaluate_ten, capsys) -> None:
    """Exit code 2, the image's name, and how to go on; no figures."""
    assert evaluate_ten() == (2, {})
    told = capsys.readouterr().err
    assert "val/3/3.png: a text such as SVG or HTML" in told
    assert "--bad-images wrong" in told


def test_bad_images_count_as_wrong_by_choice(evaluate_ten, capsys) -> None:
    """Of all 20, by name, on the terminal and in the JSON."""
    code, figures = evaluate_ten("--bad-images", "wrong")
    assert code == 0
    assert figures["class"]["count"] == 20
    assert figures["counted_wrong"] == 2
    assert [bad["name"] for bad in figures["bad_images"]] == ["val/3/3.png", "val/7/17.png"]
    told = capsys.readouterr().out
    assert re.search(r"class .* 20\n", told)
    assert "2 of 20 images cannot be decoded and count as wrong" in told
    assert "  val/3/3.png: a text such as SVG or HTML" in told


def test_the_size_limit_holds_in_every_verb(evaluate_ten, photos: Path, capsys) -> None:
    """All images have 256 pixels: with 255 allowed none can be used, with 256 all but the bad."""
    for limit, bad in ((255, 40), (256, 2)):
        found = photos.parent / f"{limit}.json"
        words = ["data", "check", str(photos), "--max-pixels", str(limit), "--json", str(found)]
        assert main(words) == 1
        assert len(json.loads(found.read_text())["bad_images"]) == bad
    assert "16 x 16 pixels are more than 255" in capsys.readouterr().out
    assert main(["data", "stats", str(photos), "--max-pixels", "255"]) == 0
    assert re.search(r"cannot be used +20 +20", capsys.readouterr().out)
    assert evaluate_ten("--max-pixels", "255", "--bad-images", "wrong")[0] == 2
    assert "none of 20 images can be decoded" in capsys.readouterr().err
    assert main(["train", str(photos), "data.max_pixels=255", "--dry-run"]) == 2
    assert "40 images cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("evaluate", "nothing", "digits"), ("data", "check", "digits")])
@pytest.mark.parametrize("limit", ["0", "178956971"])
def test_a_limit_that_cannot_hold_is_refused(words, limit: str, capsys) -> None:
    """None at all, or beyond what Pillow decodes."""
    assert main([*words, "--max-pixels", limit]) == 2
    assert "1 to 178956970" in capsys.readouterr().err
