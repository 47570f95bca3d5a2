"""`deit train`, `deit distill` and `deit teacher`: words make a recipe, a recipe makes a run."""

import contextlib
import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from deit import config
from deit.cli.adaptation import find_start, is_zoo, with_stated_weights
from deit.cli.options import RunOptions, metavar, parse, recipe_fields, split_overrides
from deit.cli.recipes import find_recipe, missing_parts
from deit.cli.tables import accuracy_table
from deit.distillation.config import LABELS, DistillationConfig
from deit.errors import UserError
from deit.model.variants import VisionTransformerConfig, ZooConfig, named_config
from deit.recipes import book
from deit.recipes.recipe import Recipe, second_token, with_second_token
from deit.recipes.start import StartConfig
from deit.run.folder import default_folder, open_run

_LEAST_ZOO_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class Train(RunOptions):
    """Train a model on labelled images and leave a run folder.

    Any field of the recipe can be changed: --optim.lr 1e-3, or optim.lr=1e-3.
    """

    model: Annotated[str | None, metavar("NAME")] = None
    """Name of the network, for example deit_small_patch16_224 or timm:resnet50."""


@dataclass(frozen=True, kw_only=True)
class WithTeacher(RunOptions):
    """Options of every verb that asks a teacher."""

    teacher: Annotated[str | None, metavar("T")] = None
    """Run folder, weights file, timm:NAME, torchvision:NAME, hf:ID, onnx:FILE or labels:DIR;
    several with commas between them teach as one (--distillation.vote). Left out: the one that the
    recipe names."""
    kind: Annotated[Literal["hard", "soft"] | None, metavar("hard|soft")] = None
    """hard: the teacher's decision (Eq. 3 of the paper). soft: its probabilities (Eq. 2). Left out:
    the recipe's; hard where it has no teacher."""
    form: Annotated[Literal["token", "class"] | None, metavar("token|class")] = None
    """token: through a distillation token with a head of its own. class: on the class token alone.
    Left out: the recipe's; token where it has no teacher."""
    model: Annotated[str | None, metavar("NAME")] = None
    """Name of the student, for example deit_tiny_distilled_patch16_224."""


@dataclass(frozen=True, kw_only=True)
class Distill(WithTeacher):
    """Train a DeiT that learns from the labels and from a teacher.

    The teacher is frozen, sees the student's very pixels, and is measured beforehand.
    """

    labels: Annotated[str | None, metavar("DIR")] = None
    """Label store beside the teacher: what it holds is read, the rest is asked and written there.
    (--teacher labels:DIR reads a complete one without any teacher.)"""


@dataclass(frozen=True, kw_only=True)
class Teach(RunOptions):
    """Train or adapt a network on one's own classes, to teach a DeiT with `deit distill`.

    A network of timm or torchvision starts from its published weights, at its own resolution.
    """

    arch: Annotated[str | None, metavar("NAME")] = None
    """convnet (ours, for images up to 64 px), another of its sizes, timm:NAME or
    torchvision:NAME. Left out: the recipe's."""
    weights: Annotated[str | None, metavar("published|none|FILE")] = None
    """Where a network of timm or torchvision starts. published: from its published weights, or
    from scratch where they cannot be had. none: from scratch. FILE: from weights of the same
    architecture. Left out: published."""
    img_size: Annotated[str | None, metavar("PX")] = None
    """Short for recipe.model.img_size: side of the images that the network is trained on."""

    def changes(self) -> dict[str, Any]:
        """The short options as recipe fields."""
        size = {} if self.img_size is None else {"model.img_size": self.img_size}
        return super().changes() | size


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
    if options.labels is not None:
        overrides = {"distillation.labels": options.labels} | overrides
    return carry_out(build_distilled(options, overrides), options)


def teacher(arguments: Sequence[str]) -> int:
    """`deit teacher`."""
    words, overrides = split_overrides(arguments)
    options = parse(Teach, words, verb="teacher", epilog=recipe_fields)
    return carry_out(build_teacher(options, overrides), options)


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
        go_on = f"deit train --out {shlex.quote(str(out))} --resume"  # also what distils or teaches
        print(f"interrupted after step {result.step}; go on with: {go_on}")  # noqa: T201
        return 75
    report = write_report(out)
    console.print(accuracy_table(result.evaluations))
    print(f"weights: {out}/weights   report: {report}")  # noqa: T201
    return 0


def build_distilled(options: WithTeacher, overrides: dict[str, Any]) -> Recipe:
    """The recipe of `deit distill`."""
    named: dict[str, Any] = {}
    if options.teacher is not None:
        named["distillation.teacher"] = options.teacher
    if options.kind is not None:
        named["distillation.kind"] = options.kind
    if options.form is not None:
        named["distillation.token"] = options.form == "token"
    return build_recipe(
        options,
        overrides,
        default="folder",
        model=options.model,
        named=named,
        change=with_teacher,
    )


def build_teacher(options: Teach, overrides: dict[str, Any]) -> Recipe:
    """The recipe of `deit teacher`: another one for a network that others have trained.

    Raises:
        UserError: for --weights with a network that is neither timm's nor torchvision's.
    """
    arch = options.arch
    if arch is None or not is_zoo(arch) or options.resume:
        recipe = build_recipe(options, overrides, default="folder-teacher", model=arch)
        return with_stated_weights(recipe, options.weights)
    start = find_start(arch, options.weights or "published")
    if start is None:
        return build_recipe(options, overrides, default="folder-teacher", model=arch)
    return build_recipe(
        options,
        overrides,
        default="folder-adapted",
        model=None,
        named={"model.name": arch, "model.kind": "zoo"},
        change=lambda recipe, _stated: start.apply(recipe),
    )


Change = Callable[[Recipe, Mapping[str, Any]], Recipe]


def build_recipe(
    options: RunOptions,
    overrides: dict[str, Any],
    *,
    default: str,
    model: str | None,
    named: dict[str, Any] | None = None,
    change: Change = lambda recipe, _stated: recipe,
) -> Recipe:
    """The recipe that a command's words describe.

    In this order: the starting recipe, the verb's change, the network, a YAML file of some fields,
    the short options, the dotted overrides. On --resume the same words act on the run's own recipe,
    so that whoever resumes can refuse those that would change it.

    Args:
        options: the verb's options.
        overrides: dotted fields with their values.
        default: the recipe where none is named.
        model: name of the network, where one was asked for.
        named: recipe fields that options of the verb give; they win over the YAML file.
        change: what the verb makes of a recipe, given all the fields that the words state.
    """
    plain_file = config.read_yaml(options.config) if options.config else {}
    kept = _kept_recipe(options)
    recipe, some_fields = _starting_recipe(options, overrides, plain_file, kept, default)
    named = named or {}
    recipe = change(recipe, some_fields | named | overrides)
    if model is not None:
        if recipe.model.name != model or kept is None:
            recipe = _with_model(recipe, model)
        named = named | {"model.name": model, "model.kind": recipe.model.kind}
    unnamed = {path: value for path, value in some_fields.items() if path not in named}
    recipe = _with_changes(config.override(recipe, unnamed), options, overrides)
    if kept is not None and not recipe.data.source:
        recipe = config.override(recipe, {"data.source": kept.data.source})
    return recipe


def _kept_recipe(options: RunOptions) -> Recipe | None:
    """On --resume the recipe of the run, else None."""
    if not options.resume:
        return None
    if options.out is None:
        raise UserError("--resume without --out", "the folder of the run", "add --out DIR")
    return open_run(options.out)[1]


def _starting_recipe(
    options: RunOptions,
    overrides: Mapping[str, Any],
    plain_file: Mapping[str, Any],
    kept: Recipe | None,
    default: str,
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe that options change, and the fields of a file that are still to be set over it.

    A file with every part of a recipe is itself where to start; so is on --resume the run's recipe,
    unless another is named.
    """
    fields = _flat(plain_file)
    is_whole = not missing_parts(plain_file)
    if options.recipe is None and is_whole:
        return config.from_plain(Recipe, plain_file), {}
    if options.recipe is None and kept is not None:
        return kept, fields
    kept_source = kept.data.source if kept is not None else None
    given = options.data or overrides.get("data.source") or fields.get("data.source")
    source = config.convert(str, given or kept_source or "", "recipe.data.source") or None
    name = options.recipe or default
    if source is None and name in book.SIZED_RECIPES:
        raise UserError("no data given", "DATA", "name a folder of images, or digits")
    recipe = find_recipe(name, source)
    return (config.override(recipe, fields), {}) if is_whole else (recipe, fields)


def _flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dictionaries under their dotted paths."""
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        path = f"{prefix}{key}"
        flat |= _flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return flat


def with_teacher(recipe: Recipe, stated: Mapping[str, Any]) -> Recipe:
    """The recipe with the teacher that ``stated`` fields name.

    Kind and token are what is stated, else the recipe's own where it has a teacher, else hard
    labels through the token. Weight and temperature stay as long as the kind does.
    """
    before = recipe.distillation
    name = stated.get("distillation.teacher") or before.teacher
    if not name:
        raise UserError(
            "no teacher given",
            "--teacher with a run folder, timm:NAME, torchvision:NAME, hf:ID or onnx:FILE",
            "`deit teacher DATA` trains one",
        )
    before = _without_other_teacher(before, name)
    kind = stated.get("distillation.kind")
    if kind not in ("soft", "hard"):
        kind = before.kind if before.needs_teacher else "hard"
    token = stated.get("distillation.token", before.token if before.needs_teacher else True)
    token = config.convert(bool, token, "recipe.distillation.token")
    if before.needs_teacher and kind == before.kind:
        distillation = dataclasses.replace(before, teacher=name, token=token)
    else:
        least = before.min_teacher_accuracy
        distillation = DistillationConfig.of_paper(
            kind, teacher=name, token=token, min_teacher_accuracy=least
        )
    network = with_second_token(recipe.model, "distillation" if token else "none")
    return dataclasses.replace(recipe, model=network, distillation=distillation)


def _without_other_teacher(before: DistillationConfig, name: str) -> DistillationConfig:
    """The settings before, without those that only belonged to the teacher of then."""
    if name == before.teacher:
        return before
    cleared: dict[str, Any] = {
        "teacher": name,
        "labels": "",
        "top_k": 0,
        "teacher_size": 0,
        "vote": "mean",
    }
    if LABELS not in name and "," not in name:
        cleared["teacher_size"] = before.teacher_size
    if "," in name:
        cleared["vote"] = before.vote
    return dataclasses.replace(before, **cleared) if before.needs_teacher else before


def _with_model(recipe: Recipe, name: str) -> Recipe:
    """The recipe with another network; views follow its image size, tokens the recipe.

    Networks of timm and torchvision halve an image five times: they get 32 pixels at least.
    """
    chosen = named_config(name)
    if not isinstance(chosen, VisionTransformerConfig):
        least = _LEAST_ZOO_SIZE if isinstance(chosen, ZooConfig) else 1
        chosen = dataclasses.replace(chosen, img_size=max(recipe.model.img_size, least))
    chosen = with_second_token(chosen, second_token(recipe.model))
    return dataclasses.replace(recipe, model=chosen)


def _with_changes(recipe: Recipe, options: RunOptions, overrides: dict[str, Any]) -> Recipe:
    changes = options.changes() | overrides
    if options.data is not None:
        stated = overrides.get("data.source", options.data)
        if stated != options.data:
            raise UserError(
                f"DATA = {options.data} with data.source = {stated}", "one of them", "leave one out"
            )
        changes["data.source"] = options.data
    return config.override(_with_shorter_warmup(recipe, changes), changes)


def _with_shorter_warmup(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with a probe and a warm-up that fit into a run which the user has cut short.

    A probe of more than half of the run becomes a third of it, and a warm-up of more than a third
    of the rest a tenth of it. That is said; what the user states is left alone, and so is a number
    of epochs that is none.
    """
    with contextlib.suppress(ValueError):
        epochs = float(changes.get("epochs", "nan"))
        probe = recipe.start.probe_epochs
        stated = "start.probe_epochs" in changes
        if not stated and probe < recipe.epochs and 2 * probe > epochs >= 1:
            probe = int(epochs // 3)
            print(f"probe shortened to {probe} of {epochs:.0f} epochs")  # noqa: T201
            rate = {} if probe else {"start.probe_lr": StartConfig().probe_lr}
            recipe = config.override(recipe, {"start.probe_epochs": probe, **rate})
        rest = epochs - probe
        stated = "schedule.warmup_epochs" in changes
        if not stated and rest >= 1 and 3 * recipe.schedule.warmup_epochs > rest:
            warmup = round(rest / 10, 2)
            print(f"warm-up shortened to {warmup} of {rest:.0f} epochs")  # noqa: T201
            return config.override(recipe, {"schedule.warmup_epochs": warmup})
    return recipe
