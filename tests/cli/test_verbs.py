"""Verbs that look at data and machines, as a user types them."""

import json
import signal
from types import SimpleNamespace

import pytest

from deit.cli.main import main


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
