"""Models on the disk: what was saved is what is loaded, and nothing is guessed or downloaded."""

import dataclasses
import json
import shutil

import pytest
import torch

import deit
from deit.artifacts import (
    build_teacher,
    load,
    load_classifier,
    load_teacher,
    save_model,
    teacher_members,
)
from deit.classifier import Classifier
from deit.data.classes import ClassList
from deit.data.preprocess import Preprocess
from deit.distillation.ensemble import Ensemble
from deit.errors import UserError
from deit.model.build import build_model
from deit.model.variants import ConvNetConfig, VisionTransformerConfig, ZooConfig

CLASSES = ClassList(("cat", "dog", "fox"))
PREPROCESS = Preprocess(image_size=16, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), crop_pct=1.0)
CONFIGS = {
    "distilled transformer": VisionTransformerConfig(
        img_size=16,
        patch_size=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        num_classes=3,
        second_token="distillation",
    ),
    "convnet": ConvNetConfig(width=4, blocks=(1, 1), num_classes=3),
    "zoo": ZooConfig(name="timm:test_resnet", img_size=16, num_classes=3, pretrained=True),
}


def save(path, kind="distilled transformer", seed=1, classes=CLASSES):
    config = CONFIGS[kind]
    built = dataclasses.replace(config, pretrained=False) if kind == "zoo" else config
    model = build_model(built, seed)
    save_model(path, model, config, classes, PREPROCESS)
    return model.eval()


@pytest.fixture
def run(tmp_path):
    """A run folder as training leaves it, with three different sets of weights."""
    (tmp_path / "run" / "weights").mkdir(parents=True)
    for seed, name in enumerate(("best", "ema", "last")):
        save(tmp_path / "run" / "weights" / f"{name}.safetensors", seed=seed)
    return tmp_path / "run"


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_kind_of_model_comes_back_as_it_was_saved(kind, tmp_path):
    """Logits are equal bit for bit, and classes and preprocessing are there; nothing is fetched."""
    model = save(tmp_path / "a.safetensors", kind)
    loaded = load_classifier(tmp_path / "a.safetensors")
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(loaded.forward(images), model(images), strict=True):
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    assert (loaded.classes, loaded.preprocess, loaded.num_classes) == (CLASSES, PREPROCESS, 3)
    assert not loaded.model.training


@pytest.mark.parametrize(("which", "seed"), [("best", 0), ("ema", 1), ("last", 2)])
def test_a_runs_weights_are_read_by_name(run, which, seed):
    """Best is the default; each name reads its own file."""
    expected = build_model(CONFIGS["distilled transformer"], seed).state_dict()
    loaded = load_classifier(run, which=which).model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in expected.items())
    assert which != "best" or load_classifier(run).name == str(run / "weights/best.safetensors")


def test_loaded_model_carries_its_preprocessing_and_classes(run):
    """`deit.load` gives a module that `deit.evaluate` can measure without being told more."""
    model = deit.load(run)
    assert isinstance(model, torch.nn.Module)
    assert (model.preprocess, model.classes) == (PREPROCESS, CLASSES)


def test_model_json_is_plain_and_says_its_format(tmp_path):
    """Other programs can read it; what belongs to the zoo's own weights is not kept."""
    save(tmp_path / "a.safetensors", "zoo")
    told = json.loads((tmp_path / "model.json").read_text())
    assert told["format"] == "deit/1"
    assert told["classes"] == ["cat", "dog", "fox"]
    assert told["model"]["pretrained"] is False
    assert told["preprocess"]["mean"] == [0.1, 0.2, 0.3]


def test_weights_of_another_model_are_not_put_beside_a_model_json(tmp_path):
    """They would be read by the wrong description."""
    save(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="describes another model"):
        save(tmp_path / "b.safetensors", "convnet")
    assert not (tmp_path / "b.safetensors").exists()


def test_folder_of_one_saved_model_is_enough_to_name_it(tmp_path):
    """A folder with a model.json and a single weights file needs no file name."""
    save(tmp_path / "student.safetensors")
    assert load_classifier(tmp_path).name.endswith("student.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "deit/9"}, "format = 'deit/9'"),
        ({"model": {"kind": "mlp"}}, "model.kind = 'mlp'"),
        ({"model": None}, "model is a NoneType"),
        ({"model": {"kind": "convnet", "widht": 3}}, "unknown key"),
        ({"classes": ["cat", "dog"]}, "names 2 classes for 3 logits"),
        ({"classes": "cat"}, "classes = 'cat'"),
        ({"classes": ["cat", "cat", "dog"]}, "stand twice"),
        ({"preprocess": {"image_size": 16, "std": [0, 1, 1]}}, "preprocess.std"),
    ],
)
def test_damaged_descriptions_are_refused(tmp_path, change, message):
    """A model.json that was edited by hand is an error that names the place."""
    save(tmp_path / "a.safetensors")
    beside = tmp_path / "model.json"
    beside.write_text(json.dumps(json.loads(beside.read_text()) | change))
    with pytest.raises(UserError, match=message):
        load_classifier(tmp_path / "a.safetensors")


def test_a_description_cannot_make_us_download(tmp_path, monkeypatch):
    """`pretrained` in a model.json would fetch weights that are replaced at once."""
    save(tmp_path / "a.safetensors", "zoo")
    beside = tmp_path / "model.json"
    beside.write_text(beside.read_text().replace('"pretrained": false', '"pretrained": true'))
    asked = []
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *a, **k: asked.append(a))
    load_classifier(tmp_path / "a.safetensors")
    assert not asked


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_descriptions_that_are_no_mapping_are_refused(tmp_path, text):
    """Torn, empty or binary files end in a message."""
    save(tmp_path / "a.safetensors")
    (tmp_path / "model.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"model\.json"):
        load_classifier(tmp_path / "a.safetensors")


def test_missing_weights_are_named_with_those_that_are_there(run):
    """A run that has not been evaluated yet has no best weights."""
    (run / "weights" / "best.safetensors").unlink()
    with pytest.raises(UserError) as caught:
        load_classifier(run)
    assert "no weights called best" in caught.value.given
    assert caught.value.allowed == "ema, last"


def test_a_run_without_weights_says_so(tmp_path):
    """A run that was stopped before its first evaluation cannot be measured or teach."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(UserError, match="run without weights"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("spec", ["runs/nowhere", "mlflow:deit", "onnx:nowhere.onnx"])
def test_names_of_nothing_are_refused_with_what_is_allowed(spec):
    """The message lists the kinds of models that can be read."""
    with pytest.raises(UserError, match="no such file") as caught:
        load_classifier(spec)
    assert "timm:NAME" in caught.value.allowed


def test_unknown_set_of_weights_is_refused(run):
    """A typing error does not silently read the best weights."""
    with pytest.raises(UserError, match="'bets'") as caught:
        load_classifier(run, which="bets")
    assert caught.value.todo == "did you mean best?"


def test_classes_in_another_order_are_matched_by_name(run):
    """The teacher's logits follow the data's classes, whatever order it was trained in."""
    order = ClassList(("fox", "cat", "dog"))
    teacher = load_teacher(run, order)
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    classifier = load_classifier(run)
    expected = classifier.forward(images).joint_probabilities()[:, [2, 0, 1]]
    logits = teacher.logits(images, PREPROCESS.mean, PREPROCESS.std)
    torch.testing.assert_close(logits.softmax(-1), expected)
    again = classifier.for_classes(order)
    assert torch.equal(again.forward(images).cls, classifier.forward(images).cls[:, [2, 0, 1]])
    assert "matched by name" in teacher.notes[0]


def test_a_teacher_may_know_more_classes_than_the_data(run):
    """Its decision is then taken among the data's, and said so."""
    teacher = load_teacher(run, ClassList(("dog", "fox")))
    logits = teacher.logits(torch.zeros(1, 3, 16, 16), PREPROCESS.mean, PREPROCESS.std)
    assert logits.shape == (1, 2)
    assert "1 more classes" in teacher.notes[0]


@pytest.mark.parametrize("names", [("cat", "dog", "wolf"), ("a", "b", "c"), ("cat", "fox", "dogs")])
def test_classes_that_the_model_does_not_know_are_refused(run, names):
    """As many classes are not the same classes."""
    with pytest.raises(UserError, match="does not know"):
        load_teacher(run, ClassList(names))


def test_classes_written_in_another_way_are_matched_and_said(run):
    """Case decides nothing, and the person reads which names were taken for which."""
    names = ClassList(("Dog", "cat", "FOX"))
    classifier = load_classifier(run)
    assert classifier.match(names).places == (1, 0, 2)
    assert any("Dog = dog, FOX = fox" in note for note in load_teacher(run, names).notes)
    assert any("Dog = dog" in note for note in classifier.for_classes(names).notes)


def test_model_without_names_must_have_as_many_classes(tmp_path):
    """Equal counts are taken to be in the same order; others are refused."""
    save(tmp_path / "a.safetensors", classes=None)
    classifier = load_classifier(tmp_path)
    assert classifier.match(ClassList(("a", "b", "c"))).places == (0, 1, 2)
    with pytest.raises(UserError, match="3 classes without names, the data has 2"):
        build_teacher(classifier, ClassList(("a", "b")))


def test_teacher_keeps_its_own_pixels(run):
    """Normalisation and size come from the model's own description."""
    teacher = load_teacher(run, CLASSES, "cpu", torch.bfloat16)
    assert (teacher.mean, teacher.std) == (PREPROCESS.mean, PREPROCESS.std)
    assert (teacher.image_size, teacher.classes) == (16, CLASSES.names)
    assert teacher.dtype == torch.bfloat16


def test_load_gives_the_bare_network(run):
    """`deit.load` and `load_classifier` read the same weights."""
    ours, theirs = load(run).state_dict(), load_classifier(run).model.state_dict()
    assert ours.keys() == theirs.keys()
    assert isinstance(load_classifier(run), Classifier)


def test_several_teachers_are_named_with_commas(run, tmp_path):
    """Each is loaded for the data's classes; together they answer as told."""
    (tmp_path / "other").mkdir()
    save(tmp_path / "other" / "a.safetensors", "convnet", classes=ClassList(("fox", "dog", "cat")))
    spec, images = f"{run}, {tmp_path / 'other'}", torch.randn(2, 3, 16, 16)
    members = [load_teacher(one, CLASSES) for one in (run, tmp_path / "other")]
    pixels = (PREPROCESS.mean, PREPROCESS.std)
    for vote in ("mean", "majority"):
        together = load_teacher(spec, CLASSES, vote=vote)
        assert torch.equal(
            together.logits(images, *pixels), Ensemble(members, vote).logits(images, *pixels)
        )
        assert together.fingerprint() == Ensemble(members, vote).fingerprint()


def test_a_path_with_a_comma_that_exists_is_one_teacher(run):
    """The file system decides before the comma does; a vote of one is refused."""
    named = run.rename(run.parent / "a,b")
    assert teacher_members(named) == (str(named),)
    assert not isinstance(load_teacher(named, CLASSES), Ensemble)
    with pytest.raises(UserError, match="with the one teacher"):
        load_teacher(named, CLASSES, vote="majority")


@pytest.mark.parametrize("spec", ["a,", ",a", "a,,b", "a,a", "a, a"])
def test_lists_of_teachers_with_gaps_or_twins_are_refused(spec):
    """A comma too many, or one teacher twice."""
    with pytest.raises(UserError, match="teachers"):
        teacher_members(spec)


def test_a_saved_teacher_has_one_fingerprint_wherever_it_stands(run, tmp_path):
    """Copied to another folder it is the same; other weights of the run are another."""
    shutil.copytree(run, tmp_path / "copy")
    here, there = (load_teacher(path, CLASSES).fingerprint() for path in (run, tmp_path / "copy"))
    assert here == there
    assert load_teacher(run / "weights" / "last.safetensors", CLASSES).fingerprint() != here
