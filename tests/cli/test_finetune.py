"""`deit finetune` as a user types it: what it makes of a run, what it refuses, what it trains."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from deit.artifacts import save_model
from deit.cli.finetuning import Finetune, build_finetuned
from deit.cli.main import main
from deit.data.classes import ClassList
from deit.data.preprocess import Preprocess
from deit.model.build import build_model
from deit.model.variants import named_config
from deit.programs.train import train
from deit.recipes.book import get_recipe
from deit.recipes.finetune import gentle
from deit.recipes.recipe import distilled, override, second_token
from deit.run.folder import open_run

DIGITS = ClassList(tuple("0123456789"))
SHORT = {"data.source": "digits", "data.images_per_class": "20", "run.precision": "float32"}
FEW = ("data.images_per_class=20", "run.precision=float32", "schedule.warmup_epochs=0")


@pytest.fixture(scope="session")
def teacher_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow convnet that knows the digits."""
    recipe = override(get_recipe("digits-teacher"), SHORT | {"epochs": "40", "mix.probability": 0})
    model = dataclasses.replace(recipe.model, width=8)
    folder = tmp_path_factory.mktemp("teacher") / "run"
    return train(dataclasses.replace(recipe, model=model), folder).path


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small plain DeiT that has learned something of the digits."""
    recipe = override(get_recipe("digits"), SHORT | {"epochs": "30", "mix.probability": 0})
    return train(recipe, tmp_path_factory.mktemp("plain") / "run").path


@pytest.fixture(scope="session")
def distilled_run(teacher_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DeiT that was distilled from the teacher for a little while."""
    recipe = override(get_recipe("digits"), SHORT | {"epochs": "10"})
    return train(
        distilled(recipe, str(teacher_run)), tmp_path_factory.mktemp("distilled") / "run"
    ).path


def run(*words: object) -> int:
    """The exit code, also where the parser of options ends the process itself."""
    try:
        return main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1


def test_default_recipe_is_the_runs_own_gone_on_with(plain_run):
    """At a larger size: network, views, data and its settings are the run's; and it is named."""
    recipe = build_finetuned(Finetune(start=str(plain_run), img_size="12"), {})
    before = open_run(plain_run)[1]
    expected = gentle(before, start=str(plain_run), other_size=True)
    model = dataclasses.replace(
        before.model, img_size=12, name="deit_nano_patch4_12", num_classes=0
    )
    assert recipe == dataclasses.replace(expected, model=model)
    assert recipe.data == before.data


def test_other_data_does_not_get_the_settings_of_the_runs_data(plain_run, tmp_path):
    """Twenty images per class were a choice for those data."""
    make_photos(tmp_path / "photos", ("0", "1"))
    recipe = build_finetuned(Finetune(start=str(plain_run), data=str(tmp_path / "photos")), {})
    assert recipe.data.images_per_class is None
    assert recipe.data.source == str(tmp_path / "photos")


def test_other_classes_get_a_probe(plain_run, tmp_path):
    """Known ones do not, unless new heads are asked for."""
    make_photos(tmp_path / "photos", ("ant", "bee"))
    other = Finetune(start=str(plain_run), data=str(tmp_path / "photos"))
    assert build_finetuned(other, {}).start.probe_epochs == 1
    same = Finetune(start=str(plain_run))
    assert build_finetuned(same, {}).start.probe_epochs == 0
    assert build_finetuned(same, {"start.heads": "new"}).start.probe_epochs == 1


def test_without_a_teacher_both_heads_learn_the_label(distilled_run, teacher_run):
    """The run's teacher is not asked again unless it is named; then token and kind are as usual."""
    alone = build_finetuned(Finetune(start=str(distilled_run)), {})
    assert (alone.distillation.kind, second_token(alone.model)) == ("label", "distillation")
    taught = build_finetuned(Finetune(start=str(distilled_run), teacher=str(teacher_run)), {})
    assert (taught.distillation.kind, taught.distillation.teacher) == ("hard", str(teacher_run))
    assert second_token(taught.model) == "distillation"


def test_named_recipe_takes_network_and_normalisation_of_the_start(plain_run):
    """And keeps its own size, unless another is asked for."""
    options = Finetune(start=str(plain_run), recipe="transfer/cifar10", data="digits")
    recipe, named = build_finetuned(options, {}), get_recipe("transfer/cifar10")
    assert (recipe.model.embed_dim, recipe.model.img_size) == (64, 224)
    assert recipe.preprocess.mean == (0.5, 0.5, 0.5)
    assert (recipe.optim, recipe.views, recipe.epochs) == (named.optim, named.views, named.epochs)
    smaller = build_finetuned(dataclasses.replace(options, img_size="16"), {})
    assert smaller.model.img_size == 16


def test_published_network_is_not_downloaded_twice(monkeypatch):
    """timm's weights come with the start; the recipe's network has none of its own."""
    from deit import foreign

    load = foreign.load_zoo_classifier
    monkeypatch.setattr(
        "deit.artifacts.load_zoo_classifier", lambda spec: load(spec, pretrained=False)
    )
    recipe = build_finetuned(Finetune(start="timm:resnet10t", data="digits"), {})
    assert (recipe.model.name, recipe.model.pretrained) == ("timm:resnet10t", False)
    assert recipe.start.probe_epochs > 0
    ours = build_finetuned(Finetune(start="timm:deit_tiny_patch16_224", data="digits"), {})
    assert ours.model.kind == "vision-transformer"


@pytest.mark.parametrize("size", ["12", "4"])
def test_finetuning_up_and_down_improves(plain_run, tmp_path, size):
    """After the resize alone it is worse than after training on."""
    words = ("--img-size", size, "--epochs", "8", *FEW, "run.log_steps=1", "optim.lr=1e-3")
    assert run("finetune", plain_run, "--out", tmp_path / "run", *words) == 0
    records = map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    losses = [record["loss"] for record in records if record["event"] == "step"]
    assert sum(losses[-4:]) < sum(losses[:4])
    model = json.loads((tmp_path / "run/weights/model.json").read_text())
    assert model["model"]["img_size"] == model["preprocess"]["image_size"] == int(size)


def test_distilled_finetuning_at_another_size_learns(distilled_run, teacher_run, tmp_path):
    """True labels and the teacher's: both losses fall, and each head is measured."""
    words = ("--teacher", teacher_run, "--img-size", "12", "--epochs", "8", "optim.lr=2e-3")
    out = ("--out", tmp_path / "run", "run.eval_epochs=8", "run.log_steps=1", "mix.probability=0")
    assert run("finetune", distilled_run, *out, *words, *FEW) == 0
    found = json.loads((tmp_path / "run/result.json").read_text())
    assert found["evaluations"]["raw"].keys() >= {"class", "distillation", "joint"}
    records = map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    steps = [record for record in records if record["event"] == "step"]
    for term in ("loss_label", "loss_teacher"):
        assert sum(s[term] for s in steps[-4:]) < sum(s[term] for s in steps[:4])


def test_teacher_is_asked_at_the_size_that_is_stated(distilled_run, teacher_run, tmp_path, capsys):
    """One that knows clearly less there than at its own size is refused before the first step."""
    words = ("--teacher", teacher_run, "--distillation.teacher_size", "9", "--epochs", "1")
    assert run("finetune", distilled_run, "--out", tmp_path / "run", *words, *FEW) == 2
    assert "at 8 pixels instead of 9 it would know" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_plain_run_can_be_distilled_further(plain_run, teacher_run, tmp_path):
    """A second token is added."""
    words = ("--teacher", teacher_run, "--epochs", "1", *FEW)
    assert run("finetune", plain_run, "--out", tmp_path / "run", *words) == 0
    notes = json.loads((tmp_path / "run/data.json").read_text())["start"]["notes"]
    assert any("second token was added" in note for note in notes)


def test_fixres_changes_the_last_layer_alone(teacher_run, tmp_path):
    """At twice the size; BatchNorm's statistics stay."""
    from deit.model.weights import load_weights

    words = ("--recipe", "finetune/fixres", "--img-size", "16", "run.precision=float32")
    assert run("finetune", teacher_run, "--out", tmp_path / "run", *words) == 0
    before = load_weights(teacher_run / "weights/best.safetensors")
    after = load_weights(tmp_path / "run/weights/last.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_finetuning_can_be_resumed_with_the_same_words(plain_run, tmp_path, capsys):
    """And with other words it is refused."""
    out = tmp_path / "run"
    words = ("finetune", plain_run, "--img-size", "12", "--epochs", "2", *FEW, "--out", out)
    recipe = build_finetuned(
        Finetune(start=str(plain_run), img_size="12", epochs="2"),
        dict(word.split("=") for word in FEW),
    )
    train(recipe, out, stop_step=1)
    assert run(*words, "--resume") == 0
    assert run("finetune", "--out", out, "--resume") == 0
    capsys.readouterr()
    assert run("finetune", plain_run, "--img-size", "16", "--out", out, "--resume") == 2
    assert "model.img_size: 12 -> 16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{tmp}/nobody", "digits"), "nobody"),
        (("{plain}", "digits", "--img-size", "10"), "patch_size = 4"),
        (("{plain}", "digits", "--img-size", "big"), "recipe.model.img_size = 'big'"),
        (("{plain}", "digits", "--start.heads", "some"), "recipe.start.heads = 'some'"),
        (("{plain}", "digits", "--start.weights", "first"), "best, ema, last"),
        (("{plain}", "digits", "--model.depth", "3"), "depth = 3 (start: 4)"),
        (("{plain}", "digits", "--teacher", "{tmp}/nobody"), "nobody"),
        (("{plain}", "digits", "--start.probe_epochs", "9"), "recipe.start.probe_epochs = 9"),
        (("{plain}", "{tmp}/photos", "--start.heads", "keep"), "does not know these classes"),
        (("{weights}",), "no data given"),
        ((), "without a model to start from"),
        (("{plain}", "--recipe", "finetune/papr"), "did you mean finetune/paper?"),
    ],
)
def test_wrong_use_is_refused_with_code_2(words, said, plain_run, tmp_path, capsys):
    """One message that says what to do, and no run folder."""
    make_photos(tmp_path / "photos", ("ant", "bee"))
    weights = tmp_path / "w" / "model.safetensors"
    weights.parent.mkdir()
    config = named_config("deit_nano_patch4_8", num_classes=10)
    save_model(weights, build_model(config, 0), config, DIGITS, Preprocess(image_size=8))
    places = {"plain": plain_run, "tmp": tmp_path, "weights": weights}
    code = run("finetune", *(word.format(**places) for word in words), "--out", tmp_path / "run")
    error = capsys.readouterr().err
    assert code == 2, error
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_size_that_a_teacher_cannot_take_is_refused(plain_run, distilled_run, tmp_path, capsys):
    """A transformer as a teacher; says how to bring it there."""
    words = ("--teacher", distilled_run, "--distillation.teacher_size", "12")
    assert run("finetune", plain_run, "digits", *words, "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "distillation.teacher_size = 12" in error
    assert "takes only 8 px" in error
    assert "--img-size 12" in error


def make_photos(folder, names):
    """Four images of noise for each class."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for name in names:
        for split, count in (("train", 3), ("val", 1)):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
