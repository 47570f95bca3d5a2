"""Verbs that look at data and machines, as a user types them."""

import json
import signal
from types import SimpleNamespace

import pytest
from PIL import Image

from deit.cli.main import main


def test_data_check_names_bad_images_and_exits_1(capsys, tmp_path):
    """A broken file beside good ones."""
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (20, 10), "red").save(folder / "0.png")
    assert main(["data", "check", str(tmp_path / "photos")]) == 0
    (tmp_path / "photos" / "val" / "dog" / "1.png").write_bytes(b"no image")
    report = tmp_path / "report.json"
    assert main(["data", "check", str(tmp_path / "photos"), "--json", str(report)]) == 1
    assert "dog/1.png" in capsys.readouterr().out
    found = json.loads(report.read_text())
    assert (found["train"], found["val"], len(found["bad_images"])) == (2, 3, 1)


def test_data_stats_counts_the_digits(capsys, tmp_path):
    """The numbers of scikit-learn's data set."""
    assert main(["data", "stats", "digits", "--json", str(tmp_path / "s.json")]) == 0
    stats = json.loads((tmp_path / "s.json").read_text())
    assert stats["train"]["images"] + stats["val"]["images"] == 1797
    assert "1,438" in capsys.readouterr().out


def test_data_preview_draws_as_many_views_as_asked_for(tmp_path):
    """Two rows of eight."""
    out = tmp_path / "preview.png"
    words = ["data", "preview", "digits", "--recipe", "digits", "--count", "16", "--out", str(out)]
    assert main(words) == 0
    with Image.open(out) as sheet:
        assert sheet.width > 8 * 96
        assert 2 * 96 < sheet.height < 3 * 150


def test_preview_shows_the_epoch_that_was_asked_for(tmp_path):
    """Another epoch has other views."""
    pictures = []
    for epoch in ("0", "1"):
        out = tmp_path / f"{epoch}.png"
        words = ["--recipe", "digits", "--count", "8", "--epoch", epoch, "--out", str(out)]
        assert main(["data", "preview", "digits", *words]) == 0
        pictures.append(out.read_bytes())
    assert pictures[0] != pictures[1]


def test_dry_run_estimates_and_leaves_nothing(capsys, tmp_path):
    """Time, memory and checkpoint size; the folder is not made."""
    words = ["--dry-run", "--out", str(tmp_path / "run"), "data.images_per_class=20"]
    assert main(["train", "digits", *words]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("a step takes", "the whole run", "memory:", "MB"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_tells_how_to_go_on(number, monkeypatch, capsys, tmp_path):
    """Exit code 75 for either signal, and a command that can be pasted."""
    out = tmp_path / "my run"
    ended = SimpleNamespace(state="interrupted", step=7, stopped_by=number)
    monkeypatch.setattr("deit.programs.train.train", lambda *_, **__: ended)
    assert main(["train", "digits", "--out", str(out)]) == 75
    assert f"go on with: deit train --out '{out}' --resume" in capsys.readouterr().out


def test_doctor_tells_what_matters(capsys, tmp_path):
    """Device, memory, versions, optional parts."""
    assert main(["doctor", "--json", str(tmp_path / "d.json")]) == 0
    found = json.loads((tmp_path / "d.json").read_text())
    assert {"python", "device", "memory", "torch", "onnxruntime"} <= found.keys()
    assert "GFLOP/s" in capsys.readouterr().out


@pytest.mark.parametrize("which", ["best", "last", "ema"])
def test_evaluate_gives_every_head_of_every_weights(which, tmp_path, capsys):
    """The JSON has the documented form, and agrees with what the run itself measured."""
    run, out = tmp_path / "run", tmp_path / "e.json"
    words = ["--epochs", "1", "data.images_per_class=20", "run.precision=float32"]
    assert main(["train", "digits", "--out", str(run), *words, "schedule.warmup_epochs=0"]) == 0
    options = ["--weights", which, "--json", str(out), "--workers", "0"]
    assert main(["evaluate", str(run), "digits", *options]) == 0
    measured = json.loads(out.read_text())
    told = json.loads((run / "result.json").read_text())
    kind = {"last": "raw", "ema": "ema", "best": told["best"]["weights"]}[which]
    assert measured == told["evaluations"][kind]
    assert measured.keys() == {"class"}
    assert "top-1 %" in capsys.readouterr().out
