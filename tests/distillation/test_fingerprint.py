"""The fingerprint of a teacher: the same for the same answers, another for any other."""

import dataclasses
import hashlib
import json
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from deit.distillation.fingerprint import model_fingerprint, weights_sha256
from deit.distillation.teacher import Teacher
from deit.errors import UserError
from deit.model.build import build_model
from deit.model.variants import named_config

SETTINGS = {
    "classes": ("a", "b", "c"),
    "mean": (0.5,) * 3,
    "std": (0.5,) * 3,
    "image_size": 32,
    "name": "t",
}
NETWORK = named_config("deit_nano_patch4_8", num_classes=3)


def make_teacher(network=NETWORK, seed=0, **changes):
    return Teacher(build_model(network, seed), **(SETTINGS | changes))


def test_hash_is_that_of_names_types_shapes_and_bytes():
    """Put together here by hand, with numpy's bytes."""
    model = nn.BatchNorm1d(2)
    parts = b""
    for name, dtype, shape in (
        ("weight", "torch.float32", (2,)),
        ("bias", "torch.float32", (2,)),
        ("running_mean", "torch.float32", (2,)),
        ("running_var", "torch.float32", (2,)),
        ("num_batches_tracked", "torch.int64", ()),
    ):
        head = f"{name}\0{dtype}\0{shape}\0".encode()
        parts += head + model.state_dict()[name].numpy().tobytes()
    assert weights_sha256(model) == hashlib.sha256(parts).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"mean": (0.5, 0.5, 0.4)},
        {"std": (0.5, 0.5, 0.4)},
        {"image_size": 16},
        {"order": (0, 2, 1)},
        {"dtype": torch.bfloat16},
        {"classes": ("a", "c", "b")},
        {"network": dataclasses.replace(NETWORK, num_heads=4)},
        {"network": dataclasses.replace(NETWORK, layer_norm_eps=1e-12)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_whatever_changes_answers_changes_the_fingerprint(changes):
    """Weights, pixels, classes, precision, and what weights do not tell: heads and epsilon."""
    assert make_teacher(**changes).fingerprint() != make_teacher().fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "elsewhere", "notes": ("said",)},
        {"network": dataclasses.replace(NETWORK, name="x", drop_path_rate=0.1)},
    ],
)
def test_the_same_teacher_under_another_name_has_the_same_fingerprint(changes):
    """Neither the path nor what acts in training only."""
    assert make_teacher(**changes).fingerprint() == make_teacher().fingerprint()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool])
def test_one_changed_value_of_any_type_is_noticed(dtype):
    """Types that numpy does not know, and buffers."""
    model = nn.Module()
    model.register_buffer("kept", torch.zeros(5, dtype=dtype))
    before = weights_sha256(model)
    model.kept[4] = 1
    assert weights_sha256(model) != before


def test_fingerprint_is_plain_and_the_same_in_another_process():
    """JSON gives back what was written; another process with another hash seed agrees."""
    told = make_teacher().fingerprint()
    assert json.loads(json.dumps(told)) == told
    code = (
        "import json; from deit.distillation.fingerprint import model_fingerprint as f;"
        "from deit.model.build import create_model as c;"
        "print(json.dumps(f(c('deit_nano_patch4_8', 3))))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(other.stdout) == told["model"]


def test_functions_have_no_fingerprint():
    """What cannot be identified is not called equal."""
    with pytest.raises(UserError, match="a fingerprint of"):
        model_fingerprint(lambda images: images)


def test_large_teachers_take_about_a_second():
    """100 MB in less than 3 s leaves room for a slow machine: 335 MB within 10 s there."""
    model = nn.Linear(5000, 5000)
    started = time.perf_counter()
    weights_sha256(model)
    assert time.perf_counter() - started < 3
