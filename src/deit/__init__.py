"""Data-efficient image transformers: train, distil, fine-tune, measure, explain.

The public names are resolved when they are first used, so that ``import deit`` costs no import of
torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deit.artifacts import load
    from deit.data.sources import open_data
    from deit.distillation.loss import distillation_loss
    from deit.errors import RunError, UserError
    from deit.measuring.evaluate import evaluate
    from deit.model.build import create_model
    from deit.programs.train import train
    from deit.recipes.book import get_recipe
    from deit.recipes.recipe import Recipe
    from deit.tensors import LossTerms, TwoHeads

__version__ = "0.1.0"

__all__ = [
    "LossTerms",
    "Recipe",
    "RunError",
    "TwoHeads",
    "UserError",
    "create_model",
    "distillation_loss",
    "evaluate",
    "get_recipe",
    "load",
    "open_data",
    "train",
]

_HOMES = {
    "LossTerms": "deit.tensors",
    "Recipe": "deit.recipes.recipe",
    "RunError": "deit.errors",
    "TwoHeads": "deit.tensors",
    "UserError": "deit.errors",
    "create_model": "deit.model.build",
    "distillation_loss": "deit.distillation.loss",
    "evaluate": "deit.measuring.evaluate",
    "get_recipe": "deit.recipes.book",
    "load": "deit.artifacts",
    "open_data": "deit.data.sources",
    "train": "deit.programs.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'deit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
