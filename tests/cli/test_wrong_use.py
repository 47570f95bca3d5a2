"""Wrong commands: exit code 2, one message that says what to do, no traceback, nothing started."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit.cli import main as front
from deit.cli.main import VERBS, main
from deit.data.images import BadImage
from deit.data.loader import WorkerDied
from deit.recipes.book import get_recipe
from deit.recipes.recipe import override
from deit.run import folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of noise, three images each in train, one in val."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1)):
        for name in ("cat", "dog"):
            target = tmp_path / "photos" / split / name
            target.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(target / f"{number}.png")
    return tmp_path / "photos"


def run(*words: object) -> int:
    """The exit code, also where the parser of options ends the process itself."""
    try:
        return main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1


def assert_refused(capsys: pytest.CaptureFixture[str], code: int, *said: str) -> None:
    error = capsys.readouterr().err
    assert code == 2
    assert "Traceback" not in error
    missing = [text for text in said if text not in error]
    assert missing == [], error


def test_unknown_verb_names_the_nearest(capsys):
    """deit trian"""
    assert_refused(capsys, run("trian"), "trian", "did you mean train?")


def test_missing_folder_is_named(capsys, tmp_path):
    """deit train nowhere"""
    code = run("train", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert_refused(capsys, code, "nowhere")
    assert not (tmp_path / "run").exists()


def test_one_class_is_refused(capsys, photos, tmp_path):
    """Nothing can be told apart."""
    for split in ("train", "val"):
        for file in (photos / split / "dog").iterdir():
            file.unlink()
        (photos / split / "dog").rmdir()
    assert_refused(capsys, run("train", photos, "--out", tmp_path / "run"), "one class")


def test_unknown_recipe_key_names_the_nearest(capsys, photos, tmp_path):
    """--optim.lrr"""
    code = run("train", photos, "--out", tmp_path / "run", "--optim.lrr", "1e-3")
    assert_refused(capsys, code, "recipe.optim.lrr", "did you mean recipe.optim.lr?")


def test_value_of_the_wrong_kind_is_refused(capsys, photos, tmp_path):
    """optim.lr=fast"""
    code = run("train", photos, "--out", tmp_path / "run", "optim.lr=fast")
    assert_refused(capsys, code, "recipe.optim.lr = 'fast'", "a number")


def test_short_option_of_the_wrong_kind_is_refused_like_its_field(capsys, photos):
    """--epochs ten"""
    code = run("train", photos, "--recipe", "cifar", "--epochs", "ten")
    assert_refused(capsys, code, "recipe.epochs = 'ten'", "a whole number")


def test_unknown_recipe_names_the_nearest(capsys, photos):
    """--recipe cifr"""
    assert_refused(capsys, run("train", photos, "--recipe", "cifr"), "did you mean cifar?")


def test_image_size_must_be_divisible_by_the_patch(capsys, photos):
    """model.img_size=33 with patches of 4"""
    code = run("train", photos, "--recipe", "cifar", "model.img_size=33")
    assert_refused(capsys, code, "33", "patch_size", "for example")


def test_existing_run_folder_is_refused(capsys, photos, tmp_path):
    """Runs are never overwritten."""
    folder.create(tmp_path / "run", get_recipe("cifar"), {})
    code = run("train", photos, "--recipe", "cifar", "--out", tmp_path / "run")
    assert_refused(capsys, code, "exists already", "--resume")


def test_resume_with_a_changed_recipe_prints_the_difference(capsys, photos, tmp_path):
    """The old and the new value."""
    recipe = override(get_recipe("cifar"), {"data.source": str(photos), "model.num_classes": 2})
    recipe = override(recipe, {"run.device": "cpu", "run.precision": "float32", "batch_size": 4})
    folder.create(tmp_path / "run", recipe, {})
    code = run("train", "--out", tmp_path / "run", "--resume", "--optim.lr", "0.5")
    assert_refused(capsys, code, "optim.lr: 0.001 -> 0.5")


def test_resume_of_nothing_is_refused(capsys, photos, tmp_path):
    """There is no run in the folder."""
    code = run("train", photos, "--out", tmp_path / "none", "--resume")
    assert_refused(capsys, code, "holds no run")


def test_teacher_of_another_class_count_is_refused(capsys, photos, tmp_path, teacher_of_ten):
    """A teacher of digits for cats and dogs."""
    words = ("--teacher", teacher_of_ten, "--recipe", "cifar", "--out", tmp_path / "run")
    code = run("distill", photos, *words)
    assert_refused(capsys, code, "class", "deit teacher")
    assert not (tmp_path / "run").exists()


def test_distilling_without_a_teacher_is_refused(capsys, photos):
    """Says where one comes from."""
    code = run("distill", photos, "--recipe", "cifar")
    assert_refused(capsys, code, "no teacher given", "deit teacher DATA")


def test_missing_teacher_is_refused_before_anything_starts(capsys, photos, tmp_path):
    """A run folder that does not exist."""
    out = ("--recipe", "cifar", "--out", tmp_path / "run")
    code = run("distill", photos, "--teacher", tmp_path / "absent", *out)
    assert_refused(capsys, code, "absent")
    assert not (tmp_path / "run").exists()


def test_broken_images_are_all_named_before_training(capsys, photos, tmp_path):
    """Never replaced by others."""
    (photos / "train" / "cat" / "0.png").write_bytes(b"")
    (photos / "train" / "dog" / "1.png").write_bytes(b"no image")
    code = run("train", photos, "--recipe", "cifar", "--out", tmp_path / "run")
    assert_refused(capsys, code, "2 images", "cat/0.png", "dog/1.png", "leave-out")


def test_unknown_device_is_refused(capsys, photos):
    """--device gpu"""
    code = run("train", photos, "--recipe", "cifar", "--device", "gpu", "batch_size=4")
    assert_refused(capsys, code, "gpu", "cuda")


@pytest.mark.parametrize("words", [("train", "--epoch", "3"), ("evaluate",), ("data", "chek", ".")])
def test_wrong_options_end_with_code_2(capsys, words):
    """What the parser of options says itself."""
    assert run(*words) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_report_of_no_run_is_refused(capsys, tmp_path):
    """An empty folder."""
    assert_refused(capsys, run("report", tmp_path), str(tmp_path))


def test_output_that_cannot_be_written_is_refused_first(capsys, tmp_path):
    """Before the model is even loaded."""
    code = run("evaluate", "nothing", "digits", "--json", tmp_path / "absent" / "x.json")
    assert_refused(capsys, code, "x.json cannot be written")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("doctor", "--json", "absent/x.json"), "absent/x.json cannot be written"),
        (("data", "preview", "digits", "--epoch", "-1"), "--epoch -1"),
        (("data", "preview", "digits", "--count", "0"), "--count 0"),
        (("data", "preview", "digits", "--out", "views.xyz"), ".png"),
        (("evaluate", "nothing", "digits", "--batch-size", "0"), "--batch-size 0"),
        (("evaluate", "nothing", "digits", "--workers", "-1"), "--workers -1"),
        (("teacher", "digits", "--weights", "published"), "timm:NAME"),
    ],
)
def test_options_that_cannot_be_are_refused_first(capsys, words, said):
    """Before data or model are opened."""
    assert_refused(capsys, run(*words), said)


@pytest.mark.parametrize("failure", [BadImage("cat/0.png", "truncated"), WorkerDied("a worker")])
def test_failures_while_reading_images_are_one_message(capsys, monkeypatch, failure):
    """Nobody's wrong use: exit code 1, no traceback."""

    def fail(_words):
        raise failure

    monkeypatch.setattr(front, "load_verb", lambda _name: fail)
    assert run("train") == 1
    assert capsys.readouterr().err == f"deit: {failure}\n"


def test_shown_sizes_of_an_example_are_said_to_be_those(capsys):
    """As a comment, so that the output stays YAML; a recipe of fixed size has none."""
    assert run("recipes", "show", "folder") == 0
    assert capsys.readouterr().out.startswith("# sized for an example")
    assert run("recipes", "show", "digits") == 0
    assert capsys.readouterr().out.startswith("name: digits")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_is_whole(verb, capsys):
    """Each tells what it does and describes every option; lines fit in 80 columns."""
    assert run(verb, "--help") == 0
    text = capsys.readouterr().out
    assert f"deit {verb}" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_overview_lists_every_verb(capsys):
    """deit --help, deit, deit help."""
    for words in ((), ("--help",), ("help",)):
        assert run(*words) == 0
        text = capsys.readouterr().out
        assert all(f"  {verb}" in text for verb in VERBS)


def test_version_is_the_packages(capsys):
    """deit --version"""
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("deit 0.")
