"""The published DeiT-Ti on real images: the accuracy that timm gets with the same weights."""

import csv
import io
import itertools
import tarfile

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from deit.model.build import build_model
from deit.model.weights import infer_config, load_into, load_weights

TRANSFORM = v2.Compose(
    [
        v2.Resize(256, interpolation=v2.InterpolationMode.BICUBIC),
        v2.CenterCrop(224),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ]
)


def read_images(path):
    """Images after the evaluation transform, with their labels, in the order of labels.csv."""
    with tarfile.open(path) as tar:
        files = {member.name.rpartition("/")[2]: member for member in tar if member.isfile()}
        table = io.TextIOWrapper(tar.extractfile(files["labels.csv"]), encoding="utf-8")
        for row in csv.DictReader(table):
            image = Image.open(io.BytesIO(tar.extractfile(files[row["file"]]).read()))
            yield TRANSFORM(image.convert("RGB")), int(row["label"])


def batches(samples, size):
    """Stacked images and labels, the last batch smaller."""
    samples = iter(samples)
    while batch := list(itertools.islice(samples, size)):
        images, labels = zip(*batch, strict=True)
        yield torch.stack(images), torch.tensor(labels)


@pytest.mark.long
def test_trained_weights_reach_timms_accuracy(shared_data):
    """1063 of 1300 right (81.77 %), 94.85 % among five: the figures beside the data, from timm."""
    state = load_weights(shared_data / "deit_tiny_patch16_224.safetensors")
    config = infer_config(state)
    assert config.name == "deit_tiny_patch16_224"
    model = build_model(config, seed=0).eval()
    load_into(model, state)
    top1 = top5 = 0
    for images, labels in batches(read_images(shared_data / "imagenet-val-1300.tar"), 25):
        with torch.no_grad():
            ranked = model(images).cls.topk(5).indices == labels[:, None]
        top1 += int(ranked[:, 0].sum())
        top5 += int(ranked.sum())
    assert (top1, top5) == (1063, round(0.9485 * 1300))
