import re

import pytest

from deit.report.comparison import (
    Comparison,
    ComparisonCurve,
    ComparisonRow,
    ComparisonRun,
    conclusion,
    student_differences,
    write_comparison,
)

PLAIN = ComparisonRow(label="plain", head="class head", top1s=(0.90, 0.92, 0.94), role="baseline")


def student(*top1s: float, label: str = "hard", **values: object) -> ComparisonRow:
    return ComparisonRow(label=label, head="joint", top1s=top1s, **values)


def compare(*rows: ComparisonRow, plain: ComparisonRow = PLAIN, **values: object) -> Comparison:
    seeds = tuple(range(len(plain.top1s)))
    fixed = {"title": "Demo", "explanation": ("Two methods.",), "num_images": 360}
    return Comparison(**fixed | {"seeds": seeds, "rows": (plain, *rows)} | values)


def test_gain_is_named_with_its_interval():
    """Student's interval of the differences 2, 2.5 and 3 points is 2.5 -+ 4.303 * 0.5 / sqrt(3)."""
    said = " ".join(conclusion(compare(student(0.92, 0.945, 0.97))))
    assert "2.50 points more (95 % interval +1.26 to +3.74)" in said
    assert "Better than “plain” (class head) beyond the scatter of the 3 seeds: “hard”" in said


def test_no_gain_is_said_plainly():
    """Distilled students that are not better are not sold as better."""
    said = " ".join(conclusion(compare(student(0.93, 0.90, 0.95))))
    assert "No student is better than “plain”" in said
    assert "Better than" not in said
    assert "Worse than" not in said


def test_loss_is_said_plainly():
    """Students that are worse are named, beside those that are left open."""
    worse, unclear = student(0.88, 0.90, 0.921), student(0.93, 0.90, 0.95, label="soft")
    said = " ".join(conclusion(compare(worse, unclear)))
    assert "Worse than “plain” (class head) beyond the scatter of the 3 seeds: “hard”" in said
    assert "Undecided by these seeds: 1 of the 2 rows." in said


def test_one_seed_decides_nothing():
    """A single run each gives a difference and the warning that belongs to it."""
    plain = ComparisonRow(label="plain", head="class head", top1s=(0.90,), role="baseline")
    said = " ".join(conclusion(compare(student(0.95), plain=plain)))
    assert "5.00 points more" in said
    assert "interval" not in said
    assert "cannot be told from the scatter of seeds; one image is worth 0.28 points" in said


def test_equal_accuracies_are_no_difference():
    """Neither more nor less."""
    assert "no difference (95 %" in conclusion(compare(student(0.90, 0.92, 0.94)))[0]


def test_teacher_is_shown_and_not_compared(tmp_path, read_page):
    """A teacher may have been trained once; it has no row of differences."""
    teacher = ComparisonRow(label="teacher", head="", top1s=(0.99,), role="teacher")
    comparison = compare(student(0.92, 0.945, 0.97), teacher)
    assert len(student_differences(comparison)) == 1
    page = read_page(write_comparison(tmp_path / "report.html", comparison))
    (row,) = [row for row in page.rows() if row.startswith("teacher")]
    assert re.sub(r"\s", "", row) == "teacher99.00%99.00–––––"


def test_table_holds_every_number(tmp_path, read_page):
    """Mean, every seed, difference, interval, NLL, agreement and time."""
    row = student(0.92, 0.945, 0.97, nll=0.1234, seconds=75.0, agreement=0.987)
    page = read_page(write_comparison(tmp_path / "report.html", compare(row)))
    (text,) = [text for text in page.rows() if text.startswith("hard")]
    for value in ("94.50 %", "92.00 94.50 97.00", "+2.50", "+1.26 to +3.74"):
        assert value in text
    for value in ("0.123", "98.7 %", "1 min 15 s"):
        assert value in text


def test_page_with_runs_needs_nothing_from_outside(tmp_path, write_run, read_page, check_page):
    """Views, curves and folded runs included; a run below the page is linked, another is not."""
    inner, outer = write_run("demo/a run"), write_run("elsewhere")
    for run in (inner, outer):
        (run / "report.html").touch()
    curve = ComparisonCurve(label="plain", epochs=(1, 2), top1s=(0.5, 0.9))
    comparison = compare(
        student(0.92, 0.945, 0.97),
        curves=(curve,),
        runs=(ComparisonRun(label="in", folder=inner), ComparisonRun(label="out", folder=outer)),
        views_from=inner,
        command="deit demo",
        environment={"device": "cpu"},
    )
    page = read_page(write_comparison(inner.parent / "report.html", comparison))
    check_page(page)
    assert [e.attributes["href"] for e in page.all("a")] == ["a%20run/report.html"]
    assert (len(page.all("svg")), len(page.all("img"))) == (3, 12)


def test_hostile_labels_stay_text(tmp_path, read_page, check_page):
    """A label that looks like markup is shown as it is."""
    rows = [student(0.92, 0.945, 0.97, label='"><script>alert(1)</script>')]
    comparison = compare(*rows, title="<b>Demo</b>", explanation=("<i>plain</i>",))
    page = read_page(write_comparison(tmp_path / "report.html", comparison))
    check_page(page)
    assert "<b>Demo</b>" in page.text
    assert '"><script>alert(1)</script>' in page.text


def test_narrow_interval_is_explained(tmp_path, read_page):
    """Seeds that happen to agree give an interval that promises too much."""
    page = read_page(write_comparison(tmp_path / "r.html", compare(student(0.91, 0.93, 0.95))))
    assert "narrower than one image (0.28 points)" in page.text


def test_comparison_must_be_paired():
    """One baseline, and one value for each seed."""
    with pytest.raises(ValueError, match="2 values for 3 seeds"):
        compare(student(0.9, 0.9))
    with pytest.raises(ValueError, match="exactly one baseline"):
        compare(PLAIN)
