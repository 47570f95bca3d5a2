"""README.md as its reader types it: each command and each Python block, on a small folder `photos`.

The words are those of the README; only the training behind them is cut to one short epoch. All run
one after another in one folder, as a reader would, so a later command may use an earlier one's run.
How blocks are found and left out is in `readme.py`.
"""

import dataclasses
import functools
from concurrent.futures import Executor, Future

import numpy as np
import pytest
from PIL import Image

from deit.cli.main import main
from deit.model.variants import ConvNetConfig

from .readme import find_commands, find_fences
from .source_tree import ROOT

IMAGE_SIZE = 20
"""Small enough for the smallest of our models, which `--recipe folder` then takes."""


def shortened(recipe):
    """The same recipe for one epoch, in this process.

    A convnet becomes a narrow and fast one for six: it must learn enough to be let in as a teacher.
    """
    changes = {"epochs": 1}
    if isinstance(recipe.model, ConvNetConfig):
        changes = {
            "epochs": 6,
            "batch_size": min(recipe.batch_size, 16),
            "model": dataclasses.replace(recipe.model, width=8, blocks=(1, 1)),
            "optim": dataclasses.replace(recipe.optim, lr=0.01, lr_batch=16),
        }
    return dataclasses.replace(
        recipe,
        **changes,
        schedule=dataclasses.replace(recipe.schedule, warmup_epochs=0),
        run=dataclasses.replace(recipe.run, workers=0, eval_epochs=10),
    )


def make_photos(folder):
    """Three classes that differ in colour: train/ with 12 images of each, val/ with 4."""
    generator = np.random.default_rng(0)
    for number, name in enumerate(("apple", "pear", "plum")):
        for split, count in (("train", 12), ("val", 4)):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 64, (IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
                pixels[..., number] += 191
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")


class InThisProcess(Executor):
    """A pool of processes without processes: in new ones, nothing would be cut short."""

    def __init__(self, *_, **__):
        super().__init__()

    def submit(self, function, /, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder with `photos`, in which training is short and the demo compares two methods once."""
    import deit.demo as comparison
    import deit.programs.record as recording
    import deit.programs.train as program
    import deit.students as students

    train_whole, compare_all = program.train, comparison.demo
    record_all = recording.record_labels

    @functools.wraps(train_whole)
    def train_shortly(recipe, *arguments, **options):
        return train_whole(shortened(recipe), *arguments, **options)

    @functools.wraps(compare_all)
    def compare_once(*arguments, **options):
        return compare_all(*arguments, **options | {"seeds": 1})

    @functools.wraps(record_all)
    def record_shortly(recipe, *arguments, **options):
        return record_all(shortened(recipe), *arguments, **options)

    make_photos(tmp_path / "photos")
    for module in (program, comparison, students):
        monkeypatch.setattr(module, "train", train_shortly)
    for module in (recording, students):
        monkeypatch.setattr(module, "record_labels", record_shortly)
    monkeypatch.setattr(comparison, "demo", compare_once)
    two = students.METHODS[:: len(students.METHODS) - 1]
    for module in (comparison, students):
        monkeypatch.setattr(module, "METHODS", two)
    monkeypatch.setattr(students, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.chdir(tmp_path)


def execute(markdown):
    """Run all of it; the first thing that fails is named."""
    for words in find_commands(markdown):
        try:
            code = main(words)
        except SystemExit as left:  # how the option parser ends after help and after errors
            code = left.code or 0
        assert code == 0, f"`deit {' '.join(words)}` ended with exit code {code}"
    namespace = {"__name__": "readme"}
    for fence in find_fences(markdown, "python"):
        exec(compile("\n" * fence.line + fence.text, "README.md", "exec"), namespace)


def test_readme_does_what_it_says(reader):
    """Every command ends with exit code 0, every Python block without an error."""
    markdown = (ROOT / "README.md").read_text(encoding="utf-8")
    assert find_commands(markdown), "no commands found in README.md"
    execute(markdown)


@pytest.mark.parametrize("page", ["labels.md", "audit.md", "finetuning.md", "checking_data.md"])
def test_how_to_pages_do_what_they_say(reader, page):
    """With a folder of photos and the runs that the README's first commands leave."""
    if page != "checking_data.md":
        assert main(["teacher", "photos", "--out", "runs/teacher"]) == 0
    if page == "finetuning.md":
        distil = ["distill", "photos", "--teacher", "runs/teacher", "--out", "runs/distilled"]
        assert main(["train", "photos", "--out", "runs/plain"]) == 0
        assert main(distil) == 0
    execute((ROOT / "docs" / page).read_text(encoding="utf-8"))


def test_the_page_of_data_does_what_it_says(reader, tmp_path, monkeypatch):
    """Its Python makes the files that its commands read."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    markdown = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    namespace = {"__name__": "data"}
    for fence in find_fences(markdown, "python"):
        exec(compile("\n" * fence.line + fence.text, "data.md", "exec"), namespace)
    execute(markdown)


@pytest.mark.parametrize(
    ("markdown", "message"),
    [
        ("```sh\ndeit trainn photos\n```\n", "exit code 2"),
        ("```sh\ndeit recipes show nothing\n```\n", "exit code 2"),
        ("```sh\ndeit train photos --no-such-option 1\n```\n", "exit code 2"),
        ("```sh\nmake demo\nsudo deit train\n```\n", "cannot execute"),
        ("```python\nimport deit\ndeit.trainn\n```\n", "no attribute 'trainn'"),
    ],
    ids=["verb", "name", "option", "program", "python"],
)
def test_a_readme_that_promises_too_much_is_found_out(reader, markdown, message):
    """The test above can fail: each kind of broken promise is planted here once."""
    with pytest.raises((AssertionError, ValueError, AttributeError), match=message):
        execute(markdown)


def test_blocks_are_found_as_they_are_written():
    """Continued lines are joined, comments dropped, other languages and excused blocks left out."""
    markdown = (
        "```sh\npip install deit  # once\ndeit train photos \\\n  --epochs 5   # short\n```\n"
        "<!-- not executed: downloads a teacher -->\n```sh\ndeit distill photos\n```\n"
        "```text\ndeit paper\n```\n```python\nx = 1\n```\n"
    )
    assert find_commands(markdown) == [["train", "photos", "--epochs", "5"]]
    assert [fence.text for fence in find_fences(markdown, "python")] == ["x = 1\n"]
