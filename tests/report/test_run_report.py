import json
import shutil

import pytest

from deit.errors import UserError
from deit.report.run_report import write_report

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}",
    "$\\frac{1}{0}$",
    "&lt;b&gt;",
    "\u202eesrever",
    "\udcff no unicode",
    "</td></table></style>",
    "zwölf 十二",
)


def test_report_needs_nothing_from_outside(finished_page, check_page):
    """One file, readable offline and by those who do not see its pictures."""
    check_page(finished_page)
    assert len(finished_page.all("img")) == 12 + 24
    assert len(finished_page.all("svg")) == 6


def test_accuracies_of_all_heads_are_shown(finished_run, finished_page):
    """Each head with raw and averaged weights, as result.json has them."""
    evaluations = json.loads((finished_run / "result.json").read_text())["evaluations"]
    rows = finished_page.rows()
    for weights, name in (("raw", "last step"), ("ema", "averaged (EMA)")):
        for head, title in (("class", "class head"), ("joint", "joint")):
            top1 = f"{100 * evaluations[weights][head]['top1']:.2f} %"
            assert any(row.startswith(f"{title}{name}{top1}") for row in rows)


def test_first_sentence_is_the_chosen_decision(write_run, read_page):
    """The joint decision of the last step, as in the matrix, also where the average was better."""
    joint = {"joint": {"top1": 0.75, "top5": 1.0, "nll": 1.0, "count": 4}}
    ema = {"joint": joint["joint"] | {"top1": 1.0}}
    run = write_run(evaluations={"raw": joint, "ema": ema}, best={"weights": "ema"}, journal=False)
    sentence = "After 30 epochs, 75.0 % of 4 validation images are recognised (joint decision of"
    page = read_page(write_report(run))
    assert sentence in page.text
    assert "The teacher recognises 98.6 %." in page.text


def test_hostile_names_stay_text(write_run, read_page, check_page):
    """Names of classes come from folders of others; none of them becomes markup."""
    run = write_run("<b>run", names=HOSTILE, notes=["<i>note</i>"], journal=False)
    page = read_page(write_report(run))
    check_page(page)
    for name in (name for name in HOSTILE if "\udcff" not in name):
        assert name in page.text
    assert {"<i>note</i>", "<b>run (digits)"} <= {e.text for e in page.elements}
    assert "? no unicode" in page.text


def test_hostile_file_names_stay_text(write_run, read_page, check_page):
    """A file's name is shown as it is, in its row and in the picture's text."""
    name = '"><script>alert(1)</script>.png'
    bad = {"name": name, "reason": "<u>truncated"}
    run = write_run(bad_images=[bad], journal=False)
    gallery = json.loads((run / "gallery" / "gallery.json").read_text())
    gallery["mistakes"][0]["name"] = name
    (run / "gallery" / "gallery.json").write_text(json.dumps(gallery))
    page = read_page(write_report(run))
    check_page(page)
    assert f"{name}<u>truncated" in page.rows()
    assert any(e.attributes["alt"].startswith(name) for e in page.all("img"))


def test_run_that_has_just_begun(write_run, read_page, check_page):
    """A folder with nothing but a recipe has a report that says what is missing."""
    run = write_run(journal=False)
    for path in run.iterdir():
        if path.name != "recipe.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = read_page(write_report(run))
    check_page(page)
    assert "Not finished, at epoch 0 of 30: so far nothing has been measured" in page.text
    for name in ("environment.json", "result.json", "model.json", "metrics.jsonl", "predictions"):
        assert name in page.all("aside")[0].text


def test_unfinished_run_shows_its_last_evaluation(write_run, read_page, check_page):
    """Without a result the journal speaks, as far as it is whole."""
    run = write_run()
    (run / "result.json").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    short = [line for line in lines if json.loads(line)["step"] <= 230]
    (run / "metrics.jsonl").write_text("\n".join(short) + '\n{"event": "eval')
    last = next(r for r in map(json.loads, reversed(short)) if r.get("weights") == "raw")
    last = last["joint"]["top1"]
    page = read_page(write_report(run))
    check_page(page)
    assert f"at epoch 10 of 30: so far, {100 * last:.1f} % of 360" in page.text
    facts = dict(
        zip([e.text for e in page.all("dt")], [e.text for e in page.all("dd")], strict=True)
    )
    assert facts["Steps"] == "230"
    assert 570 <= int(facts["Training images per second"]) <= 630


def test_interrupted_run_says_so(write_run, read_page):
    """Where a run was stopped is in its first sentence."""
    page = read_page(write_report(write_run(state="interrupted", epoch=12.0, journal=False)))
    assert "Interrupted after 12 of 30 epochs: so far, " in page.text


@pytest.mark.parametrize(
    "name", ["result.json", "environment.json", "predictions.csv", "gallery/gallery.json"]
)
def test_damaged_file_does_not_stop_the_report(name, write_run, read_page, check_page):
    """What a crash leaves behind costs its own part of the report only."""
    run = write_run(journal=False)
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: len(content) // 2] + b'\xff\x00"')
    check_page(read_page(write_report(run)))


def test_teacher_run_has_one_head(write_run, read_page, check_page):
    """A model with one head shows that head alone, and no agreement of two."""
    run = write_run(heads=("class",), teacher=None)
    page = read_page(write_report(run))
    check_page(page)
    assert not any(row.startswith(("joint", "distillation")) for row in page.rows())
    assert "decide alike" not in page.text
    assert "joint decision" not in page.text


def test_matrix_counts_every_image(finished_run, finished_page):
    """The confusion matrix counts the joint decision on each validation image."""
    cells = [e for e in finished_page.all("td") if e.attributes.get("class") in ("hit", "miss")]
    assert sum(int(cell.text) for cell in cells) == 360
    hits = sum(int(cell.text) for cell in cells if cell.attributes["class"] == "hit")
    evaluations = json.loads((finished_run / "result.json").read_text())["evaluations"]
    assert hits / 360 == evaluations["raw"]["joint"]["top1"]
    assert f"{hits} of 360 validation images are decided right" in finished_page.text


def test_many_classes_are_shown_as_pairs(write_run, read_page, check_page):
    """Above 30 classes the most confused pairs stand in place of a matrix."""
    names = tuple(f"class {number}" for number in range(31))
    page = read_page(write_report(write_run(names=names, journal=False)))
    check_page(page)
    assert "most frequent mistakes" in page.text
    assert "matrix" not in {e.attributes.get("class", "").split(" ")[0] for e in page.all("table")}


def test_disagreeing_teacher_is_marked(finished_page):
    """The fixture's teacher names a class that is not in the view twice in twelve."""
    marked = [e for e in finished_page.all("figure") if e.attributes.get("class") == "disagrees"]
    assert len(marked) == 2
    assert all("≠ teacher:" in figure.text for figure in marked)
    assert "in 10 of these 12 views" in finished_page.text


def test_recipe_and_machine_are_kept(finished_run, finished_page):
    """What is needed to repeat the run stands in the report."""
    assert " ".join((finished_run / "recipe.yaml").read_text().split()) in finished_page.text
    assert "versions.torch2.11.0" in finished_page.text.replace(" ", "")
    assert "deit distill digits --teacher runs/teacher" in finished_page.text


def test_folder_without_a_run_is_refused(tmp_path):
    """A wrong path is the user's to correct."""
    with pytest.raises(UserError, match="holds no run"):
        write_report(tmp_path)
    with pytest.raises(UserError, match="holds no run"):
        write_report(tmp_path / "nowhere")


def test_report_is_written_anew(write_run):
    """A second report replaces the first and leaves nothing beside it."""
    run = write_run()
    first = write_report(run).read_bytes()
    before = sorted(path.name for path in run.iterdir())
    assert write_report(run).read_bytes() == first
    assert sorted(path.name for path in run.iterdir()) == before
