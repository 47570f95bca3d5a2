"""The settings of distillation: the paper's values, and refusals of what cannot act."""

import subprocess
import sys

import pytest

from deit import config
from deit.distillation.config import PAPER_WEIGHTS, DistillationConfig
from deit.errors import UserError


@pytest.mark.parametrize(
    ("kind", "weight"), [("none", 0.5), ("soft", 0.1), ("hard", 0.5), ("label", 0.5)]
)
def test_paper_settings_have_the_papers_weights(kind, weight):
    """lambda is 0.1 and tau 3 in section 5.2; Eq. 3 and the control share half and half."""
    settings = DistillationConfig.of_paper(kind)
    assert (settings.kind, settings.weight, settings.temperature) == (kind, weight, 3.0)


def test_default_asks_no_teacher():
    """A recipe that says nothing about distillation trains on labels."""
    settings = DistillationConfig()
    assert settings.kind == "none"
    assert not settings.needs_teacher
    assert not settings.needs_two_heads


@pytest.mark.parametrize("kind", PAPER_WEIGHTS)
@pytest.mark.parametrize("token", [True, False])
def test_heads_and_teachers_needed_follow_from_the_form(kind, token):
    """Only the token forms and the two-class-token control need a second head."""
    if kind in ("none", "label") and not token:
        pytest.skip("has no class-token form")
    settings = DistillationConfig.of_paper(kind, token=token)
    assert settings.needs_teacher == (kind in ("soft", "hard"))
    assert settings.needs_two_heads == (kind != "none" and token)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "hard", "weight": -0.1}, "weight"),
        ({"kind": "hard", "weight": 1.5}, "weight"),
        ({"kind": "hard", "weight": float("nan")}, "weight"),
        ({"kind": "soft", "temperature": 0.0}, "temperature"),
        ({"kind": "soft", "temperature": float("inf")}, "temperature"),
        ({"kind": "hard", "min_teacher_accuracy": 75.0}, "min_teacher_accuracy"),
        ({"kind": "none", "teacher": "runs/teacher"}, "teacher"),
        ({"kind": "none", "weight": 0.1}, "weight"),
        ({"kind": "label", "teacher": "runs/teacher"}, "teacher"),
        ({"kind": "label", "token": False}, "token"),
        ({"kind": "hard", "temperature": 1.0}, "temperature"),
        ({"kind": "hard", "kl_reduction": "numel"}, "kl_reduction"),
        ({"kind": "none", "min_teacher_accuracy": 0.5}, "min_teacher_accuracy"),
        ({"kind": "none", "vote": "majority"}, "vote"),
        ({"kind": "soft", "teacher": "a,b", "vote": "majority"}, "vote"),
        ({"kind": "hard", "teacher": "a", "vote": "majority"}, "vote"),
    ],
)
def test_settings_out_of_range_or_without_effect_are_refused(changes, field):
    """Nothing is ignored: the message names the field and its value."""
    with pytest.raises(UserError) as caught:
        DistillationConfig(**changes)
    assert caught.value.given == f"distillation.{field} = {changes[field]!r}"
    assert caught.value.todo


def test_unknown_names_are_refused_where_types_are_not_checked():
    """Outside the tests nothing checks a Literal: the message is the user's, not a KeyError."""
    code = """
from deit.distillation.config import DistillationConfig
from deit.errors import UserError
for make, field in (
    (lambda: DistillationConfig(kind="tepid"), "kind"),
    (lambda: DistillationConfig.of_paper("tepid"), "kind"),
    (lambda: DistillationConfig(kind="soft", kl_reduction="mean"), "kl_reduction"),
):
    try:
        make()
    except UserError as error:
        assert error.given.startswith(f"distillation.{field} = ")
    else:
        raise AssertionError(field)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_survive_yaml():
    """A recipe keeps them as plain values."""
    settings = DistillationConfig.of_paper("soft", teacher="timm:regnety_160", token=False)
    assert config.from_plain(DistillationConfig, config.to_plain(settings)) == settings
    assert all(config.field_docs(DistillationConfig).values())


def test_settings_are_read_without_torch():
    """`deit train --help` lists the recipe in less time than torch takes to import."""
    code = "import sys, deit.distillation.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
