"""The curves in TensorBoard are the journal's numbers."""

import pytest

from deit.run.journal import Journal

events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_tensorboard_shows_the_journals_numbers(tmp_path):
    """Also nested ones, under the kind of weights; after a resume the later steps are gone."""
    journal = Journal(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        journal.write("step", step, loss=0.5 * step)
    journal.write("evaluation", 3, weights="ema", **{"class": {"top1": 0.75}})
    journal.close()
    journal = Journal(tmp_path / "metrics.jsonl", resume_step=1)
    journal.write("step", 2, loss=9.0)
    journal.close()
    shown = events.EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    assert [(point.step, point.value) for point in shown.Scalars("step/loss")] == [
        (1, 0.5),
        (2, 9.0),
    ]
    assert "evaluation/ema/class/top1" in shown.Tags()["scalars"]
