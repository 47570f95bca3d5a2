"""The faulty teachers that the gate's figures rest on are what they are called."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deit.data.preprocess import Preprocess
from deit.data.sources import ArraySource, open_data
from deit.model.convnet import ConvNet
from deit.model.variants import ConvNetConfig

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "gate_roc.py"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("gate_roc", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cases(program):
    """One untrained teacher in order, and with every fault."""
    digits = open_data("digits")
    images, labels = program.arrays(digits.val, np.arange(40))
    model = ConvNet(ConvNetConfig(img_size=16, num_classes=10, width=4, blocks=(1, 1)))
    for norm in (part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        torch.nn.init.ones_(norm.weight)  # blocks begin as the identity, with all weights 0
    healthy = program.Healthy(
        name="untrained",
        model=model.eval(),
        normalisation="ImageNet's",
        image_size=16,
        source=ArraySource(images, labels, digits.classes, [str(n) for n in range(40)]),
        student=Preprocess(image_size=8, crop_pct=1.0),
    )
    return [healthy.case(), *program.faults(healthy, 0)]


def test_all_seven_faults_are_made(program, cases):
    """Each under the name that the gate has a name for."""
    assert {case.fault for case in cases} == {"", *program.RIGHT_NAMES}


def test_faults_change_what_they_say(cases):
    """Shifts move rows, permutations columns, batch norms hang on the batch; the others change."""
    images = torch.rand(6, 3, 8, 8)
    answers = {
        (case.fault, case.strength): case.teacher.logits(images, (0.5,) * 3, (0.5,) * 3)
        for case in cases
    }
    healthy = answers.pop(("", ""))
    for (fault, strength), logits in answers.items():
        if fault == "shifted answers":
            assert torch.equal(logits.roll(-int(strength), 0), healthy)
        elif fault == "permuted classes":
            moved = (logits != healthy).any(0).sum()
            assert moved == int(strength.split()[0])
            assert torch.equal(logits.sort(1).values, healthy.sort(1).values)
        else:
            assert not torch.allclose(logits, healthy)


def test_table_counts_what_was_stopped_and_what_was_not(program):
    """Harmful faults, mild ones, their names, and false alarms."""
    row = {"fault": "BGR", "harmful": True, "stopped_as": "exchanged colours"}
    rows = [
        row,
        row | {"stopped_as": "near chance"},
        row | {"stopped_as": None},
        row | {"harmful": False, "stopped_as": None},
        row | {"fault": "", "harmful": False, "stopped_as": None, "accuracy_of_all": 0.9},
    ]
    text = program.table(rows)
    assert text.splitlines()[1].split() == ["BGR", "2/3", "1/2", "0/1"]
    assert "false alarms: 0/1 healthy teachers" in text
