"""Other people's models: what they publish is followed, what they do not tell is said."""

import hashlib
import json
import shutil
import sys

import numpy as np
import onnx
import pytest
import timm
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from timm.data import create_transform, resolve_data_config

from deit.artifacts import load_classifier, load_teacher
from deit.data.classes import ClassList
from deit.errors import UserError
from deit.foreign import load_zoo_classifier
from deit.model.vision_transformer import VisionTransformer


def random_image(seed=0, height=70, width=90):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((width * 4, height * 4)))


def normalise(pixels, preprocess):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocess.mean, preprocess.std))
    return (torch.from_numpy(pixels) / 255 - mean) / std


@pytest.mark.parametrize("name", ["test_resnet.r160_in1k", "regnety_160.deit_in1k", "levit_128"])
def test_timms_preprocessing_is_that_of_its_weights(name):
    """Size, crop, interpolation and normalisation equal timm's own transform of the weights."""
    with torch.device("meta"):
        theirs = timm.create_model(name)
    transform = create_transform(**resolve_data_config({}, model=theirs))
    preprocess = load_zoo_classifier(f"timm:{name}", pretrained=False).preprocess
    image = random_image()
    expected = transform(Image.fromarray(image))
    torch.testing.assert_close(normalise(preprocess.apply(image), preprocess), expected)


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5"])
def test_torchvisions_preprocessing_is_that_of_its_weights(name):
    """Size, crop, interpolation and normalisation equal the weights' own transform."""
    transform = torchvision.models.get_model_weights(name).DEFAULT.transforms(antialias=True)
    preprocess = load_zoo_classifier(f"torchvision:{name}", pretrained=False).preprocess
    image = random_image(1)
    expected = transform(Image.fromarray(image))
    torch.testing.assert_close(normalise(preprocess.apply(image), preprocess), expected)


def test_torchvisions_sizes_survive_as_a_share():
    """Preprocess keeps the share of the crop; the size before cropping comes back exactly."""
    from deit.foreign import _described_by_torchvision

    for name in torchvision.models.list_models(torchvision.models):
        transform = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        _, preprocess = _described_by_torchvision(name)
        assert [preprocess.resized_size] == transform.resize_size, name


@pytest.mark.parametrize("spec", ["timm:test_resnet.r160_in1k", "torchvision:squeezenet1_1"])
def test_zoo_models_keep_the_head_that_they_were_published_with(spec):
    """Trap: asked for other classes, timm gives a random head. Here data must have the 1000."""
    classifier = load_zoo_classifier(spec, pretrained=False)
    assert classifier.num_classes == 1000
    assert classifier.forward(torch.zeros(1, 3, 64, 64)).cls.shape == (1, 1000)
    assert classifier.classes.names[:2] == ("n01440764", "n01443537")  # tench, goldfish
    with pytest.raises(UserError, match="does not know"):
        classifier.for_classes(ClassList(("cat", "dog")))


def test_imagenet_subsets_are_matched_by_wordnet_id():
    """A data set of some of ImageNet's class folders can have an ImageNet teacher."""
    classifier = load_zoo_classifier("timm:test_resnet.r160_in1k", pretrained=False)
    chosen = classifier.for_classes(ClassList(("n01443537", "n01440764")))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(chosen.forward(images).cls, classifier.forward(images).cls[:, [1, 0]])


def test_imagenet_teacher_takes_folders_named_in_words():
    """A teacher of 1000 classes teaches three of them, called as people call them."""
    classifier = load_zoo_classifier("timm:test_resnet.r160_in1k", pretrained=False)
    words = ClassList(("Tinca_tinca", "golden retriever", "great-white-shark"))
    assert classifier.match(words).places == (0, 207, 2)
    with pytest.raises(UserError) as caught:
        classifier.match(ClassList(("tench", "okapi", "crane")))
    assert "n02012849 (crane), n03126707 (crane)" in caught.value.given
    assert "does not know these classes of the data: okapi" in caught.value.given
    assert "deit teacher DATA --arch" in caught.value.todo


def test_timms_distilled_deit_keeps_both_heads():
    """timm averages their logits in evaluation; ours can be measured head by head."""
    torch.manual_seed(0)
    classifier = load_zoo_classifier("timm:deit_tiny_distilled_patch16_224", pretrained=False)
    assert isinstance(classifier.model, VisionTransformer)
    assert classifier.forward(torch.zeros(1, 3, 224, 224)).dist is not None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:resnet1", "no model 'resnet1'"),
        ("timm:resnet18.nobody", "no model 'resnet18.nobody'"),
        ("timm:vit_small_patch14_dinov2.lvd142m", "without a classifying head"),
        ("torchvision:resnet1", "no model 'resnet1'"),
    ],
)
def test_names_that_no_zoo_has_are_refused(spec, message):
    """With the nearest name, where there is one."""
    with pytest.raises(UserError, match=message) as caught:
        load_classifier(spec)
    assert caught.value.todo


def test_weights_that_cannot_be_fetched_are_the_users_error(monkeypatch):
    """Without a network: what could not be had, and what to do, instead of a traceback."""

    def no_network(*arguments, **keywords):
        raise OSError("no route to host")

    monkeypatch.setattr("timm.models._builder.load_pretrained", no_network)
    with pytest.raises(UserError, match="cannot be had: no route to host"):
        load_classifier("timm:test_resnet.r160_in1k")


def test_reference_weights_are_read_with_the_references_preprocessing(tmp_path):
    """A bare .pth of the reference: logits as timm's for the same weights, both heads there."""
    theirs = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=7, img_size=32)
    torch.save({"model": theirs.state_dict()}, tmp_path / "deit.pth")
    classifier = load_classifier(tmp_path / "deit.pth")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.eval()(images)
        actual = classifier.forward(images).mean_logits()
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    assert (classifier.classes, classifier.preprocess.crop_pct) == (None, 0.875)
    assert "does not tell its normalisation" in classifier.notes[0]


def test_timms_folder_tells_classes_and_normalisation(tmp_path):
    """timm's hub form: config.json beside model.safetensors."""
    theirs = timm.create_model("deit_tiny_patch16_224", num_classes=2, img_size=32)
    timm.models.save_for_hf(
        theirs,
        tmp_path,
        model_config={"label_names": ["ant", "bee"]},
        safe_serialization=True,
    )
    told = json.loads((tmp_path / "config.json").read_text())
    told["pretrained_cfg"] |= {"mean": [0.5, 0.5, 0.5], "crop_pct": 0.9}
    (tmp_path / "config.json").write_text(json.dumps(told))
    classifier = load_classifier(tmp_path)
    assert classifier.classes.names == ("ant", "bee")
    assert (classifier.preprocess.mean, classifier.preprocess.crop_pct) == ((0.5,) * 3, 0.9)
    assert not classifier.notes


def test_transformers_folder_is_read_as_transformers_runs_it(tmp_path):
    """Their epsilon, their class names and their normalisation; logits equal theirs."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=192,
        num_hidden_layers=2,
        num_attention_heads=6,
        intermediate_size=384,
        image_size=32,
        layer_norm_eps=1e-3,
        id2label={0: "ant", 1: "bee", 2: "cow"},
        label2id={"ant": 0, "bee": 1, "cow": 2},
    )
    theirs = transformers.ViTForImageClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    told = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.1, 0.2, 0.3]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    classifier = load_classifier(tmp_path)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        actual, expected = classifier.forward(images).cls, theirs(images).logits
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    assert classifier.classes.names == ("ant", "bee", "cow")
    assert classifier.preprocess.mean == (0.4, 0.5, 0.6)


def linear_onnx(path, *, batch="batch", size=(4, 4), channels=3, classes=5, metadata=None, more=()):
    """An ONNX file of one matrix product, written node by node."""
    pixels = 16 if "h" in size else size[0] * size[1]
    weight = np.random.default_rng(0).normal(size=(channels * pixels, classes)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
            *(helper.make_node("Neg", ["logits"], [name]) for name in more),
        ],
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, channels, *size])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, classes])
            for name in (*more, "logits")
        ],
        [numpy_helper.from_array(weight, "weight")],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    if metadata is not None:
        helper.set_model_props(model, {"deit": json.dumps(metadata)})
    onnx.save(model, path)
    return weight


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("form", ["{}", "onnx:{}"])
def test_onnx_file_answers_as_numpy_does(tmp_path, batch, form):
    """One matrix product, for any batch size; without metadata the assumptions are said."""
    weight = linear_onnx(tmp_path / "a.onnx")
    classifier = load_classifier(form.format(tmp_path / "a.onnx"))
    images = torch.randn(batch, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = images.flatten(1).numpy() @ weight
    np.testing.assert_allclose(classifier.forward(images).cls, expected, rtol=1e-4, atol=1e-5)
    preprocess = classifier.preprocess
    assert (preprocess.image_size, preprocess.crop_pct, classifier.num_classes) == (4, 1.0, 5)
    assert preprocess.mean == (0.485, 0.456, 0.406)
    assert len(classifier.notes) == 2


def test_onnx_teachers_fingerprint_is_the_files(tmp_path):
    """SHA-256 of the file, wherever it lies."""
    linear_onnx(tmp_path / "a.onnx")
    shutil.copy(tmp_path / "a.onnx", tmp_path / "b.onnx")
    one, two = (
        load_teacher(tmp_path / name, ClassList(tuple("abcde"))) for name in ("a.onnx", "b.onnx")
    )
    expected = hashlib.sha256((tmp_path / "a.onnx").read_bytes()).hexdigest()
    assert one.fingerprint() == two.fingerprint()
    assert one.fingerprint()["model"] == {"kind": "onnx", "sha256": expected}


@pytest.mark.parametrize("place", ["inside", "beside"])
def test_onnx_file_may_tell_its_classes_and_normalisation(tmp_path, place):
    """In its metadata or in a JSON file beside it; then nothing is assumed."""
    told = {"classes": list("abcde"), "preprocess": {"mean": [0, 0, 0], "std": [1, 1, 1]}}
    linear_onnx(tmp_path / "a.onnx", metadata=told if place == "inside" else None)
    if place == "beside":
        (tmp_path / "a.json").write_text(json.dumps(told))
    classifier = load_classifier(tmp_path / "a.onnx")
    assert classifier.classes.names == tuple("abcde")
    assert classifier.preprocess.std == (1.0, 1.0, 1.0)
    assert not classifier.notes


def test_of_several_outputs_the_one_called_logits_counts(tmp_path):
    """Exports often carry features along."""
    weight = linear_onnx(tmp_path / "a.onnx", more=("features",))
    images = torch.ones(1, 3, 4, 4)
    logits = load_classifier(tmp_path / "a.onnx").forward(images).cls
    np.testing.assert_allclose(logits, weight.sum(0, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 1}, "takes exactly 1 images"),
        ({"size": (4, 8)}, "4 x 8 pixels"),
        ({"size": ("h", "h")}, "fails on two black images"),
        ({"channels": 1}, "takes grey images and does not tell"),
        ({"channels": 4}, r"images of shape \['batch', 4, 4, 4\]"),
        ({"metadata": {"classes": ["a"]}}, "names 1 classes for 5 logits"),
        ({"metadata": {"preprocess": 3}}, "preprocess is a int"),
        ({"metadata": [1]}, "is no mapping"),
    ],
)
def test_onnx_files_that_do_not_fit_are_refused(tmp_path, arguments, message):
    """Each with what is allowed and what to do."""
    linear_onnx(tmp_path / "a.onnx", **arguments)
    with pytest.raises(UserError, match=message):
        load_classifier(tmp_path / "a.onnx")


def test_onnx_file_with_weights_elsewhere_is_refused(tmp_path):
    """A path inside a model file could point anywhere: nothing but the file itself is read."""
    linear_onnx(tmp_path / "a.onnx")
    whole = onnx.load(tmp_path / "a.onnx")
    onnx.save(
        whole, tmp_path / "b.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    with pytest.raises(UserError, match="keeps weights outside of itself"):
        load_classifier(tmp_path / "b.onnx")


def test_constants_and_subgraphs_with_weights_elsewhere_are_refused(tmp_path):
    """Tensors hide in attributes of nodes, at any depth."""
    outside = TensorProto(data_type=TensorProto.FLOAT, dims=[1], name="x")
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../secret")
    constant = helper.make_node("Constant", [], ["c"], value=outside)
    branch = helper.make_graph(
        [constant], "b", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1])]
    )
    condition = helper.make_tensor("t", TensorProto.BOOL, [], [True])
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["yes"], value=condition),
            helper.make_node("If", ["yes"], ["logits"], then_branch=branch, else_branch=branch),
        ],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["b", 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1])],
    )
    (tmp_path / "a.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(UserError, match="keeps weights outside of itself"):
        load_classifier(tmp_path / "a.onnx")


@pytest.mark.parametrize("content", [b"", b"not an onnx file", b"\x80\x04K\x01."])
def test_files_that_are_no_onnx_are_refused(tmp_path, content):
    """Whatever stands in it, the answer is a message."""
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.onnx"):
        load_classifier(tmp_path / "a.onnx")


def test_missing_onnxruntime_says_how_to_install_it(tmp_path, monkeypatch):
    """It belongs to an extra."""
    linear_onnx(tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError) as caught:
        load_classifier(tmp_path / "a.onnx")
    assert caught.value.todo == 'pip install "deit[export]"'


def test_published_cifar_teacher_is_read(shared_data):
    """The ResNet-56 of real life: ten classes, 32 pixels, two things assumed and said."""
    path = shared_data / "cifar10_resnet56.onnx"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    classifier = load_classifier(path)
    assert (classifier.num_classes, classifier.preprocess.image_size) == (10, 32)
    assert len(classifier.notes) == 2
