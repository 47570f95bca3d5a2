"""`deit finetune`: a trained model and words make a recipe that starts from it."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from deit import config
from deit.cli.options import RunOptions, metavar, parse, recipe_fields, split_overrides
from deit.cli.training import build_recipe, carry_out, with_teacher
from deit.data.preprocess import PreprocessConfig
from deit.data.sources import DataConfig, open_data
from deit.errors import UserError
from deit.model.variants import ModelConfig, SecondToken, VisionTransformerConfig, ZooConfig
from deit.recipes import book, finetune, small
from deit.recipes.recipe import Recipe, load_recipe, second_token, with_second_token
from deit.recipes.start import StartConfig

if TYPE_CHECKING:
    from deit.classifier import Classifier


_START = "recipe.start"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The first word of `deit finetune`: a base class, so that it stands before DATA."""

    start: Annotated[str | None, tyro.conf.Positional, metavar("[RUN]")] = None
    """What to start from: run folder, weights file, timm:NAME or torchvision:NAME. Left out: what
    the recipe names."""


@dataclass(frozen=True, kw_only=True)
class Finetune(RunOptions, Origin):
    """Go on with a trained model: at another image size, on other classes, with a teacher.

    What it knows by name is kept. Any field can be changed, for example --start.heads new.
    """

    recipe: Annotated[str | None, metavar("NAME")] = None
    """finetune/paper, finetune/fixres, transfer/cifar10 or another (`deit recipes list`), a whole
    YAML file, or a run folder. Left out: finetune, which follows the recipe that RUN was trained
    with."""
    img_size: Annotated[str | None, metavar("N")] = None
    """Side of the images in pixels, larger or smaller than before. Left out: the size in --recipe,
    else the model's own."""
    teacher: Annotated[str | None, metavar("T")] = None
    """Learn from this teacher besides the labels: run folder, weights file, timm:NAME,
    torchvision:NAME or onnx:FILE. Left out: labels only, for both heads of a distilled model,
    unless --recipe names a teacher. Its size: --distillation.teacher_size."""


def run_finetune(arguments: Sequence[str]) -> int:
    """`deit finetune`."""
    words, overrides = split_overrides(arguments)
    options = parse(Finetune, words, verb="finetune", epilog=recipe_fields)
    return carry_out(build_finetuned(options, overrides), options)


def build_finetuned(options: Finetune, overrides: dict[str, Any]) -> Recipe:
    """The recipe of `deit finetune`."""
    given = {
        "start.model": options.start,
        "model.img_size": options.img_size,
        "distillation.teacher": options.teacher,
    }
    return build_recipe(
        options,
        overrides,
        default="finetune",
        model=None,
        named={path: value for path, value in given.items() if value is not None},
        change=partial(_go_on if options.resume else _from_start, options),
    )


def _go_on(_options: Finetune, recipe: Recipe, stated: Mapping[str, Any]) -> Recipe:
    """On --resume: the run's recipe with what the words state, which the run then compares."""
    paths = ("start.model", "model.img_size", "distillation.teacher")
    return config.override(recipe, {path: stated[path] for path in paths if path in stated})


def _from_start(options: Finetune, recipe: Recipe, stated: Mapping[str, Any]) -> Recipe:
    """The recipe with the network, the normalisation and the heads of its starting point."""
    from deit.programs.start import open_start

    follows = recipe == book.get_recipe("finetune")  # the start's own recipe decides
    spec = stated.get("start.model") or ("" if follows else recipe.start.model)
    if not spec:
        raise UserError(
            "deit finetune without a model to start from",
            "RUN: run folder, weights file, timm:NAME or torchvision:NAME",
            "deit finetune RUN DATA",
        )
    weights = stated.get("start.weights", recipe.start.weights)
    origin = open_start(config.override(StartConfig(), {"model": spec, "weights": weights}, _START))
    network: ModelConfig = origin.model.config  # type: ignore[assignment]
    base = _recipe_of(spec)
    data = _data_for(base, options.data or stated.get("data.source") or recipe.data.source)
    if follows:
        stated = {"epochs": options.epochs} | dict(stated) if options.epochs else stated
        recipe = _following(base, data, origin, stated)
    elif recipe == book.get_recipe("finetune/fixres"):
        recipe = finetune.fixres(base, origin.preprocess.crop_pct)
    wanted = stated.get("model.img_size") or (network if follows else recipe.model).img_size
    img_size = config.convert(int, wanted, "recipe.model.img_size")
    recipe = _with_origin(recipe, origin, network, img_size, spec)
    if not recipe.data.source:
        recipe = dataclasses.replace(recipe, data=data)
    if stated.get("distillation.teacher"):
        recipe = with_teacher(recipe, stated)
    print(_description(recipe, network))  # noqa: T201
    return recipe


def _following(
    base: Recipe | None,
    data: DataConfig,
    origin: "Classifier",
    stated: Mapping[str, Any],
) -> Recipe:
    """The default recipe: that of the run, or one sized to the data, gone on with gently."""
    from deit.programs.start import choose_rows

    if not data.source:
        raise UserError("no data given", "DATA", "name a folder of images, or digits")
    images = open_data(data.source, max_pixels=data.max_pixels)
    base = base or small.folder(small.DataFacts.of(images))
    rows, _ = choose_rows(origin, images.classes, str(stated.get("start.heads", "auto")))
    network: ModelConfig = origin.model.config  # type: ignore[assignment]
    img_size = stated.get("model.img_size", network.img_size)
    epochs = stated.get("epochs")
    return finetune.gentle(
        dataclasses.replace(base, data=data),
        network=network,
        start=origin.name,
        other_classes=None in rows,
        other_size=str(img_size) != str(network.img_size),
        epochs=None if epochs is None else config.convert(int, epochs, "recipe.epochs"),
    )


def _recipe_of(spec: str) -> Recipe | None:
    """The recipe that a run was trained with; None where the start is no run."""
    path = Path(spec) / "recipe.yaml"
    return load_recipe(path) if path.is_file() else None


def _data_for(base: Recipe | None, source: str) -> DataConfig:
    """The run's own data where no other is named, with its settings; else what is named."""
    if base is not None and source in ("", base.data.source):
        return base.data
    return DataConfig(source=source)


def _with_origin(
    recipe: Recipe, origin: "Classifier", network: ModelConfig, img_size: int, spec: str
) -> Recipe:
    """The recipe for the network that it starts from, with its evaluation transform.

    A teacher in the recipe decides on the second token; without one the network keeps its own, and
    the labels train both heads.
    """
    distillation = recipe.distillation
    second: SecondToken = second_token(network)
    if distillation.needs_teacher:
        second = "distillation" if distillation.token else "none"
    else:
        distillation = finetune.labels_only(network)
    model = with_second_token(finetune.resized(network, img_size), second)
    if isinstance(model, VisionTransformerConfig):
        before = recipe.model
        rate = before.drop_path_rate if isinstance(before, VisionTransformerConfig) else 0.0
        model = dataclasses.replace(model, drop_path_rate=rate)
    elif isinstance(model, ZooConfig):  # the start has the published weights, the recipe names it
        model = dataclasses.replace(model, pretrained=False)
    theirs = origin.preprocess
    return dataclasses.replace(
        recipe,
        model=dataclasses.replace(model, num_classes=0),
        start=dataclasses.replace(recipe.start, model=spec),
        distillation=distillation,
        preprocess=PreprocessConfig(
            crop_pct=theirs.crop_pct,
            interpolation=theirs.interpolation,
            mean=theirs.mean,
            std=theirs.std,
        ),
    )


def _description(recipe: Recipe, network: ModelConfig) -> str:
    """What is about to happen, in a line; the user's own changes come after it."""
    sizes = f"{network.img_size} px"
    if recipe.model.img_size != network.img_size:
        sizes += f" to {recipe.model.img_size} px"
    probe = recipe.start.probe_epochs
    alone = f", the first {probe} for the heads alone" if probe else ""
    return (
        f"recipe {recipe.name}: from {recipe.start.model} ({network.name}), {sizes}, "
        f"{recipe.epochs} epochs{alone}, batch {recipe.batch_size}, before your own changes"
    )
