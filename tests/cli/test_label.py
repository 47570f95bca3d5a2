"""`deit label` and the options that read stored labels, as a user types them."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from deit.cli.main import main
from deit.distillation.label_store import LabelStore
from deit.programs.record import record_labels
from deit.recipes.book import get_recipe
from deit.recipes.recipe import distilled, override

WRONG = {
    "no folder": (["label", "digits", "--teacher", "T"], "without --out"),
    "no teacher": (["label", "digits", "--out", "L"], "--teacher with a run folder"),
    "processes": (
        ["label", "digits", "--teacher", "T", "--out", "L", "--processes", "0"],
        "from 1",
    ),
    "labels of labels": (
        ["label", "digits", "--teacher", "labels:L", "--out", "M"],
        "a teacher that can be asked",
    ),
    "too many probabilities": (
        ["label", "digits", "--teacher", "T", "--out", "L", "--top-k", "-1"],
        "--top-k -1",
    ),
    "no store": (["distill", "digits", "--teacher", "labels:nowhere"], "no store.json"),
    "mixture": (["distill", "digits", "--teacher", "labels:a,T"], "for all of the teachers"),
    "both": (["distill", "digits", "--teacher", "labels:a", "--labels", "b"], "one of them"),
    "soft decisions": (
        ["distill", "digits", "--teacher", "T", "--labels", "L", "--kind", "soft"],
        "distillation.top_k 10",
    ),
    "idle top_k": (
        ["distill", "digits", "--teacher", "T", "--distillation.top_k", "3"],
        "0 without distillation.labels",
    ),
    "bank": (
        ["train", "digits", "--epochs", "3", "--order.bank_epochs", "4"],
        "at most the number of epochs",
    ),
    "verify nothing": (["label", "verify", "nowhere"], "no store.json"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_told_in_one_message(case, teacher_of_ten, tmp_path, monkeypatch, capsys):
    """Exit code 2, what is allowed, and no traceback; nothing is left on the disk."""
    words, message = WRONG[case]
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    words = [str(teacher_of_ten) if word == "T" else word for word in words]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert set(tmp_path.iterdir()) == before


def test_labels_are_recorded_estimated_and_verified(good_teacher, tmp_path, monkeypatch, capsys):
    """The figures on the terminal, in JSON and in the exit code; a dry run leaves nothing."""
    monkeypatch.chdir(tmp_path)
    words = ["label", "digits", "--teacher", str(good_teacher), "--recipe", "digits"]
    words += ["--epochs", "3", "--out", "L", "--batch-size", "64", "--json", "label.json"]
    assert main([*words, "--dry-run"]) == 0
    assert "3 epochs of 1,408 views, the decision in 2 bytes each" in capsys.readouterr().out
    assert not (tmp_path / "L").exists()
    assert main(words) == 0
    figures = json.loads((tmp_path / "label.json").read_text())
    assert (figures["views"], figures["missing"]) == (3 * 1408, 0)
    assert main(["label", "--out", "L"]) == 0
    assert "0 asked for now" in capsys.readouterr().out
    assert main(["label", "verify", "L", "--views", "100", "--json", "verify.json"]) == 0
    verified = json.loads((tmp_path / "verify.json").read_text())
    assert (verified["views"], verified["equal"], verified["held"]) == (128, 128, 4224)
    file = tmp_path / "L" / "epoch-00001.labels"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\0")
    assert main(["label", "verify", "L"]) == 1
    assert "epoch-00001.labels is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.long)])
def test_ctrl_c_leaves_a_store_that_goes_on(good_teacher, tmp_path, processes):
    """SIGINT to the whole process group, as a terminal sends it; exit code 75, and no traceback."""
    words = ["label", "digits", "--teacher", str(good_teacher), "--recipe", "digits"]
    words += ["--epochs", "400", "--out", "L", "--workers", "0", "--processes", processes]
    command = [sys.executable, "-c", "import sys; from deit.cli.main import main; sys.exit(main())"]
    running = subprocess.Popen(
        [*command, *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    file = tmp_path / "L" / "epoch-00002.labels"
    while running.poll() is None and not file.exists():
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    said, complained = running.communicate(timeout=120)
    assert running.returncode == 75, complained
    assert "go on with: deit label --out L" in said
    assert "Traceback" not in complained
    assert LabelStore.open(tmp_path / "L").count(1) > 0


def test_a_store_keeps_what_it_was_begun_with(good_teacher, tmp_path, monkeypatch, capsys):
    """Another number of probabilities would make other rows."""
    monkeypatch.chdir(tmp_path)
    recipe = override(get_recipe("digits"), {"data.source": "digits", "epochs": 5})
    record_labels(distilled(recipe, str(good_teacher)), tmp_path / "L")
    words = ["label", "digits", "--teacher", str(good_teacher), "--recipe", "digits"]
    assert main([*words, "--epochs", "5", "--out", "L", "--top-k", "4"]) == 2
    assert "keeps top_k = 0, not 4" in capsys.readouterr().err
