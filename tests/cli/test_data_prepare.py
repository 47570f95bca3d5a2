"""`deit data prepare`: from a folder to a store that trains, and one message for what is wrong."""

import json
from pathlib import Path

import pytest

from deit.cli import data_prepare
from deit.cli.main import main
from deit.programs import prepare_data, prepared_shards
from photo_folder import write_photos


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    counts = {"train/cat": 9, "train/dog": 9, "val/cat": 2, "val/dog": 2}
    return write_photos(tmp_path / "photos", counts)


def run(*words: object) -> int:
    try:
        return main(["data", *map(str, words)])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1


def test_a_prepared_store_is_data_for_the_other_verbs(photos, tmp_path, capsys):
    """With figures for people and for programs."""
    report = tmp_path / "figures.json"
    words = (photos, "--out", tmp_path / "store", "--size", 24, "--recipe", "digits")
    assert run("prepare", *words, "--json", report) == 0
    said = capsys.readouterr().out
    assert "store: 22 images in" in said
    assert "22 of them made now at" in said
    assert "saves nothing" not in said
    assert "of 255 grey levels in training and" in said
    figures = json.loads(report.read_text())
    assert (figures["images"], figures["bad"]) == (22, [])
    assert 0 < figures["difference"]["training"] < 30
    assert run("check", tmp_path / "store") == 0
    assert "prepared from" in capsys.readouterr().out


def test_a_store_smaller_than_the_views_is_warned_of(photos, tmp_path, capsys):
    words = (photos, "--out", tmp_path / "store", "--size", 7, "--recipe", "digits")
    assert run("prepare", *words) == 0
    assert "every view is blurred" in capsys.readouterr().out


def test_images_that_are_left_out_are_named(photos, tmp_path, capsys):
    (photos / "val/dog/1.jpg").write_bytes(b"")
    assert run("prepare", photos, "--out", tmp_path / "store", "--recipe", "digits") == 0
    said = capsys.readouterr().out
    assert "left out: val/dog/1.jpg: an empty file" in said
    assert "store: 21 images in" in said
    assert "21 of them made now at" in said


def test_a_store_without_any_smaller_image_is_told_of(photos, tmp_path, capsys):
    """The photos have sides of 40 to 64 pixels."""
    words = ("--out", tmp_path / "store", "--size", 64, "--recipe", "digits")
    assert run("prepare", photos, *words) == 0
    assert "no image is larger than --size 64: the store saves nothing" in capsys.readouterr().out


def test_an_interruption_says_how_to_go_on(photos, tmp_path, capsys, monkeypatch):
    """In the middle of the second shard: the first is kept, and the same command ends the work."""
    monkeypatch.setattr(prepare_data, "IMAGES_PER_SHARD", 8)
    monkeypatch.setattr(prepared_shards, "_CHUNK", 4)
    words = ("prepare", photos, "--out", tmp_path / "store", "--recipe", "digits", "--threads", 1)

    def interrupt(done: int, total: int) -> None:
        if done == 12:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(data_prepare, "count_on_terminal", lambda what: interrupt)
        assert run(*words) == 75
    assert "go on with the same command again" in capsys.readouterr().out
    assert run(*words) == 0
    assert "22 images in" in (said := capsys.readouterr().out)
    assert "14 of them made now at" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "0"], "--size 0"),
        (["--quality", "200"], "--quality 200"),
        (["--format", "png", "--quality", "90"], "--quality 90 with --format png"),
        (["--threads", "-1"], "--threads -1"),
        (["--recipe", "nonsense"], "nonsense"),
        (["--json", "absent/x.json"], "absent/x.json cannot be written"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_written(words, said, photos, tmp_path, capsys):
    """Exit code 2, one message."""
    assert run("prepare", photos, "--out", tmp_path / "store", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "store").exists()


def test_an_existing_folder_is_refused(photos, tmp_path, capsys):
    assert run("prepare", photos, "--out", photos, "--recipe", "digits") == 2
    assert "exists already" in capsys.readouterr().err
