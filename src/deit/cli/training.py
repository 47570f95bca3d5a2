"""`deit train`, `deit distill` and `deit teacher`: words make a recipe, a recipe makes a run."""

import dataclasses
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from deit import config
from deit.cli.options import RunOptions, metavar, parse, recipe_fields, split_overrides
from deit.cli.tables import accuracy_table
from deit.data.sources import open_data
from deit.errors import UserError
from deit.model.variants import ConvNetConfig, named_config
from deit.recipes import book
from deit.recipes.recipe import Recipe, distilled, second_token, with_second_token
from deit.recipes.small import DataFacts
from deit.run.folder import default_folder, open_run


@dataclass(frozen=True, kw_only=True)
class Train(RunOptions):
    """Train a model on labelled images and leave a run folder.

    Any field of the recipe can be changed: --optim.lr 1e-3, or optim.lr=1e-3.
    """

    model: Annotated[str | None, metavar("NAME")] = None
    """Name of the network, for example deit_small_patch16_224 or timm:resnet50."""


@dataclass(frozen=True, kw_only=True)
class Distill(RunOptions):
    """Train a DeiT that learns from the labels and from a teacher.

    The teacher is frozen, sees the student's very pixels, and is measured beforehand.
    """

    teacher: Annotated[str | None, metavar("T")] = None
    """Run folder, weights file, timm:NAME, torchvision:NAME or onnx:FILE. Left out: the one that
    the recipe names."""
    kind: Annotated[Literal["hard", "soft"] | None, metavar("hard|soft")] = None
    """hard: the teacher's decision (Eq. 3 of the paper, the default). soft: its probabilities
    (Eq. 2)."""
    form: Annotated[Literal["token", "class"] | None, metavar("token|class")] = None
    """token: through a distillation token with a head of its own (the default). class: on the class
    token alone."""
    model: Annotated[str | None, metavar("NAME")] = None
    """Name of the student, for example deit_tiny_distilled_patch16_224."""


@dataclass(frozen=True, kw_only=True)
class Teach(RunOptions):
    """Train a convnet on one's own classes, to teach a DeiT with `deit distill`."""

    arch: str = "convnet"
    """convnet (ours, for images up to 64 px), another of its sizes, timm:NAME or
    torchvision:NAME."""
    pretrained: bool = False
    """Start a timm or torchvision network from its published weights, with a new last layer."""


def train(arguments: Sequence[str]) -> int:
    """`deit train`."""
    words, overrides = split_overrides(arguments)
    options = parse(Train, words, verb="train", epilog=recipe_fields)
    recipe = build_recipe(options, overrides, default="folder", model=options.model)
    return carry_out(recipe, options)


def distill(arguments: Sequence[str]) -> int:
    """`deit distill`."""
    words, overrides = split_overrides(arguments)
    options = parse(Distill, words, verb="distill", epilog=recipe_fields)

    def with_teacher(recipe: Recipe) -> Recipe:
        before = recipe.distillation
        name = options.teacher or before.teacher
        if not name:
            raise UserError(
                "deit distill without a teacher",
                "--teacher with a run folder, timm:NAME, torchvision:NAME or onnx:FILE",
                "`deit teacher DATA` trains one",
            )
        if before.needs_teacher and options.kind is None and options.form is None:
            return dataclasses.replace(
                recipe, distillation=dataclasses.replace(before, teacher=name)
            )
        return distilled(recipe, name, options.kind or "hard", token=options.form != "class")

    recipe = build_recipe(
        options, overrides, default="folder", model=options.model, change=with_teacher
    )
    return carry_out(recipe, options)


def teacher(arguments: Sequence[str]) -> int:
    """`deit teacher`."""
    words, overrides = split_overrides(arguments)
    options = parse(Teach, words, verb="teacher", epilog=recipe_fields)
    recipe = build_recipe(options, overrides, default="folder-teacher", model=options.arch)
    return carry_out(recipe, options)


def carry_out(recipe: Recipe, options: RunOptions) -> int:
    """Run a recipe, or try it dry, and print how it went; the exit code."""
    from rich.console import Console

    console = Console()
    if options.dry_run:
        from deit.programs.dry_run import dry_run

        print(dry_run(recipe, lambda text: console.print(text, highlight=False, markup=False)))  # noqa: T201
        return 0
    from deit.programs.train import train as run_recipe
    from deit.report.run_report import write_report

    out = options.out or default_folder(recipe)
    result = run_recipe(recipe, out, resume=options.resume, console=console)
    if result.state == "interrupted":
        print(f"interrupted after step {result.step}; go on with: --out {out} --resume")  # noqa: T201
        return 130 if result.stopped_by == signal.SIGINT else 75
    report = write_report(out)
    console.print(accuracy_table(result.evaluations))
    print(f"weights: {out}/weights   report: {report}")  # noqa: T201
    return 0


def build_recipe(
    options: RunOptions,
    overrides: dict[str, Any],
    *,
    default: str,
    model: str | None,
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe,
) -> Recipe:
    """The recipe that a command's words describe.

    In this order: the named recipe (on --resume the run's own), the network, the verb's change, the
    YAML file, the short options, the dotted overrides.
    """
    if options.resume:
        if options.out is None:
            raise UserError("--resume without --out", "the folder of the run", "add --out DIR")
        if options.recipe is None and options.config is None:
            kept = open_run(options.out)[1]
            return _with_changes(kept, options, overrides)
    plain_file = config.read_yaml(options.config) if options.config else {}
    if options.recipe is None and "model" in plain_file:
        recipe = config.from_plain(Recipe, plain_file)
    else:
        recipe = named_recipe(options.recipe or default, options.data)
        if model is not None:
            recipe = _with_model(recipe, model)
        recipe = config.merge(change(recipe), plain_file)
    return _with_changes(recipe, options, overrides)


def named_recipe(name: str, source: str | None) -> Recipe:
    """A recipe by its name, sized to the data where it sizes itself, and said so."""
    if source == "digits" and name in ("folder", "folder-teacher"):
        name = name.replace("folder", "digits")
    if name not in book.SIZED_RECIPES:
        return book.get_recipe(name)
    facts = _facts(source)
    recipe = book.get_recipe(name, facts)
    print(  # noqa: T201
        f"recipe {name}: sized to {facts.num_images:,} images of about {facts.image_size} px: "
        f"{recipe.model.name}, {recipe.epochs} epochs, batch {recipe.batch_size}"
    )
    return recipe


def _facts(source: str | None) -> DataFacts:
    if source is None:
        raise UserError("no data given", "DATA", "name a folder of images, or digits")
    return DataFacts.of(open_data(source))


def _with_model(recipe: Recipe, name: str) -> Recipe:
    """The recipe with another network; the views follow its image size."""
    chosen = named_config(name)
    if ":" in name or isinstance(chosen, ConvNetConfig):
        chosen = dataclasses.replace(chosen, img_size=recipe.model.img_size)
    if second_token(chosen) == "distillation" and not recipe.distillation.needs_teacher:
        chosen = with_second_token(chosen, "none")  # until the verb adds a teacher
    return dataclasses.replace(recipe, model=chosen)


def _with_changes(recipe: Recipe, options: RunOptions, overrides: dict[str, Any]) -> Recipe:
    changes = options.changes() | overrides
    if options.data is not None:
        changes["data.source"] = options.data
    return config.override(recipe, changes)
