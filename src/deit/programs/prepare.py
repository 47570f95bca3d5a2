"""What stands before the first step: checked data, a resolved recipe, a proven teacher."""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from deit import artifacts
from deit.data import check, sources
from deit.data.images import BadImage
from deit.data.names import Names
from deit.distillation.config import DistillationConfig
from deit.distillation.ensemble import Ensemble
from deit.distillation.teacher import Teacher
from deit.distillation.teacher_size import at_size
from deit.errors import UserError
from deit.measuring import gate
from deit.programs.step import model_preprocess
from deit.recipes.recipe import Recipe
from deit.run import machine

_LEAST = 1e-9  # an accuracy that every teacher has, and that is stated


def open_data(recipe: Recipe, say: Callable[[str], None]) -> sources.DataSet:
    """Open the data that the recipe names and pass its notes on; no image is read.

    Raises:
        UserError: when none is named, or it cannot be opened.
    """
    config = recipe.data
    if not config.source:
        raise UserError("no data given", "DATA, or recipe.data.source", "name a folder of images")
    data = sources.open_data(
        config.source, images_per_class=config.images_per_class, max_pixels=config.max_pixels
    )
    for note in data.notes:
        say(note)
    return data


def check_data(
    recipe: Recipe, data: sources.DataSet, say: Callable[[str], None]
) -> tuple[sources.DataSet, list[BadImage]]:
    """Look at every image, as the recipe says; the data without the bad ones, and those.

    Raises:
        UserError: names the broken images, unless the recipe says to leave them out.
    """
    if recipe.run.check_images == "none":
        return data, []
    bad = check.check_images(data, how=recipe.run.check_images)
    if bad and recipe.data.bad_images == "refuse":
        listed = "\n  ".join(str(problem) for problem in bad[:20])
        more = f"\n  and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise UserError(
            f"{len(bad)} images cannot be used:\n  {listed}{more}",
            "images that decode, of no more pixels than data.max_pixels",
            f"{check.advise(bad, 'mend or remove them')}, or train without them: "
            "--data.bad_images leave-out",
        )
    data = check.leave_out(data, bad)
    if bad:
        say(data.notes[-1])
    return data, bad


def fingerprint(data: sources.DataSet) -> dict[str, Any]:
    """What identifies a data set: class names, and count and SHA-256 of names and labels per split.

    The pixels are not read: an image that was changed under its old name is not noticed.
    """
    return {
        "classes": list(data.classes.names),
        "train": _fingerprint_split(data.train),
        "val": _fingerprint_split(data.val),
    }


def resolve(recipe: Recipe, data: sources.DataSet) -> Recipe:
    """The recipe with every open value filled in: class count, device, precision, renderer.

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
            "run folder, weights file, timm:NAME, torchvision:NAME, hf:ID, onnx:FILE or labels:DIR",
            "name one with --teacher; `deit teacher DATA` trains one",
        )
    device = machine.resolve_device(recipe.run.device)
    precision = machine.resolve_precision(recipe.run.precision, device)
    render = machine.resolve_render(recipe.run.render, device)
    return dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, num_classes=classes),
        run=dataclasses.replace(recipe.run, device=str(device), precision=precision, render=render),
    )


def load_teacher(recipe: Recipe, data: sources.DataSet, device: torch.device) -> Teacher | None:
    """The teacher that the recipe names, for the classes of the data.

    None where the recipe needs none, or where stored labels stand for it.

    Raises:
        UserError: when it cannot be loaded or its classes do not fit.
    """
    if not recipe.distillation.needs_teacher or recipe.distillation.stored:
        return None
    dtype = torch.bfloat16 if recipe.run.precision == "bfloat16" else torch.float32
    chosen = recipe.distillation
    teacher = artifacts.load_teacher(chosen.teacher, data.classes, device, dtype, chosen.vote)
    return at_size(teacher, chosen.teacher_size)


def examine_teacher(
    recipe: Recipe,
    data: sources.DataSet,
    teacher: Teacher | None,
    device: torch.device,
    say: Callable[[str], None],
) -> tuple[Teacher | None, gate.Examination | None]:
    """Measure the teacher on the validation split; load the recipe's unless one is given.

    Of several that teach as one, each is measured alone first; the least accuracy that the recipe
    asks for is asked of all together.

    Returns:
        The teacher and what was measured; None twice where nobody is to be asked.

    Raises:
        UserError: when it cannot be loaded, its classes do not fit, or the gate refuses it.
    """
    if not recipe.distillation.needs_teacher or recipe.distillation.stored:
        return None, None
    if teacher is None:
        teacher = load_teacher(recipe, data, device)
    assert teacher is not None  # the recipe needs one
    teacher = at_size(teacher, recipe.distillation.teacher_size)
    alone = []
    if isinstance(teacher, Ensemble):  # a member that was wired up wrongly hides among the others
        stated = recipe.distillation.min_teacher_accuracy > 0  # then less than the pixels tell, too
        least = _LEAST if stated else 0.0
        no_least = dataclasses.replace(recipe.distillation, min_teacher_accuracy=least)
        for member in teacher.members:
            alone.append(_examine(recipe, data, member, no_least))
            say(str(alone[-1]))
    examined = _examine(recipe, data, teacher, recipe.distillation)
    notes = tuple(f"{one.teacher} alone: {one.accuracy:.2%}" for one in alone)
    examined = dataclasses.replace(examined, notes=(*examined.notes, *notes))
    say(str(examined))
    return teacher, examined


def _examine(
    recipe: Recipe, data: sources.DataSet, teacher: Teacher, config: DistillationConfig
) -> gate.Examination:
    return gate.check_teacher(
        teacher, data.val, config, model_preprocess(recipe), workers=recipe.run.workers
    )


def _fingerprint_split(source: sources.Source) -> dict[str, Any]:
    digest = hashlib.sha256()
    for block in Names.of(source.names).blocks():
        digest.update(os.fsdecode(block).encode("utf-8", "surrogatepass") + b"\0")
    if not len(source):
        digest.update(b"\0")
    digest.update(np.asarray(source.labels, dtype="<i8").tobytes())
    return {"images": len(source), "sha256": digest.hexdigest()}
