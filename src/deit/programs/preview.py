"""The views that a recipe trains on, exactly as the model sees them, as a picture or a page."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image

from deit.data.loader import TrainLoader
from deit.data.mix_plan import plan_mix
from deit.data.names import printable
from deit.data.order import epoch_of_views
from deit.data.plan import crop_box, plan_views
from deit.data.plan_words import mix_words, view_words
from deit.data.render_device import HostBatch, to_pixels
from deit.data.sources import DataSet
from deit.errors import UserError
from deit.programs.step import build_loader, finish_views, model_preprocess
from deit.recipes.recipe import Recipe
from deit.report.gallery import embed_picture, heaviest_targets
from deit.report.preview_page import Card, Shown, write_preview_page
from deit.report.sheet import image_sheet
from deit.run.machine import resolve_device, resolve_render

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, eq=False)
class DrawnView:
    """A finished view, and how it came about.

    Attributes:
        pixels: the view as the model sees it: augmented, erased, mixed.
        targets: its classes and their weights, the heaviest first.
        sample: its image in the training split.
        partner: the image that it is mixed with; None where it is not.
        box: left, top, width and height of its crop as shares of its image.
        words: what was done, in order.
    """

    pixels: UInt8[np.ndarray, "size size 3"]
    targets: Sequence[tuple[str, float]]
    sample: int
    partner: int | None
    box: tuple[float, float, float, float]
    words: Sequence[str]


def draw_views(
    recipe: Recipe, data: DataSet, count: int, epoch: int = 0, label: str | None = None
) -> list[DrawnView]:
    """The first views of an epoch, at most the whole epoch.

    Args:
        recipe: says how views are made; its batch size limits what can be mixed with what.
        data: the images.
        count: how many views to draw.
        epoch: the epoch, from 0.
        label: draw only views of images of this class (they are mixed with others all the same).

    Raises:
        UserError: for a class that is not in the data.
        BadImage: when an image cannot be decoded.
    """
    recipe = dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, num_classes=len(data.classes)),
        run=dataclasses.replace(
            recipe.run,
            workers=0,
            render=resolve_render(recipe.run.render, resolve_device(recipe.run.device)),
        ),
    )
    wanted = None if label is None else data.classes.index(label)
    loader = build_loader(recipe, data, _CPU)
    epoch = epoch_of_views(recipe.order, epoch)
    positions = np.arange(loader.steps_per_epoch * recipe.batch_size)
    if wanted is not None:
        positions = positions[data.train.labels[loader.samples_at(epoch, positions)] == wanted]
    if len(positions) == 0:
        raise UserError(
            f"no view of class {printable(str(label))} in epoch {epoch}",
            "a class that the epoch shows",
            "try another --epoch",
        )
    drawn: list[DrawnView] = []
    for group in _groups(positions[:count], recipe.batch_size, recipe.mix.group):
        shown = np.isin(group, positions[:count])
        drawn += [
            view
            for view, keep in zip(
                _draw_group(recipe, data, loader, epoch, group), shown, strict=True
            )
            if keep
        ]
    return drawn


def draw_sheet(views: Sequence[DrawnView]) -> Image.Image:
    """The views in rows of eight with their target weights."""
    captions = [
        "\n".join(f"{name} {weight:.0%}" for name, weight in view.targets) for view in views
    ]
    return image_sheet([view.pixels for view in views], captions, columns=8)


def write_preview(
    path: Path, recipe: Recipe, data: DataSet, views: Sequence[DrawnView], title: str
) -> Path:
    """Write a page: each view beside its image, with what was done.

    Raises:
        UserError: when the place cannot be written.
    """
    cards = [
        Card(
            view=Shown("view", *embed_picture(view.pixels)),
            source=_shown(data, view.sample),
            partner=None if view.partner is None else _shown(data, view.partner),
            targets=tuple((printable(name), weight) for name, weight in view.targets),
            box=view.box,
            words=tuple(view.words),
        )
        for view in views
    ]
    facts = [
        ("Recipe", recipe.name),
        ("Image size", f"{recipe.model.img_size} px"),
        ("Crop", recipe.views.crop),
        ("Operations", recipe.views.policy),
        ("Mixing", f"mixup {recipe.mix.mixup:g}, CutMix {recipe.mix.cutmix:g}"),
        ("Label smoothing", f"{recipe.mix.smoothing:g}"),
        ("Seed of the views", str(recipe.seed_of_views)),
    ]
    return write_preview_page(path, title=title, facts=facts, cards=cards)


def _shown(data: DataSet, sample: int) -> Shown:
    name = printable(data.train.names[sample])
    return Shown(name, *embed_picture(data.train.read(sample)))


def _groups(
    positions: Int64[np.ndarray, "positions"], batch_size: int, group: int
) -> Iterator[Int64[np.ndarray, "_"]]:
    """The whole mixing groups that hold these positions: views are mixed within one only."""
    batches, places = np.divmod(positions, batch_size)
    starts = batches * batch_size + places // group * group
    stops = np.minimum(starts + group, (batches + 1) * batch_size)
    for start, stop in sorted(set(zip(starts.tolist(), stops.tolist(), strict=True))):
        yield np.arange(start, stop)


def _draw_group(
    recipe: Recipe,
    data: DataSet,
    loader: TrainLoader,
    epoch: int,
    positions: Int64[np.ndarray, "positions"],
) -> list[DrawnView]:
    """Every view of a mixing group, by the same steps as in training."""
    samples = loader.samples_at(epoch, positions)
    host = HostBatch(
        images=loader.views_at(epoch, positions),
        labels=torch.from_numpy(np.asarray(data.train.labels[samples], dtype=np.int64)),
        samples=torch.from_numpy(samples),
        positions=torch.from_numpy(positions),
        epoch=epoch,
        step=0,
        holds=loader.holds,
    )
    batch = finish_views(recipe, host, _CPU)
    pixels = to_pixels(batch.images, model_preprocess(recipe))
    targets = heaviest_targets(batch.targets.numpy(), data.classes.names)
    size, seed = recipe.model.img_size, recipe.seed_of_views
    views = plan_views(recipe.views, size, seed, epoch, positions)
    mix = plan_mix(recipe.mix, size, seed, epoch, positions)
    drawn = []
    for row, sample in enumerate(samples.tolist()):
        height, width, _ = data.train.read(sample).shape
        partner = int(samples[mix.partner[row]])
        words = view_words(views, row, width, height)
        mixed = mix_words(mix, row, printable(data.train.names[partner]))
        left, top, box_width, box_height = crop_box(views, row, width, height)
        drawn.append(
            DrawnView(
                pixels=pixels[row],
                targets=targets[row],
                sample=sample,
                partner=partner if mixed else None,
                box=(left / width, top / height, box_width / width, box_height / height),
                words=[*words, mixed] if mixed else words,
            )
        )
    return drawn
