"""`deit teacher --arch timm:NAME`: a network that others have trained, fitted to one's classes."""

import json

import pytest
import safetensors.torch
import timm
import torch

from deit.artifacts import load_teacher
from deit.cli.adaptation import find_start
from deit.cli.main import main
from deit.cli.training import Teach, build_teacher
from deit.data.classes import ClassList
from deit.errors import UserError
from deit.model import build
from deit.model.variants import named_config
from deit.recipes.book import get_recipe

TINY = "timm:test_resnet.r160_in1k"


@pytest.fixture
def tiny_file(tmp_path):
    """Weights of a tiny network of timm for seven classes, as somebody has trained it."""
    torch.manual_seed(3)
    network = timm.create_model("test_resnet", num_classes=7)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def fetched(monkeypatch):
    """Published weights that can be had at once; the names that were asked for."""
    names = []
    monkeypatch.setattr(build, "fetch_published", lambda config: names.append(config.name))
    return names


def test_published_weights_are_where_a_known_network_starts(fetched):
    """At its own resolution and with its own pixels, however small the data's images are."""
    recipe = build_teacher(Teach(data="digits", arch=TINY), {})
    assert fetched == [TINY]
    assert recipe.model == named_config(TINY, img_size=160, pretrained=True)
    assert (recipe.preprocess.mean, recipe.preprocess.crop_pct) == ((0.5,) * 3, 0.95)
    assert recipe.preprocess.interpolation == "bilinear"
    assert recipe.name == "folder-adapted"
    assert recipe.views.flip == 0, "digits must not be mirrored"


def test_size_and_fields_can_be_chosen(fetched):
    """--img-size and dotted fields win over the network's own; a named recipe keeps its length."""
    options = Teach(data="digits", arch=TINY, img_size="64", recipe="cifar")
    recipe = build_teacher(options, {"preprocess.crop_pct": "1"})
    assert (recipe.model.img_size, recipe.model.pretrained) == (64, True)
    assert (recipe.preprocess.crop_pct, recipe.preprocess.std) == (1.0, (0.5,) * 3)
    assert (recipe.name, recipe.epochs) == ("cifar", get_recipe("cifar").epochs)
    assert build_teacher(Teach(data="digits", img_size="16"), {}).model.img_size == 16


@pytest.mark.parametrize("error", [OSError("no route to host"), None])
def test_without_published_weights_the_recipe_is_that_from_scratch(monkeypatch, capsys, error):
    """No network, or none published: said in one line, and trained as without them."""

    def no_network(*arguments, **keywords):
        raise error

    if error is not None:
        monkeypatch.setattr("timm.models._builder.load_pretrained", no_network)
    arch = TINY if error else "timm:darknet17"
    recipe = build_teacher(Teach(data="digits", arch=arch, weights="published"), {})
    said = [line for line in capsys.readouterr().out.splitlines() if "FROM SCRATCH" in line]
    assert len(said) == 1
    assert ("no route to host" if error else "timm has no weights of it") in said[0]
    assert recipe == build_teacher(Teach(data="digits", arch=arch, weights="none"), {})
    assert (recipe.name, recipe.model.img_size) == ("digits-teacher", 32)
    assert not recipe.model.pretrained


def test_weights_none_asks_nobody(fetched):
    """From scratch, by the recipe of a teacher that is trained from scratch."""
    recipe = build_teacher(Teach(data="digits", arch=TINY, weights="none"), {})
    assert not fetched
    assert recipe.model == named_config(TINY, img_size=32)
    assert recipe.optim == get_recipe("digits-teacher").optim


def test_weights_of_a_network_that_nobody_publishes_are_refused():
    """Published weights are those of timm and torchvision; none is what the others do anyway."""
    with pytest.raises(UserError, match="--weights published with the network convnet_small"):
        build_teacher(Teach(data="digits", weights="published"), {})
    plain = build_teacher(Teach(data="digits", weights="none"), {})
    assert plain == build_teacher(Teach(data="digits"), {})


def test_unknown_networks_and_missing_files_are_refused(fetched):
    """Neither is a reason to train from scratch."""
    with pytest.raises(UserError, match="no model 'resnet17'"):
        find_start("timm:resnet17", "published")
    with pytest.raises(UserError, match="no such file"):
        find_start(TINY, "nowhere.pth")
    assert not fetched


def test_a_file_of_weights_becomes_a_teacher_of_other_classes(tiny_file, tmp_path):
    """From the command line to a teacher, without a network: one step of learning, ten classes."""
    words = ("--img-size", "32", "--epochs", "1", "--data.images_per_class", "4", "--seed", "1")
    quick = ("--workers", "0", "--run.check_images", "none", "--batch-size", "40")
    out = tmp_path / "run"
    start = ("--arch", TINY, "--weights", str(tiny_file))
    code = main(["teacher", "digits", *start, "--out", str(out), *words, *quick])
    assert code == 0
    told = json.loads((out / "weights" / "model.json").read_text())
    assert (told["model"]["weights_file"], told["preprocess"]["image_size"]) == ("", 32)
    tiny_file.unlink()  # the run stands on its own
    teacher = load_teacher(out, ClassList(tuple("9876543210")))
    assert teacher.mean == (0.5, 0.5, 0.5)
    assert teacher.logits(torch.zeros(1, 3, 8, 8), (0.5,) * 3, (0.5,) * 3).shape == (1, 10)
