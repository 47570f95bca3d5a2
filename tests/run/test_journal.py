"""The journal of a resumed run reads like that of an uninterrupted one."""

from deit.run.journal import Journal, read_journal


def test_records_come_back_in_order(tmp_path):
    """One line each, with event and step."""
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.write("step", 1, loss=0.5)
    journal.write("evaluation", 2, weights="raw")
    journal.close()
    records = read_journal(tmp_path / "metrics.jsonl")
    assert records == [
        {"event": "step", "step": 1, "loss": 0.5},
        {"event": "evaluation", "step": 2, "weights": "raw"},
    ]


def test_resuming_drops_what_came_after_the_checkpoint(tmp_path):
    """Steps that will be taken again must not stand there twice."""
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path)
    for step in range(1, 6):
        journal.write("step", step)
    journal.close()
    journal = Journal(path, resume_step=3)
    journal.write("step", 4)
    journal.close()
    assert [record["step"] for record in read_journal(path)] == [1, 2, 3, 4]


def test_torn_last_line_is_passed_over(tmp_path):
    """A killed process may leave half a line."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "step", "step": 1}\n{"event": "st')
    assert [record["step"] for record in read_journal(path)] == [1]
    Journal(path, resume_step=1).close()
    assert path.read_text() == '{"event": "step", "step": 1}\n'
