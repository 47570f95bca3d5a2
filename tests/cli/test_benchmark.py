"""`deit benchmark`: the contract of its figures, and wrong uses."""

import json
import re

import pytest

from deit.cli.main import main

QUICK = ["--teacher", "timm:test_resnet", "--batch-size", "4", "--rounds", "2", "--threads", "1"]
NANO, NANO_96 = "deit_nano_distilled_patch8_64", "deit_nano_distilled_patch8_96"


def run(*words: str) -> int:
    """The exit code, also where the parser of options ends the process itself."""
    try:
        return main(["benchmark", *words])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1


def test_figures_keep_the_contract(capsys, tmp_path):
    """Ratios by peer and case, bytes per view, environment; a table within 80 columns."""
    file = tmp_path / "times.json"
    assert run("distill", "--student", NANO, "--student", NANO_96, *QUICK, "--json", str(file)) == 0
    told = json.loads(file.read_text())
    for peer in ("online", "timm"):
        assert set(told["ratios"][peer]) == {"step", f"step_{NANO_96}"}
        sides = told["students"][NANO]["sides"]
        expected = sides[peer]["median_seconds"] / sides["stored"]["median_seconds"]
        assert told["ratios"][peer]["step"] == pytest.approx(expected)
        assert len(sides[peer]["seconds"]) == 2
    assert 2 <= told["bytes_per_view"] <= 2.1
    assert told["students"][NANO]["label_store"]["positions"] >= 50_000
    assert told["students"][NANO]["apart"]["images"] == 4
    assert told["environment"]["threads"] == 1
    assert str(tmp_path) not in file.read_text()
    out = capsys.readouterr().out
    assert f"{told['ratios']['timm']['step']:.2f}" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["distil"], "did you mean distill?"),
        (["distill", "--student", "deit_tiny_patch16_224"], "deit_tiny_distilled_patch16_224?"),
        (["distill", "--student", "deit_tinny_distilled_patch16_224"], "did you mean"),
        (["distill", "--student", "convnet"], "without a distillation token"),
        (["distill", "--student", "timm:resnet18"], "without a distillation token"),
        (["distill", "--student", NANO, "--student", NANO], "twice"),
        (["distill", "--teacher", "regnety_160"], "write timm:regnety_160"),
        (["distill", "--teacher", "torchvision:resnet18"], "write timm:resnet18"),
        (["distill", "--teacher", "timm:regnetty_160"], "timm has no model 'regnetty_160'"),
        (["distill", "--student", NANO, "--teacher", "timm:test_vit"], "160 px"),
        (["distill", "--teacher", "timm:deit_tiny_distilled_patch16_224"], "two heads"),
        (["distill", "--batch-size", "0"], "--batch-size 0"),
        (["distill", "--rounds", "0"], "--rounds 0"),
        (["distill", "--threads", "0"], "--threads 0"),
        (["distill", "--device", "tpu"], "device"),
        (["distill", "--json", "nowhere/times.json"], "cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_message_and_exit_code_2(capsys, words, said):
    """Nothing is timed."""
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert "s/step" not in captured.out


def test_sides_that_differ_end_with_1(capsys, monkeypatch):
    """A loss that is not Eq. 3: nothing is timed."""
    from deit.benchmarking import timm_peer

    build = timm_peer.build_peer

    def build_wrongly(*arguments):
        peer = build(*arguments)
        peer.task.distill_loss_weight = 0.4
        return peer

    monkeypatch.setattr("deit.benchmarking.distill.build_peer", build_wrongly)
    assert run("distill", "--student", NANO, *QUICK) == 1
    captured = capsys.readouterr()
    assert "deit: the loss: up to" in captured.err
    assert "s/step" not in captured.out


def test_every_kind_is_listed(capsys):
    """Without a kind, and when asked for help."""
    assert run() == run("--help") == 0
    assert re.search(r"^  distill ", capsys.readouterr().out, re.MULTILINE)
