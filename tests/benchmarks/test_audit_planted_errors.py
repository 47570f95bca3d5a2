"""The figures of the benchmark against other implementations."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "audit_planted_errors.py"


@pytest.fixture(scope="module")
def program():
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("audit_planted_errors", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_planted_errors_are_other_classes_spread_evenly(program):
    """Exactly as many as asked for, no label of them right, each other class a ninth."""
    labels = np.arange(20_000) % 10
    planted, wrong = program.plant_errors(labels, 10, 9000, seed=1)
    assert wrong.sum() == 9000
    assert ((planted != labels) == wrong).all()
    steps = np.bincount((planted - labels)[wrong] % 10, minlength=10)
    assert steps[0] == 0
    assert np.abs(steps[1:] - 1000).max() < 150  # five standard deviations


def test_average_precision_and_curve_agree_with_scikit_learn(program):
    """A ranking without ties."""
    found = np.random.default_rng(0).random(400) < np.linspace(0.9, 0, 400)
    scores, errors = -np.arange(400.0), int(found.sum())
    expected = average_precision_score(found, scores)
    assert program.average_precision(found, errors) == pytest.approx(expected)
    precision, recall, _ = precision_recall_curve(found, scores)
    known = {(round(r, 4), round(p, 4)) for r, p in zip(recall, precision, strict=True)}
    curve = program.curve(np.cumsum(found), errors)
    assert {tuple(point) for point in curve} <= known
    assert curve[-1][0] == 1
