"""How the time of one view is spread over the stages of the data path, on one core."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from deit.benchmarking.data_peers import MEAN, SIZE, STD
from deit.benchmarking.timing import time_interleaved
from deit.data.images import decode_image, read_image_file
from deit.data.mix import mix_images
from deit.data.mix_plan import MixConfig, plan_mix
from deit.data.plan import ViewConfig, plan_erasing, plan_views
from deit.data.render import augment_crops, crop_view
from deit.data.render_device import erase, finish_crops, normalise

OF_AN_IMAGE = ("read the file", "decode")
"""Stages that repeated views of an image share."""

ON_THE_DEVICE = ("flip and operations on the device", "normalise", "erase", "mix")
"""Stages that are the device's; measured on the CPU here."""


def time_stages(folder: Path, rounds: int = 7, count: int = 64) -> dict[str, float]:
    """Microseconds of each stage, for an image or a view.

    Args:
        folder: with ``train/`` of class folders of images.
        rounds: how often everything is timed; the median counts.
        count: how many images, of each of which one view is made.
    """
    found = sorted(map(str, (folder / "train").rglob("*.*")))
    paths = found[:: max(1, len(found) // count)][:count]
    config, positions = ViewConfig(), np.arange(len(paths))
    files = [read_image_file(path, path) for path in paths]
    images = [decode_image(file, "it") for file in files]
    plan = plan_views(config, SIZE, 0, 0, positions)
    rows = range(len(paths))
    crops = [crop_view(images[row], plan, row, config, SIZE) for row in rows]
    views = augment_crops(crops, plan, config, rows)
    batch = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).contiguous()
    normal = normalise(batch, MEAN, STD)
    room = np.empty(batch.shape, np.uint8)
    mixing = plan_mix(MixConfig(), SIZE, 0, 0, positions)
    boxes = plan_erasing(config, SIZE, 0, 0, positions)

    def gather() -> None:
        for row in rows:
            cv2.split(views[row], list(room[row]))

    stages: dict[str, Callable[[], object]] = {
        "read the file": lambda: [read_image_file(path, path) for path in paths],
        "decode": lambda: [decode_image(file, "it") for file in files],
        "plan": lambda: plan_views(config, SIZE, 0, 0, positions),
        "crop and resize": lambda: [
            crop_view(images[row], plan, row, config, SIZE) for row in rows
        ],
        "flip and operations": lambda: augment_crops(crops, plan, config, rows),
        "gather": gather,
        "flip and operations on the device": lambda: finish_crops(batch, config, 0, 0, positions),
        "normalise": lambda: normalise(batch, MEAN, STD),
        "erase": lambda: erase(normal, boxes, 0, 0, positions),
        "mix": lambda: mix_images(normal, mixing),
    }
    timings = time_interleaved(stages, rounds=rounds, device=torch.device("cpu"))
    return {name: 1e6 * timing.median / len(paths) for name, timing in timings.items()}
