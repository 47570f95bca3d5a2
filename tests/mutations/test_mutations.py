"""The planted bugs are found, and the list of them keeps up with the code."""

import ast

import pytest

from .run import ROOT, Bug, check_ground, copied_source, planted, read_bugs, source_of, try_bug


@pytest.mark.parametrize("bug", read_bugs(), ids=lambda bug: bug.name)
def test_each_bug_can_be_planted(bug: Bug):
    """Its old text stands in its file once, its new one can be parsed, and its test exists."""
    text = source_of(bug).read_text(encoding="utf-8")
    assert bug.is_in(text), f"{bug.old!r} does not stand in src/deit/{bug.file} exactly once"
    ast.parse(text.replace(bug.old, bug.new))
    file, _, function = bug.test.partition("::")
    assert f"def {function.partition('[')[0]}(" in (ROOT / "tests" / file).read_text("utf-8")


def test_names_are_unique():
    """A bug is asked for by its name."""
    names = [bug.name for bug in read_bugs()]
    assert len(set(names)) == len(names)


def test_planting_leaves_the_copy_as_it_was():
    """So that one bug cannot help to find the next, and none ever reaches the source itself."""
    bug = read_bugs()[0]
    with copied_source() as src:
        before = source_of(bug, src).read_text()
        with planted(bug, src):
            assert bug.new in source_of(bug, src).read_text() != before
            assert source_of(bug).read_text() == before
        assert source_of(bug, src).read_text() == before


@pytest.mark.long
def test_each_bug_turns_its_test_red():
    """A test that guards a promise is worth something once it has been seen to fail."""
    bugs = read_bugs()
    with copied_source() as src:
        check_ground(bugs, src)
        faults = [fault for bug in bugs if (fault := try_bug(bug, src))]
    assert not faults, "\n".join(faults)
