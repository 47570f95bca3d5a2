"""Building: seeds decide parameters, the zoo behind one interface, names that do not exist."""

import dataclasses
from urllib.error import URLError

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from deit.errors import UserError
from deit.model.build import build_model, create_model
from deit.model.variants import ZooConfig, named_config

KINDS = ["deit_nano_distilled_patch2_8", "convnet_small", "timm:resnet10t", "torchvision:resnet18"]


def equal_states(first, second):
    """Whether two models hold the same numbers."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("name", KINDS)
def test_seed_decides_the_parameters_and_nothing_else_does(name):
    """Same seed, same model, whatever was drawn before; the global generator stays as it was."""
    config = named_config(name, num_classes=4)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_model(config, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert equal_states(first, build_model(config, seed=5))
    assert not equal_states(first, build_model(config, seed=6))


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_two_heads_in_training_and_evaluation(name):
    """One interface, so that no caller asks what kind it has."""
    model = create_model(name, num_classes=4)
    images = torch.randn(2, 3, model.config.img_size, model.config.img_size)
    for training in (True, False):
        heads = model.train(training)(images, keep=None)
        assert heads.cls.shape == (2, 4)
        assert (heads.dist is not None) == ("distilled" in name)
    assert model.num_classes == 4
    assert model.no_weight_decay() <= dict(model.named_parameters()).keys()
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_model_for_no_number_of_classes_is_refused(name):
    """Of every kind."""
    with pytest.raises(UserError, match=r"model\.num_classes = 0"):
        create_model(name, num_classes=0)


def test_timms_options_are_passed_on():
    """Channels, classes, and the image size where an architecture is built for one."""
    model = create_model("timm:vit_tiny_patch16_224", num_classes=7, img_size=32, in_chans=1)
    assert model.eval()(torch.zeros(1, 1, 32, 32)).cls.shape == (1, 7)
    assert model.no_weight_decay() == {"network.pos_embed", "network.cls_token"}


def test_zoo_logits_are_the_networks_own():
    """The wrapper adds nothing."""
    model = create_model("torchvision:resnet18", num_classes=4).eval()
    theirs = torchvision.models.resnet18(num_classes=4).eval()
    theirs.load_state_dict(model.network.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images).cls, theirs(images))


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("timm:resnet17", "timm:resnet18"),
        ("timm:resnet18.tv_in1kk", "timm:resnet18.tv_in1k"),
        ("torchvision:resnet19", "torchvision:resnet18"),
        ("timm:hf-hub:someone/resnet18", None),
        ("torchvision:inception_v3", None),
        ("torchvision:fasterrcnn_resnet50_fpn", None),
    ],
)
def test_unknown_zoo_name_is_refused_with_the_nearest(given, nearest):
    """Detectors, models with auxiliary outputs and other people's repositories are none of it."""
    with pytest.raises(UserError) as caught:
        create_model(given)
    assert caught.value.given == f"no model is called {given!r}"
    if nearest:
        assert caught.value.todo == f"did you mean {nearest}?"


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_published_weights_without_network_are_said_to_be_missing(monkeypatch, library):
    """Both libraries end in an OSError; the message says what to do instead."""

    def no_network(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", no_network)
    monkeypatch.setattr(torchvision.models, "get_model", no_network)
    with pytest.raises(UserError, match="cannot be had") as caught:
        create_model(f"{library}:resnet18", pretrained=True)
    assert "pretrained=false" in caught.value.todo


def test_architecture_without_published_weights_says_so():
    """timm has many that nobody has trained; no download is tried."""
    with pytest.raises(UserError, match="timm has no weights of it"):
        create_model("timm:darknet17", pretrained=True)


@pytest.mark.parametrize(("num_classes", "fresh"), [(1000, False), (6, True)])
@pytest.mark.parametrize("name", ["resnet18", "vgg11", "convnext_tiny", "vit_b_16"])
def test_torchvisions_published_body_takes_a_new_head(monkeypatch, name, num_classes, fresh):
    """Whatever its classifier is called; a head that is not the published one is marked so."""

    def from_memory(name, weights):
        assert weights == "DEFAULT"
        with torch.device("meta"):
            return torchvision.models.get_model_builder(name)()

    monkeypatch.setattr(torchvision.models, "get_model", from_memory)
    config = ZooConfig(name=f"torchvision:{name}", num_classes=num_classes, pretrained=True)
    model = build_model(config, seed=0)
    assert model.fresh_head == fresh
    heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert heads[-1].out_features == num_classes
    if fresh:
        assert heads[-1].weight.device.type == "cpu", "the head must be the new one"


def test_classifier_that_is_no_linear_layer_cannot_be_replaced(monkeypatch):
    """SqueezeNet ends in a convolution."""
    get_builder = torchvision.models.get_model_builder
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: get_builder(name)())
    with pytest.raises(UserError, match="use timm:squeezenet1_1"):
        create_model("torchvision:squeezenet1_1", num_classes=6, pretrained=True)


def test_head_without_published_weights_is_fresh():
    """So that a teacher with a random head can be refused before the first step."""
    assert create_model("timm:resnet10t", num_classes=1000).fresh_head


def save_file(path, network, prefix=""):
    state = {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}
    safetensors.torch.save_file(state, path)
    return str(path)


@pytest.mark.parametrize("prefix", ["", "module.", "network."])
@pytest.mark.parametrize(
    ("name", "head"),
    [("timm:test_resnet", "fc"), ("timm:test_vit", "head"), ("torchvision:resnet18", "fc")],
)
def test_a_file_gives_the_body_and_a_fitting_head(tmp_path, name, head, prefix):
    """Seven classes as in the file; for three the last layer is new and all else the file's."""
    size = {"img_size": 160} if "vit" in name else {}
    theirs = create_model(name, num_classes=7, seed=5, **size).network
    config = named_config(name, weights_file=save_file(tmp_path / "a.safetensors", theirs, prefix))
    same = build_model(dataclasses.replace(config, num_classes=7, **size), seed=0)
    other = build_model(dataclasses.replace(config, num_classes=3, **size), seed=0)
    assert (same.fresh_head, other.fresh_head) == (False, True)
    expected = theirs.state_dict()
    for tensor_name, tensor in same.network.state_dict().items():
        assert torch.equal(tensor, expected[tensor_name])
    for tensor_name, tensor in other.network.state_dict().items():
        is_head = tensor_name.startswith(f"{head}.")
        assert is_head == (tensor.shape != expected[tensor_name].shape)
        assert is_head or torch.equal(tensor, expected[tensor_name])


def test_a_file_without_a_head_gets_a_new_one(tmp_path):
    """As self-supervised networks are published."""
    body = timm.create_model("test_resnet", num_classes=0)
    path = save_file(tmp_path / "a.safetensors", body)
    model = create_model("timm:test_resnet", num_classes=4, weights_file=path)
    assert model.fresh_head
    assert torch.equal(model.network.conv1[0].weight, body.conv1[0].weight)
    assert model.eval()(torch.zeros(1, 3, 32, 32)).cls.shape == (1, 4)


def test_a_file_of_another_architecture_is_refused(tmp_path):
    """Not a tensor is left random in silence."""
    path = save_file(tmp_path / "a.safetensors", timm.create_model("test_resnet", num_classes=2))
    with pytest.raises(
        UserError, match=r"a.safetensors for timm:test_efficientnet: the weights do"
    ):
        create_model("timm:test_efficientnet", num_classes=2, weights_file=path)
    with pytest.raises(UserError, match=r"model.pretrained = true with model.weights_file"):
        named_config("timm:test_resnet", pretrained=True, weights_file=path)
