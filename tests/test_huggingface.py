"""Classifiers of transformers: their logits, pixels and names; no code of theirs is run."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from deit.artifacts import load_classifier, load_teacher
from deit.data.classes import ClassList
from deit.data.spellings import imagenet_ids
from deit.errors import UserError
from deit.huggingface import measure_preprocess

transformers = pytest.importorskip("transformers")

NAMES = {0: "ant", 1: "honey bee", 2: "cow"}


def save_network(folder, names=NAMES, kind="ResNet", **settings):
    """A small network with random weights, as its authors would publish it."""
    torch.manual_seed(0)
    labels = {"id2label": names, "label2id": {name: place for place, name in names.items()}}
    small = {
        "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
        "ViT": {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
        },
    }[kind]
    config = getattr(transformers, f"{kind}Config")(**small, **labels, **settings)
    network = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    network.save_pretrained(folder)
    return network


def save_processor(folder, kind, **settings):
    getattr(transformers, kind)(**settings).save_pretrained(folder)


def random_picture(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def our_pixels(classifier, picture):
    preprocess = classifier.preprocess
    pixels = torch.from_numpy(preprocess.apply(picture)) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocess.mean, preprocess.std))
    return ((pixels - mean) / std)[None]


PROCESSORS = {  # processor and settings, then size and share of the crop that they mean
    "shortest edge and crop": (
        "CLIPImageProcessor",
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
        (32, 40),
    ),
    "share below 384": (
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 32}, "crop_pct": 0.875},
        (32, 36),
    ),
    "height and width": ("ViTImageProcessor", {"size": {"height": 32, "width": 32}}, (32, 32)),
    "LeViT's 256 of 224": (
        "LevitImageProcessor",
        {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}},
        (28, 32),
    ),
    "normalised twice, offset": (
        "EfficientNetImageProcessor",
        {
            "size": {"height": 40, "width": 40},
            "crop_size": {"height": 32, "width": 32},
            "do_center_crop": True,
            "rescale_offset": True,
            "rescale_factor": 1 / 127.5,
            "image_mean": [0.4, 0.5, 0.6],
            "image_std": [0.2, 0.3, 0.4],
        },
        (32, 40),
    ),
    "blue first": (
        "MobileViTImageProcessor",
        {
            "size": {"shortest_edge": 36},
            "crop_size": {"height": 32, "width": 32},
            "do_normalize": True,
            "image_mean": [0.4, 0.5, 0.6],
            "image_std": [0.2, 0.3, 0.4],
        },
        (32, 36),
    ),
}


@pytest.mark.parametrize("case", PROCESSORS)
def test_logits_equal_transformers_own_on_its_own_preprocessing(tmp_path, case):
    """A square picture through their processor and network, and through ours.

    Their resizing rounds to 8 bits elsewhere than Pillow's: a grey level here and there.
    """
    kind, settings, (size, resized) = PROCESSORS[case]
    network = save_network(tmp_path)
    save_processor(tmp_path, kind, **settings)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    picture = random_picture(96, 96)
    theirs = processor(images=picture, return_tensors="pt")["pixel_values"]
    classifier = load_classifier(f"hf:{tmp_path}")
    assert (classifier.preprocess.image_size, classifier.preprocess.resized_size) == (size, resized)
    ours = our_pixels(classifier, picture)
    seen = ours.flip(1) if case == "blue first" else ours
    level = (1 / (255 * torch.tensor(classifier.preprocess.std).min())).item()
    assert (seen - theirs).abs().max() < 2.01 * level
    with torch.no_grad():
        expected = network(pixel_values=theirs).logits
        same = network(pixel_values=seen).logits
        answered = classifier.forward(ours).cls
    torch.testing.assert_close(answered, same)
    torch.testing.assert_close(answered, expected, atol=0.02, rtol=0.02)
    assert classifier.classes.names == tuple(NAMES.values())


def test_pictures_squeezed_into_a_square_are_said(tmp_path):
    """Height and width: they squeeze, we cut out the centre. The shorter edge: both do the same."""
    save_network(tmp_path)
    save_processor(tmp_path, "ViTImageProcessor", size={"height": 32, "width": 32})
    assert "squeezes" in load_classifier(f"hf:{tmp_path}").notes[0]
    kept = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    save_processor(tmp_path, "CLIPImageProcessor", **kept)
    assert load_classifier(f"hf:{tmp_path}").notes == ()


@pytest.mark.parametrize(("size", "resized"), [(224, 256), (384, 384), (299, 342), (32, 33)])
def test_resized_side_is_measured_to_the_pixel(size, resized):
    """By Pillow, with a normalisation that is no power of two."""

    def process(picture):
        height, width, _ = picture.shape
        resizing = (round(width * resized / height), resized)
        image = Image.fromarray(picture).resize(resizing, Image.Resampling.BICUBIC)
        left, top = (round((side - size) / 2) for side in image.size)
        pixels = np.asarray(image.crop((left, top, left + size, top + size))) / 255
        return torch.tensor((pixels - 0.485) / 0.229).permute(2, 0, 1).float()

    preprocess, flip_colours, notes = measure_preprocess(process, "bicubic")
    assert (preprocess.image_size, preprocess.resized_size) == (size, resized)
    assert (preprocess.mean, preprocess.std) == ((0.485,) * 3, (0.229,) * 3)
    assert not flip_colours
    assert not notes


def test_blue_first_keeps_each_colours_own_normalisation():
    """Our normalisation comes before the exchange of colours, theirs after it."""
    blue_first = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)

    def process(picture):
        pixels = torch.from_numpy(picture[:64, :64, ::-1].copy()).permute(2, 0, 1) / 255
        return (pixels - blue_first) / (2 * blue_first)

    preprocess, flip_colours, _ = measure_preprocess(process, "bicubic")
    assert flip_colours
    assert (preprocess.mean, preprocess.std) == ((0.3, 0.2, 0.1), (0.6, 0.4, 0.2))


def test_model_without_processor_is_asked_as_imagenet_and_said(tmp_path):
    """Its own image size, where its configuration has one."""
    save_network(tmp_path, kind="ViT", intermediate_size=16)
    classifier = load_classifier(f"hf:{tmp_path}")
    assert "ImageNet's at 32 pixels is assumed" in classifier.notes[0]
    assert classifier.preprocess.image_size == 32


def test_both_heads_of_a_distilled_deit_are_there(tmp_path):
    """transformers averages them; here each can be measured."""
    config = transformers.DeiTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, num_labels=2
    )
    network = transformers.DeiTForImageClassificationWithTeacher(config).eval()
    network.save_pretrained(tmp_path)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    classifier = load_classifier(f"hf:{tmp_path}")
    with torch.no_grad():
        expected = network(images)
        heads = classifier.forward(images)
    torch.testing.assert_close(heads.cls, expected.cls_logits)
    torch.testing.assert_close(heads.mean_logits(), expected.logits)
    assert classifier.classes is None
    assert "does not name its classes" in classifier.notes[-1]


def test_imagenet_in_words_is_imagenet(tmp_path):
    """Two classes are called crane there; places in the list tell them apart."""
    from timm.data import ImageNetInfo

    words = dict(enumerate(ImageNetInfo("imagenet-1k").label_descriptions()))
    save_network(tmp_path, names=words)
    teacher = load_teacher(f"hf:{tmp_path}", ClassList(("n03126707", "tench")))
    assert teacher.order == (517, 0)
    assert load_classifier(f"hf:{tmp_path}").classes.names == imagenet_ids()


def test_teacher_matches_classes_by_name(tmp_path):
    """Folders write underscores where transformers' names have spaces."""
    save_network(tmp_path)
    save_processor(tmp_path, "ViTImageProcessor", size={"height": 32, "width": 32})
    teacher = load_teacher(f"hf:{tmp_path}", ClassList(("Honey_bee", "ant")))
    assert teacher.order == (1, 0)
    prints = [load_teacher(f"hf:{tmp_path}", ClassList(("ant", "cow"))).fingerprint() for _ in "12"]
    assert prints[0] == prints[1] == json.loads(json.dumps(prints[0]))
    assert "id2label" not in prints[0]["model"]["config"]


def test_a_model_without_a_trained_head_is_refused(tmp_path):
    """transformers would give it a random one, with a warning that nobody reads."""
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    transformers.ResNetModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="published without weights for classifier"):
        load_classifier(f"hf:{tmp_path}")


def test_pickled_weights_are_not_read(tmp_path):
    """Only safetensors: a pickle may run code."""
    network = save_network(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be had") as caught:
        load_classifier(f"hf:{tmp_path}")
    assert "safetensors" in caught.value.allowed


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    """A configuration that names a Python file beside it."""
    save_network(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    auto = {"AutoConfig": "evil.C", "AutoModelForImageClassification": "evil.M"}
    told |= {"model_type": "evil", "auto_map": auto}
    (tmp_path / "config.json").write_text(json.dumps(told))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UserError, match="cannot be had"):
        load_classifier(f"hf:{tmp_path}")
    assert not (tmp_path / "ran").exists()


def test_without_network_the_message_says_so(monkeypatch):
    """What transformers raises when the hub cannot be reached."""

    def no_network(*arguments, **keywords):
        raise OSError(
            "We couldn't connect to 'https://huggingface.co' to load the files\nand so on"
        )

    auto = transformers.AutoModelForImageClassification
    monkeypatch.setattr(auto, "from_pretrained", no_network)
    with pytest.raises(UserError, match="cannot be had: We couldn't connect") as caught:
        load_classifier("hf:google/vit-base-patch16-224")
    assert "network connection" in caught.value.todo
    assert "and so on" not in str(caught.value)


def test_missing_folder_is_no_name_on_the_hub():
    """hf:./FOLDER"""
    with pytest.raises(UserError, match="no such folder"):
        load_classifier("hf:./nowhere")


def test_missing_transformers_says_how_to_install_it(monkeypatch):
    """It belongs to an extra."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError) as caught:
        load_classifier("hf:google/vit-base-patch16-224")
    assert caught.value.todo == 'pip install "deit[hf]"'
