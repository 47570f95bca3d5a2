"""Which stored labels belong to a recipe: what they must agree with, and the way to them."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deit import config
from deit.data import order
from deit.data.operations_device import DEVICE_RENDERER
from deit.data.render import RENDERER
from deit.data.render_device import finish_crops
from deit.data.sources import DataSet
from deit.distillation.answers import Answers, check_rows, require_rows
from deit.distillation.label_rows import RowFormat
from deit.distillation.label_store import LabelStore, StoreHeader, differences, write_whole
from deit.distillation.teacher import Teacher
from deit.errors import UserError
from deit.measuring.gate import Examination
from deit.programs.step import build_loader
from deit.recipes.recipe import Recipe, load_recipe
from deit.run import machine

PROBED = 64
"""Views that are rendered to see whether pixels are still what they were when labels were stored.
Versions of libraries tell less: most leave every pixel as it is, and a changed image has none."""


def open_answers(
    recipe: Recipe,
    data: DataSet,
    teacher: Teacher | None,
    examined: Examination | None,
    device: torch.device,
    say: Callable[[str], None],
) -> Answers | None:
    """Where a run gets its teacher's word from; None where the recipe has no teacher.

    Args:
        recipe: resolved.
        data: without the images that are left out.
        teacher: proven by the gate; None where stored labels stand for it.
        examined: what the gate measured, to be kept beside new labels.
        device: where the teacher is asked.
        say: takes the sentences that a person should read.

    Raises:
        UserError: when stored labels belong to something else, do not hold what is needed, or
            are not all there.
    """
    if not recipe.distillation.needs_teacher:
        return None
    stores: Sequence[LabelStore] = ()
    if recipe.distillation.stored:
        stores = find_stores(recipe, data)
        identity = identify(recipe, data)
        for store in stores:
            check_identity(store, identity)
            check_complete(store, epochs_of_views(recipe), recipe.batch_size)
            _require_accuracy(store, recipe.distillation.min_teacher_accuracy)
            say(_introduce(store))
    elif recipe.distillation.labels:
        assert teacher is not None
        assert examined is not None
        path = Path(recipe.distillation.labels)
        stores = (open_or_create(path, recipe, data, teacher, examined, device),)
    return build_answers(recipe, teacher, stores)


def build_answers(
    recipe: Recipe, teacher: Teacher | None, stores: Sequence[LabelStore] = ()
) -> Answers:
    """A teacher, stores or both, asked as the recipe's student sees its views."""
    return Answers(
        config=recipe.distillation,
        teacher=teacher,
        stores=stores,
        mean=recipe.preprocess.mean,
        std=recipe.preprocess.std,
        group=recipe.mix.group,
    )


def find_stores(recipe: Recipe, data: DataSet) -> list[LabelStore]:
    """The stores that stand for the recipe's teacher, looked at from outside; cheap.

    Raises:
        UserError: when there is none, or one does not hold what the recipe needs.
    """
    length = epoch_length(recipe, data)
    stores = [LabelStore.open(Path(folder), length) for folder in recipe.distillation.stored]
    check_rows(recipe.distillation, stores)
    return stores


def identify_teacher(teacher: Teacher | None, stores: Sequence[LabelStore]) -> Any:
    """The fingerprint of the teacher, or of those whose labels are stored; None without one."""
    if teacher is not None:
        return teacher.fingerprint()
    return [store.header.identity["teacher"] for store in stores] or None


def open_or_create(
    path: Path,
    recipe: Recipe,
    data: DataSet,
    teacher: Teacher,
    examined: Examination,
    device: torch.device,
    *,
    top_k: int | None = None,
    confidence: bool | None = None,
) -> LabelStore:
    """The store that a teacher's answers are written into.

    Args:
        path: its folder; a new one is made.
        recipe, data, teacher: what the labels belong to.
        examined: what the gate said of the teacher.
        device: where it is asked.
        top_k, confidence: what a new store keeps of each view beside the decision, see
            `RowFormat`; None as the recipe's distillation says.

    Raises:
        UserError: when a store is there that belongs to something else or keeps another number of
            probabilities than is asked for, or whose answers were
            computed with other versions: one store is one arithmetic.
    """
    distillation = recipe.distillation
    rows = RowFormat(
        num_classes=len(data.classes),
        top_k=min(distillation.top_k if top_k is None else top_k, len(data.classes)),
        temperature=distillation.temperature if distillation.kind == "soft" else 1.0,
        confidence=bool(confidence),
    )
    if (rows.top_k or rows.confidence) and distillation.vote == "majority":
        raise UserError(
            "probabilities of a majority",
            "distillation.vote = mean: votes are no probabilities",
            "leave --top-k and --confidence out, or take the mean",
        )
    is_new = not (path / "store.json").exists()
    if not is_new:
        asked_for = None if top_k is None else rows.top_k
        _require_same_rows(LabelStore.open(path), asked_for, confidence)
        rows = LabelStore.open(path).header.rows
    require_rows(distillation, rows, str(path))
    identity = identify(recipe, data) | {"teacher": teacher.fingerprint()}
    length = epoch_length(recipe, data)
    header = StoreHeader(
        classes=data.classes.names,
        positions=max(length, len(data.train)),
        rows=rows,
        identity=identity,
        made_with=describe_arithmetic(device),
        examination=examined.to_json(),
    )
    store = LabelStore.create(path, header, length)
    check_identity(store, identity)
    if length > store.header.positions:
        raise UserError(
            f"{path} has room for {store.header.positions} views an epoch, and batch_size = "
            f"{recipe.batch_size} shows {length}",
            f"at most {store.header.positions} views an epoch",
            "take a smaller batch, or start another store",
        )
    write_whole(path / "recipe.yaml", config.to_yaml(recipe).encode())  # of the last command
    check_rows(distillation, [store])
    changed = differences(store.header.made_with, header.made_with)
    if changed:
        raise UserError(
            f"{path} was begun with another arithmetic:\n  " + "\n  ".join(changed),
            "one device and one set of versions for all labels of a store",
            "go on where it was begun, or start another store; reading it is possible anywhere",
        )
    return store


def identify(recipe: Recipe, data: DataSet) -> dict[str, Any]:
    """What stored labels belong to, but for the teacher, as JSON values.

    Names and order of the training images, everything that decides the pixels of a view, and the
    bytes of some views. True labels, label smoothing, the student and its training are no part.
    """
    views = config.to_plain(recipe.views)
    mix = {
        name: value for name, value in config.to_plain(recipe.mix).items() if name != "smoothing"
    }
    group, size = recipe.mix.group, recipe.batch_size
    return {
        "data": identify_data(data),
        "views": {
            "view_seed": recipe.seed_of_views,
            "img_size": recipe.model.img_size,
            "in_chans": recipe.model.in_chans,
            "mean": list(recipe.preprocess.mean),
            "std": list(recipe.preprocess.std),
            "repeats": recipe.order.repeats,
            "views": views,
            "mix": mix,
            "batch_size": f"any multiple of {group}" if size % group == 0 else size,
        },
        "renderer": _name_renderer(recipe),
        "pixels": _probe(recipe, data),
    }


def identify_data(data: DataSet) -> dict[str, Any]:
    """What stored labels need of a data set: its training images in their order, its classes."""
    names, classes = (
        "\0".join(names).encode("utf-8", "surrogatepass")
        for names in (data.train.names, data.classes.names)
    )
    return {
        "images": len(data.train),
        "names": hashlib.sha256(names).hexdigest(),
        "classes": hashlib.sha256(classes).hexdigest(),
    }


def recipe_of_store(path: Path) -> Recipe:
    """The recipe that a store was last written with.

    Raises:
        UserError: when it has none.
    """
    file = path / "recipe.yaml"
    if not file.is_file():
        raise UserError(f"{path} has no recipe.yaml", "a store of `deit label`", "record it anew")
    return load_recipe(file)


def check_identity(store: LabelStore, identity: dict[str, Any]) -> None:
    """Refuse labels that belong to other data, views or another teacher.

    Raises:
        UserError: lists what differs.
    """
    then = {name: value for name, value in store.header.identity.items() if name in identity}
    changed = differences(then, identity)
    if not changed:
        return
    if len(changed) > 1:  # other pixels follow from the rest
        changed = [line for line in changed if not line.startswith("pixels")]
    elif changed[0].startswith("pixels"):
        changed += [
            "the same settings made other pixels: an image was changed under its name, or a "
            f"library was; then {store.header.made_with['versions']}"
        ]
    seed = identity["views"]["view_seed"], then["views"]["view_seed"]
    todo = "undo the difference, or record labels for this run: `deit label`"
    if seed[0] != seed[1]:
        todo = f"show the store's views: --view-seed {seed[1]}; or record labels for this seed"
    on_device = [str(made["renderer"]).startswith("device") for made in (then, identity)]
    if on_device[0] != on_device[1]:
        where = "device" if on_device[0] else "host"
        todo = f"render as the store's views were: run.render={where}; or record labels for these"
    raise UserError(
        f"{store.path} holds labels of something else:\n  " + "\n  ".join(changed),
        "labels of the same images, views and teacher",
        todo,
    )


def require_same_teacher(store: LabelStore, teacher: Teacher) -> None:
    """Refuse to write the answers of another teacher than the store's.

    Raises:
        UserError: lists what differs.
    """
    now = {"teacher": teacher.fingerprint()}
    changed = differences({"teacher": store.header.identity["teacher"]}, now)
    if changed:
        raise UserError(
            f"{store.path} holds labels of another teacher:\n  " + "\n  ".join(changed),
            "one teacher for all labels of a store",
            "start another store",
        )


def check_complete(store: LabelStore, epochs: Sequence[int], batch_size: int) -> None:
    """Refuse a store in which some view of a run has no label; damage is found as well.

    Raises:
        UserError: says how many are missing, and how to get them.
    """
    missing = {epoch: store.length - store.count(epoch) for epoch in epochs}
    total = sum(missing.values())
    if not total:
        return
    full = next((n for n, epoch in enumerate(epochs) if missing[epoch]), len(epochs))
    bank = f", or use its first {full} again and again: --order.bank_epochs {full}" if full else ""
    raise UserError(
        f"{store.path}: {total:,} of {store.length * len(epochs):,} views have no label; complete "
        f"are the first {full} of {len(epochs)} epochs",
        "a label for every view of the run",
        f"fill it: `deit label --out {store.path} --epochs {len(epochs)} --batch-size {batch_size}`"
        f"{bank}",
    )


def epochs_of_views(recipe: Recipe) -> range:
    """The epochs whose views a run shows."""
    return range(recipe.order.bank_epochs or recipe.epochs)


def epoch_length(recipe: Recipe, data: DataSet) -> int:
    """How many views an epoch of the run has."""
    return order.steps_per_epoch(len(data.train), recipe.batch_size) * recipe.batch_size


def describe_arithmetic(device: torch.device) -> dict[str, Any]:
    """What a teacher's last bits depend on besides its weights."""
    environment = machine.describe_environment(device)
    names = ("torch", "torchvision", "timm", "numpy", "pillow", "opencv-python-headless")
    versions = {name: environment["versions"][name] for name in names}
    return {"device": environment["device"], "versions": versions}


def _name_renderer(recipe: Recipe) -> int | str:
    """What makes the pixels of a plan: the host, or the device of the host's crops."""
    if recipe.run.render == "device":
        return f"device {DEVICE_RENDERER} on crops of {RENDERER}"
    return RENDERER


def _probe(recipe: Recipe, data: DataSet) -> str:
    """The SHA-256 of some rendered views of the first epoch.

    They are spread over the half of it that runs of every batch size show. What a device would do
    is done on the CPU: the bytes are the same.
    """
    alone = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, workers=0))
    loader = build_loader(alone, data, torch.device("cpu"))
    half = -(-len(data.train) // 2)
    positions = np.unique(np.linspace(0, half - 1, min(PROBED, half)).astype(np.int64))
    views = loader.views_at(0, positions)
    if recipe.run.render == "device":
        views = finish_crops(views, recipe.views, recipe.seed_of_views, 0, positions)
    return hashlib.sha256(views.numpy().tobytes()).hexdigest()


def _require_same_rows(store: LabelStore, top_k: int | None, confidence: bool | None) -> None:
    rows = store.header.rows
    stated = {"top_k": top_k, "confidence": confidence}
    changed = [name for name, value in stated.items() if value not in (None, getattr(rows, name))]
    if changed:
        raise UserError(
            f"{store.path} keeps "
            + ", ".join(f"{name} = {getattr(rows, name)}, not {stated[name]}" for name in changed),
            "what the store keeps of each view",
            "leave the option out, or start another store",
        )


def _require_accuracy(store: LabelStore, least: float) -> None:
    accuracy = Examination.from_json(store.header.examination).accuracy
    if accuracy < least:
        raise UserError(
            f"{store.path}: its teacher knew {accuracy:.2%} of the validation images",
            f"distillation.min_teacher_accuracy = {least:.2%} or more",
            "take a better teacher, or ask for less",
        )


def _introduce(store: LabelStore) -> str:
    told = Examination.from_json(store.header.examination)
    return (
        f"stored labels of {told.teacher}, which knew {told.accuracy:.2%} of "
        f"{told.count:,} validation images: {store.path}"
    )
