"""No release changes a run: fingerprints of small plans, kept in a file."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from deit.data.plan import ViewConfig, keep_masks, plan_views

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "view_plans.json").read_text())
CONFIGS = {
    "rand-augment": ViewConfig(),
    "auto-augment": ViewConfig(policy="auto-augment"),
    "3-augment": ViewConfig(policy="3-augment", color_jitter=0.3),
    "pad": ViewConfig(crop="pad", policy="none"),
}
POSITIONS = np.concatenate([np.arange(200), np.array([2**40, 2**62])])


def fingerprint(*arrays: np.ndarray) -> str:
    """SHA-256 over types, shapes and little-endian bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.name}{array.shape}".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", CONFIGS)
def test_plan_is_that_of_the_first_release(name: str) -> None:
    """Seed 1, epoch 2, 224 pixels. If this fails, runs cannot be resumed across the change."""
    plan = plan_views(CONFIGS[name], 224, 1, 2, POSITIONS)
    fields = ("areas", "aspects", "places", "flip", "ops", "arguments", "erase")
    assert fingerprint(*(getattr(plan, field) for field in fields)) == GOLDEN[name]


def test_masks_are_those_of_the_first_release() -> None:
    """The same promise for stochastic depth."""
    masks = keep_masks(1, 2, POSITIONS, [0.0, 0.05, 0.1])
    assert fingerprint(masks) == GOLDEN["keep_masks"]
