"""What stands before the first step: checked data, a resolved recipe, a proven teacher."""

import dataclasses
from collections.abc import Callable

import torch

from deit import artifacts
from deit.data import check, sources
from deit.distillation.teacher import Teacher
from deit.errors import UserError
from deit.measuring import gate
from deit.programs.step import model_preprocess
from deit.recipes.recipe import Recipe
from deit.run import machine


def open_checked_data(recipe: Recipe, say: Callable[[str], None]) -> sources.DataSet:
    """Open the data that the recipe names and look at every image.

    Raises:
        UserError: names the broken images, unless the recipe says to leave them out.
    """
    config = recipe.data
    if not config.source:
        raise UserError("no data given", "DATA, or recipe.data.source", "name a folder of images")
    data = sources.open_data(config.source, images_per_class=config.images_per_class)
    for note in data.notes:
        say(note)
    if recipe.run.check_images == "none":
        return data
    bad = check.check_images(data, how=recipe.run.check_images)
    if bad and config.bad_images == "refuse":
        listed = "\n  ".join(str(problem) for problem in bad[:20])
        more = f"\n  and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise UserError(
            f"{len(bad)} images cannot be used:\n  {listed}{more}",
            "images that decode",
            "mend or remove them, or train without them: --data.bad_images leave-out",
        )
    data = check.leave_out(data, bad)
    if bad:
        say(data.notes[-1])
    return data


def resolve(recipe: Recipe, data: sources.DataSet) -> Recipe:
    """The recipe with every open value filled in: class count, device, precision.

    Raises:
        UserError: when the recipe asks for another number of classes than the data has, or for a
            teacher without naming one.
    """
    classes = len(data.classes)
    if recipe.model.num_classes not in (0, classes):
        raise UserError(
            f"recipe.model.num_classes = {recipe.model.num_classes}, and {classes} classes in the "
            "data",
            f"{classes}, or 0 for as many as the data has",
            "leave the class count out",
        )
    if recipe.distillation.needs_teacher and not recipe.distillation.teacher:
        raise UserError(
            f"recipe.distillation.kind = {recipe.distillation.kind} without a teacher",
            "run folder, weights file, timm:NAME, torchvision:NAME or onnx:FILE",
            "name one with --teacher; `deit teacher DATA` trains one",
        )
    device = machine.resolve_device(recipe.run.device)
    precision = machine.resolve_precision(recipe.run.precision, device)
    return dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, num_classes=classes),
        run=dataclasses.replace(recipe.run, device=str(device), precision=precision),
    )


def examine_teacher(
    recipe: Recipe,
    data: sources.DataSet,
    teacher: Teacher | None,
    device: torch.device,
    say: Callable[[str], None],
) -> tuple[Teacher | None, gate.Examination | None]:
    """Load the recipe's teacher unless one is given, and measure it on the validation split.

    Returns:
        The teacher and what was measured; None twice where the recipe needs no teacher.

    Raises:
        UserError: when it cannot be loaded, its classes do not fit, or it is near chance.
    """
    if not recipe.distillation.needs_teacher:
        return None, None
    if teacher is None:
        dtype = torch.bfloat16 if recipe.run.precision == "bfloat16" else torch.float32
        teacher = artifacts.load_teacher(recipe.distillation.teacher, data.classes, device, dtype)
    examined = gate.check_teacher(
        teacher, data.val, recipe.distillation, model_preprocess(recipe), workers=recipe.run.workers
    )
    say(str(examined))
    return teacher, examined
