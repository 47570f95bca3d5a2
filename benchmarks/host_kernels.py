"""Which library's kernels make a view on the host: microseconds, and the distance from Pillow.

Decoding, resizing and every operation of RandAugment, each by all libraries that have it, on the
same images of 500 x 375 and 224 x 224 pixels, one core, all sides in turns. The distance is the
mean over all values, in grey levels. What was chosen and why is in
docs/decisions/0016-kernels-of-the-host.md.

    python benchmarks/host_kernels.py --json host_kernels.json
"""

import argparse
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
import torchvision.transforms.v2.functional as tv
from PIL import Image
from sklearn.datasets import load_sample_image
from timm.data import auto_augment
from torch.nn import functional
from torchvision.io import decode_jpeg

from deit.benchmarking.photographs import HEIGHT, QUALITY, WIDTH
from deit.benchmarking.timing import time_interleaved, use_threads
from deit.cli.tables import check_writable
from deit.data.images import decode_image
from deit.data.operations import Operation
from deit.data.operations_host import apply_operation
from deit.run import machine
from deit.run.folder import write_json

FILL = (124, 116, 104)
SIZE = 224
BICUBIC = Image.Resampling.BICUBIC

Side = Callable[[], Any]

OPERATIONS: dict[Operation, tuple[str, float, Callable[[torch.Tensor], torch.Tensor] | None]] = {
    Operation.AUTO_CONTRAST: ("AutoContrast", 0, tv.autocontrast),
    Operation.EQUALIZE: ("Equalize", 0, tv.equalize),
    Operation.INVERT: ("Invert", 0, tv.invert),
    Operation.ROTATE: ("Rotate", 20, None),
    Operation.POSTERIZE: ("PosterizeIncreasing", 2, lambda image: tv.posterize(image, 2)),
    Operation.SOLARIZE: ("SolarizeIncreasing", 50, lambda image: tv.solarize(image, 50)),
    Operation.SOLARIZE_ADD: ("SolarizeAdd", 90, None),
    Operation.COLOR: ("ColorIncreasing", 1.7, lambda image: tv.adjust_saturation(image, 1.7)),
    Operation.CONTRAST: ("ContrastIncreasing", 1.7, lambda image: tv.adjust_contrast(image, 1.7)),
    Operation.BRIGHTNESS: (
        "BrightnessIncreasing",
        1.7,
        lambda image: tv.adjust_brightness(image, 1.7),
    ),
    Operation.SHARPNESS: (
        "SharpnessIncreasing",
        1.7,
        lambda image: tv.adjust_sharpness(image, 1.7),
    ),
    Operation.SHEAR_X: ("ShearX", 0.25, None),
    Operation.SHEAR_Y: ("ShearY", 0.25, None),
    Operation.TRANSLATE_X: ("TranslateXRel", 0.3, None),
    Operation.TRANSLATE_Y: ("TranslateYRel", 0.3, None),
}
"""Operation: timm's name of it, an argument, and torchvision's kernel for bytes if it has one."""


def photographs() -> list[Image.Image]:
    """Eight cuts of 500 x 375 pixels from scikit-learn's two photographs."""
    return [
        Image.fromarray(load_sample_image(name)).crop((x, 40, x + WIDTH, 40 + HEIGHT))
        for name in ("china.jpg", "flower.jpg")
        for x in (0, 40, 90, 139)
    ]


def decoding(images: list[Image.Image]) -> dict[str, Side]:
    """JPEG to RGB bytes; the last is ours."""
    files = []
    for image in images:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=QUALITY)
        files.append(file.getvalue())
    arrays = [np.frombuffer(file, np.uint8) for file in files]
    tensors = [torch.from_numpy(array.copy()) for array in arrays]
    return {
        "Pillow": lambda: [np.array(Image.open(io.BytesIO(file))) for file in files],
        "OpenCV": lambda: [cv2.imdecode(array, cv2.IMREAD_COLOR_RGB) for array in arrays],
        "torchvision": lambda: [decode_jpeg(file).permute(1, 2, 0) for file in tensors],
        "simplejpeg": lambda: [simplejpeg.decode_jpeg(file) for file in files],
        "deit": lambda: [decode_image(file, "it") for file in files],
    }


def resizing(images: list[Image.Image]) -> dict[str, Side]:
    """The whole picture to 224 x 224, bicubic; OpenCV's has no antialiasing."""
    arrays = [np.array(image) for image in images]
    size = (SIZE, SIZE)

    def by_torch(array: np.ndarray) -> torch.Tensor:
        planes = torch.from_numpy(array).view(1, *array.shape).permute(0, 3, 1, 2)
        return functional.interpolate(planes, size, mode="bicubic", antialias=True)[0]

    return {
        "Pillow": lambda: [image.resize(size, BICUBIC) for image in images],
        "OpenCV, not antialiased": lambda: [
            cv2.resize(array, size, interpolation=cv2.INTER_CUBIC) for array in arrays
        ],
        "deit (torch)": lambda: [by_torch(array).permute(1, 2, 0) for array in arrays],
    }


def operating(images: list[Image.Image], operation: Operation) -> dict[str, Side]:
    """One operation on finished views; Pillow's through timm."""
    name, argument, kernel = OPERATIONS[operation]
    views = [image.resize((SIZE, SIZE), BICUBIC) for image in images]
    arrays = [np.array(view) for view in views]
    tensors = [torch.from_numpy(array).permute(2, 0, 1).contiguous() for array in arrays]
    by_timm = auto_augment.NAME_TO_OP[name]
    arguments = [] if argument == 0 else [argument]
    settings = {} if argument == 0 else {"fillcolor": FILL, "resample": BICUBIC}
    sides: dict[str, Side] = {
        "Pillow": lambda: [by_timm(view, *arguments, **settings) for view in views]
    }
    if kernel is not None:
        sides["torchvision"] = lambda: [kernel(tensor).permute(1, 2, 0) for tensor in tensors]
    if operation in (Operation.ROTATE, Operation.SHEAR_X):
        turn = cv2.getRotationMatrix2D(((SIZE - 1) / 2, (SIZE - 1) / 2), argument, 1)
        slide = np.array([[1, argument, 0.5 * argument], [0, 1, 0]])
        matrix, way = (turn, 0) if operation == Operation.ROTATE else (slide, cv2.WARP_INVERSE_MAP)
        sides["OpenCV warp"] = lambda: [
            cv2.warpAffine(
                array, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC | way, borderValue=FILL
            )
            for array in arrays
        ]
    sides["deit"] = lambda: [apply_operation(array, operation, argument, FILL) for array in arrays]
    return sides


def measure(sides: Mapping[str, Side], count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds per image, and the mean distance from the first side."""
    results = {
        name: np.stack([np.asarray(each) for each in side()]) for name, side in sides.items()
    }
    first = next(iter(results.values())).astype(float)
    timings = time_interleaved(sides, rounds=rounds, device=torch.device("cpu"))
    return {
        name: {
            "microseconds": 1e6 * timing.median / count,
            "distance": float(np.abs(results[name] - first).mean()),
        }
        for name, timing in timings.items()
    }


def main(words: list[str] | None = None) -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(words)
    check_writable(options.json)
    images = photographs()
    with use_threads(1):
        told = {"decode": measure(decoding(images), len(images), options.rounds)}
        told["resize"] = measure(resizing(images), len(images), options.rounds)
        for operation in OPERATIONS:
            sides = operating(images, operation)
            told[operation.name.lower()] = measure(sides, len(images), options.rounds)
    for kind, sides in told.items():
        parts = (
            f"{name} {figures['microseconds']:.0f} us"
            + (f" ({figures['distance']:.2f})" if figures["distance"] else "")
            for name, figures in sides.items()
        )
        print(f"{kind:14} {', '.join(parts)}")
    if options.json:
        environment = machine.describe_environment(torch.device("cpu"))
        environment["versions"] |= {"opencv": cv2.__version__, "simplejpeg": simplejpeg.__version__}
        write_json(options.json, {"kernels": told, "environment": environment})


if __name__ == "__main__":
    main()
