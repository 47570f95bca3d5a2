"""Students that are trained side by side are the students that are trained alone."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

from deit.programs.train import train
from deit.recipes.book import get_recipe
from deit.recipes.recipe import override
from deit.students import find_methods

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "distillation_methods.py"


def load_program():
    spec = importlib.util.spec_from_file_location("distillation_methods", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_side_by_side_and_alone_end_alike(tmp_path):
    """Accuracies and likelihoods of every head are equal, to the last digit."""
    small = {"data.source": "digits", "data.images_per_class": 20, "epochs": 2, "batch_size": 50}
    small |= {"run.precision": "float32", "run.workers": 0, "schedule.warmup_epochs": 1}
    convnet = override(get_recipe("digits-teacher"), small | {"epochs": 40, "mix.probability": 0})
    convnet = dataclasses.replace(convnet, model=dataclasses.replace(convnet.model, width=8))
    convnet = override(convnet, {"data.images_per_class": 60})  # as good as its pixels, or refused
    teacher = train(convnet, tmp_path / "teacher").path
    base = override(get_recipe("digits"), small)
    methods = find_methods("plain,hard-token")
    together = load_program().train_together(base, methods, str(teacher), seed=3)
    for method in methods:
        recipe = dataclasses.replace(method.recipe(base, str(teacher)), seed=3)
        alone = train(recipe, tmp_path / method.key)
        assert together["students"][method.key] == alone.evaluations
