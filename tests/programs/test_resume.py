"""A run that was stopped and resumed is the run that was not."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from deit.programs.train import train
from deit.recipes.recipe import Recipe, override, save_recipe
from deit.run.checkpoint import load_newest
from deit.run.journal import read_journal


def final_tensors(run: Path) -> dict[str, torch.Tensor]:
    checkpoint, skipped = load_newest(run / "checkpoints")
    assert checkpoint is not None
    assert skipped == []
    return checkpoint.tensors


def assert_same_tensors(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert {name.partition(".")[0] for name in ours} == {"model", "ema", "optimizer"}
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert different == []


@pytest.fixture
def uninterrupted(busy_recipe: Recipe, tmp_path: Path) -> Path:
    """The run to compare with."""
    return train(busy_recipe, tmp_path / "whole").path


@pytest.mark.parametrize("workers", [0, 2])
def test_run_stopped_at_five_steps_ends_in_the_same_weights(
    busy_recipe, uninterrupted, tmp_path, workers
):
    """Mixing, EMA, distillation, dropout, accumulation on; bit for bit, optimizer included."""
    recipe = override(busy_recipe, {"run.workers": workers})
    stops = sorted(random.Random(workers).sample(range(1, 12), 5))
    train(recipe, tmp_path / "run", stop_step=stops[0])
    for stop in [*stops[1:], None]:
        result = train(recipe, tmp_path / "run", resume=True, stop_step=stop)
        assert result.step == (stop or 12)
    assert_same_tensors(final_tensors(tmp_path / "run"), final_tensors(uninterrupted))


def test_resumed_run_tells_the_same_story(busy_recipe, uninterrupted, tmp_path):
    """Evaluations, losses, best and predictions equal those of the uninterrupted run."""
    recipe = override(busy_recipe, {"run.eval_epochs": 1, "run.log_steps": 1})
    whole = train(recipe, tmp_path / "a")
    train(recipe, tmp_path / "b", stop_step=6)
    again = train(recipe, tmp_path / "b", resume=True)
    assert (again.best, again.evaluations) == (whole.best, whole.evaluations)
    timing = {"images_per_second", "data_wait"}

    def story(run: str) -> list[dict[str, object]]:
        records = read_journal(tmp_path / run / "metrics.jsonl")
        kept = [record for record in records if record["event"] in ("step", "evaluation")]
        return [{k: v for k, v in record.items() if k not in timing} for record in kept]

    assert story("b") == story("a")
    predictions = [(tmp_path / run / "predictions.csv").read_bytes() for run in "ab"]
    assert predictions[0] == predictions[1]


def test_workers_change_nothing(busy_recipe, uninterrupted, tmp_path):
    """Rendering in two processes gives the same weights as rendering in the training process."""
    recipe = override(busy_recipe, {"run.workers": 2})
    run = train(recipe, tmp_path / "run").path
    assert_same_tensors(final_tensors(run), final_tensors(uninterrupted))


def test_another_seed_is_another_run(busy_recipe, uninterrupted, tmp_path):
    """Equality above is not for want of randomness."""
    other = train(dataclasses.replace(busy_recipe, seed=1), tmp_path / "run").path
    ours, theirs = final_tensors(other), final_tensors(uninterrupted)
    assert not torch.equal(ours["model.head.weight"], theirs["model.head.weight"])


def start(folder: Path, recipe: Path, resume: bool) -> subprocess.Popen[bytes]:
    words = ["train", "-c", str(recipe), "--out", str(folder), *(["--resume"] if resume else [])]
    program = "import sys; from deit.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen([sys.executable, "-c", program, *words], stdout=subprocess.DEVNULL)


def wait_for_steps(run: Path, steps: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        journal = run / "metrics.jsonl"
        if journal.exists():
            taken = [r["step"] for r in read_journal(journal) if r["event"] == "step"]
            if taken and max(taken) >= steps:
                return
        time.sleep(0.02)
    raise AssertionError(f"{run} did not reach step {steps}")


def test_sigterm_saves_and_exits_75_and_the_run_can_go_on(busy_recipe, uninterrupted, tmp_path):
    """A real process, a real signal, the real command line."""
    recipe = override(busy_recipe, {"run.log_steps": 1, "run.eval_epochs": 3, "epochs": 40})
    save_recipe(tmp_path / "recipe.yaml", recipe)
    process = start(tmp_path / "run", tmp_path / "recipe.yaml", resume=False)
    wait_for_steps(tmp_path / "run", 5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    stopped_at = load_newest(tmp_path / "run" / "checkpoints")[0].step
    assert stopped_at >= 5
    result = train(recipe, tmp_path / "run", resume=True, stop_step=stopped_at + 2)
    whole = train(recipe, tmp_path / "again", stop_step=stopped_at + 2)
    assert result.step == whole.step
    assert_same_tensors(final_tensors(tmp_path / "run"), final_tensors(tmp_path / "again"))


@pytest.mark.long
def test_run_killed_ten_times_ends_in_the_same_weights(busy_recipe, tmp_path):
    """SIGKILL at random moments, also during saves: each step is saved."""
    recipe = override(busy_recipe, {"run.checkpoint_steps": 1, "run.log_steps": 1, "epochs": 30})
    save_recipe(tmp_path / "recipe.yaml", recipe)
    generator = random.Random(0)
    run, kills = tmp_path / "run", 0
    while kills < 10:
        process = start(run, tmp_path / "recipe.yaml", resume=(run / "recipe.yaml").exists())
        wait_for_steps(run, 1)
        time.sleep(4 + generator.random())
        os.kill(process.pid, signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
    assert kills >= 3
    train(recipe, run, resume=True)
    train(recipe, tmp_path / "whole")
    assert_same_tensors(final_tensors(run), final_tensors(tmp_path / "whole"))
