"""Operations on batches: Pillow is the referee, over all magnitudes, on photographs and noise."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from deit.data import operations_device
from deit.data.operations import Operation
from deit.data.operations_device import apply_plan, apply_to_all
from deit.data.plan import ViewConfig, plan_views

from .photographs import photograph_crops

FILL = (124, 116, 104)
LEVELS = np.linspace(0, 1, 21)
FACTORS = 0.1 + 1.8 * LEVELS
NONE = [0.0]
COLOUR: dict[Operation, tuple[Callable[[Image.Image, float], Image.Image], object]] = {
    Operation.AUTO_CONTRAST: (lambda image, _: ImageOps.autocontrast(image), NONE),
    Operation.EQUALIZE: (lambda image, _: ImageOps.equalize(image), NONE),
    Operation.INVERT: (lambda image, _: ImageOps.invert(image), NONE),
    Operation.POSTERIZE: (lambda image, bits: ImageOps.posterize(image, int(bits)), range(1, 9)),
    Operation.SOLARIZE: (lambda image, t: ImageOps.solarize(image, int(t)), range(0, 257, 8)),
    Operation.SOLARIZE_ADD: (
        lambda image, added: image.point(
            [min(255, value + int(added)) if value < 128 else value for value in range(256)] * 3
        ),
        range(0, 129, 8),
    ),
    Operation.COLOR: (lambda image, f: ImageEnhance.Color(image).enhance(f), FACTORS),
    Operation.CONTRAST: (lambda image, f: ImageEnhance.Contrast(image).enhance(f), FACTORS),
    Operation.BRIGHTNESS: (lambda image, f: ImageEnhance.Brightness(image).enhance(f), FACTORS),
    Operation.SHARPNESS: (lambda image, f: ImageEnhance.Sharpness(image).enhance(f), FACTORS),
    Operation.GRAYSCALE: (lambda image, _: image.convert("L").convert("RGB"), NONE),
    Operation.GAUSSIAN_BLUR: (
        lambda image, sigma: image.filter(ImageFilter.GaussianBlur(sigma)),
        [*(2.5 * LEVELS), 4.4, 9.0],
    ),
}
MATRICES: dict[Operation, Callable[[float, int, int], tuple[float, ...]]] = {
    Operation.SHEAR_X: lambda share, width, height: (1, share, 0, 0, 1, 0),
    Operation.SHEAR_Y: lambda share, width, height: (1, 0, 0, share, 1, 0),
    Operation.TRANSLATE_X: lambda share, width, height: (1, 0, share * width, 0, 1, 0),
    Operation.TRANSLATE_Y: lambda share, width, height: (1, 0, 0, 0, 1, share * height),
}
NOISE = [
    np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for width, height in ((61, 47), (40, 90), (1, 9), (9, 1), (2, 2), (1, 1))
]


def single(values: object) -> np.ndarray:
    """Arguments as a plan holds them: rounded to single precision."""
    return np.asarray(list(values), dtype=np.float32).astype(np.float64)  # type: ignore[call-overload]


def after(
    operation: int, image: np.ndarray, arguments: np.ndarray, interpolation: str = "bicubic"
) -> np.ndarray:
    """One image after the operation with each argument, as a batch: ``[arguments, h, w, 3]``."""
    images = as_tensor(np.stack([image] * len(arguments)))
    return as_pixels(apply_to_all(images, operation, arguments, FILL, interpolation))


def as_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())


def as_pixels(images: Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()


def pillow_warps(
    operation: Operation, image: np.ndarray, arguments: np.ndarray, interpolation: str
) -> np.ndarray:
    """The geometric operations in Pillow's own two-dimensional, double-precision arithmetic."""
    picture, resample = Image.fromarray(image), Image.Resampling[interpolation.upper()]
    if operation == Operation.ROTATE:
        turned = [picture.rotate(degrees, resample, fillcolor=FILL) for degrees in arguments]
        return np.stack([np.asarray(one) for one in turned])
    matrices = [MATRICES[operation](share, *picture.size) for share in arguments]
    how = {"resample": resample, "fillcolor": FILL}
    moved = [
        picture.transform(picture.size, Image.Transform.AFFINE, matrix, **how)
        for matrix in matrices
    ]
    return np.stack([np.asarray(one) for one in moved])


@pytest.mark.parametrize("size", [224, 32])
@pytest.mark.parametrize("operation", COLOUR)
def test_colour_operation_equals_pillow_over_all_magnitudes(operation, size):
    """Byte for byte, each image of the batch with another argument."""
    pillow, values = COLOUR[operation]
    arguments = single(values)
    for image in photograph_crops(size, 1 if size == 224 else 4):
        expected = [np.asarray(pillow(Image.fromarray(image), v)) for v in arguments.tolist()]
        np.testing.assert_array_equal(after(operation, image, arguments), np.stack(expected))


@pytest.mark.parametrize("operation", COLOUR)
def test_colour_operation_equals_pillow_on_noise_of_any_shape(operation):
    """Every value in every place, down to images of one pixel."""
    pillow, values = COLOUR[operation]
    arguments = single(values)
    for image in NOISE:
        expected = [np.asarray(pillow(Image.fromarray(image), v)) for v in arguments.tolist()]
        np.testing.assert_array_equal(after(operation, image, arguments), np.stack(expected))


@pytest.mark.parametrize("values", [(7,), (0, 255), (250, 251, 252), (0, 3, 255)])
def test_tables_of_images_with_few_values_are_pillows(values):
    """A flat channel has nothing to stretch, and a histogram of few bins too little to flatten."""
    image = np.random.default_rng(1).choice(np.array(values, np.uint8), (20, 20, 3))
    for operation in (Operation.AUTO_CONTRAST, Operation.EQUALIZE, Operation.CONTRAST):
        expected = np.asarray(COLOUR[operation][0](Image.fromarray(image), 1.7))
        np.testing.assert_array_equal(after(operation, image, np.array([1.7]))[0], expected)


def test_every_range_of_values_is_stretched_as_pillow_does():
    """In double precision and in Pillow's order: else whole numbers fall one short."""
    ranges = [(low, high) for low in range(0, 256, 16) for high in range(low, 256)]
    values = np.stack([np.arange(256).clip(*bounds) for bounds in ranges]).astype(np.uint8)
    images = np.repeat(values.reshape(-1, 16, 16, 1), 3, axis=3)
    ours = as_pixels(
        apply_to_all(as_tensor(images), Operation.AUTO_CONTRAST, np.zeros(len(images)))
    )
    expected = [np.asarray(ImageOps.autocontrast(Image.fromarray(image))) for image in images]
    np.testing.assert_array_equal(ours, np.stack(expected))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [224, 32])
@pytest.mark.parametrize("operation", MATRICES)
def test_shear_and_translation_are_pillows_over_all_magnitudes(operation, size, interpolation):
    """At most a grey level, where single and double precision fall on two sides of a whole one."""
    largest = 0.45 if operation in (Operation.TRANSLATE_X, Operation.TRANSLATE_Y) else 0.3
    arguments = single(largest * (2 * LEVELS - 1))
    for image in [*photograph_crops(size, 2), *NOISE]:
        ours = after(operation, image, arguments, interpolation).astype(int)
        distance = np.abs(ours - pillow_warps(operation, image, arguments, interpolation))
        assert distance.max() <= 1
        if len(image) == size:
            assert distance.mean() <= (0.002 if interpolation == "bicubic" else 0.01)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [224, 32])
def test_rotation_is_opencvs_over_all_magnitudes(size, interpolation):
    """The same kernel about the same centre: a grey level in few values, from rounding."""
    degrees = single(60 * LEVELS - 30)
    kernel = cv2.INTER_CUBIC if interpolation == "bicubic" else cv2.INTER_LINEAR
    how = {"flags": kernel | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    for image in photograph_crops(size, 2):
        for angle, ours in zip(degrees, after(4, image, degrees, interpolation), strict=True):
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            x = (size - 1) / 2
            matrix = np.array(
                [[cos, -sin, x - cos * x + sin * x], [sin, cos, x - sin * x - cos * x]]
            )
            theirs = cv2.warpAffine(image, matrix, (size, size), **how)
            inside = (ours != FILL).any(-1)
            distance = np.abs(ours.astype(int) - theirs)[inside]
            assert distance.max() <= 1
            assert distance.mean() <= 0.002


@pytest.mark.parametrize(
    ("interpolation", "mean", "most"), [("bicubic", 1.5, 32), ("bilinear", 0.5, 1)]
)
@pytest.mark.parametrize("size", [224, 32])
def test_rotation_is_near_pillows_over_all_magnitudes(size, interpolation, mean, most):
    """Another cubic (a = -0.75 for -1), and rounded where Pillow cuts."""
    degrees = single(60 * LEVELS - 30)
    distances = [
        np.abs(
            after(Operation.ROTATE, image, degrees, interpolation).astype(int)
            - pillow_warps(Operation.ROTATE, image, degrees, interpolation)
        )
        for image in photograph_crops(size, 2)
    ]
    assert np.max(distances) <= most
    assert np.mean(distances) <= mean


@pytest.mark.parametrize("operation", [Operation.ROTATE, *MATRICES])
def test_what_comes_in_from_outside_is_what_pillow_fills(operation):
    """Pixel for pixel, at angles and shares of no special value."""
    arguments = np.random.default_rng(0).uniform(-1, 1, 40)
    arguments *= 30 if operation == Operation.ROTATE else 0.45
    white = np.full((63, 64, 3), 255, np.uint8)
    ours = after(operation, white, arguments)
    theirs = pillow_warps(operation, white, arguments, "bicubic")
    np.testing.assert_array_equal((ours == FILL).all(-1), (theirs == FILL).all(-1))
    assert 0.05 < (ours == FILL).all(-1).mean() < 0.5


def test_posterize_to_zero_bits_is_black():
    """As on the host, where Pillow raises."""
    assert not after(Operation.POSTERIZE, NOISE[0], np.zeros(1)).any()


def test_unknown_number_is_refused():
    """A plan from a newer release must not be rendered as something else."""
    with pytest.raises(ValueError, match="99"):
        after(99, NOISE[0], np.zeros(1))


def planned(count: int, size: int, **settings: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flips, operations and arguments in which everything occurs: RandAugment and colour jitter."""
    config = ViewConfig(color_jitter=0.3, op_probability=1.0, magnitude_std=3.0, **settings)
    plan = plan_views(config, size, 0, 0, np.arange(count))
    return plan.flip, plan.ops, plan.arguments


def test_flip_comes_first_and_operations_follow_in_their_order():
    """Solarising after turning would invert the fill; turning before the flip, turn back."""
    image = photograph_crops(32, 1)[0]
    steps = np.array([[Operation.SOLARIZE, Operation.SHEAR_X]], np.int8)
    values = np.array([[100, 0.25]], np.float32)
    finished = apply_plan(as_tensor(image[None]), np.array([True]), steps, values, FILL)
    solarized = np.asarray(ImageOps.solarize(Image.fromarray(image[:, ::-1].copy()), 100))
    expected = pillow_warps(Operation.SHEAR_X, solarized, np.array([0.25]), "bicubic")
    assert np.abs(as_pixels(finished).astype(int) - expected).max() <= 1


def test_an_image_is_the_same_alone_and_in_any_company():
    """Not of the others, their number, their order or the size of the chunks."""
    images = as_tensor(photograph_crops(32, 120))
    whole = apply_plan(images, *planned(120, 32))
    order = np.random.default_rng(0).permutation(120)
    shuffled = apply_plan(images[order], *(part[order] for part in planned(120, 32)))
    assert torch.equal(shuffled, whole[order])
    for row in range(0, 120, 7):
        alone = apply_plan(
            images[row : row + 1], *(part[row : row + 1] for part in planned(120, 32))
        )
        assert torch.equal(alone[0], whole[row])


def test_large_groups_go_through_in_parts(monkeypatch):
    """Memory is bounded, and the bytes are the same."""
    images = as_tensor(photograph_crops(32, 64))
    whole = apply_plan(images, *planned(64, 32))
    lengths: list[int] = []
    apply = operations_device.apply_to_all
    monkeypatch.setattr(operations_device, "_CHUNK_PIXELS", {"cpu": 2 * 32 * 32})
    monkeypatch.setattr(
        operations_device,
        "apply_to_all",
        lambda images, *more: lengths.append(len(images)) or apply(images, *more),
    )
    assert torch.equal(apply_plan(images, *planned(64, 32)), whole)
    assert set(lengths) == {1, 2}


def test_images_are_left_as_they_were():
    """A host batch may be finished twice."""
    images = as_tensor(photograph_crops(32, 50))
    before = images.clone()
    assert not torch.equal(apply_plan(images, *planned(50, 32)), before)
    assert torch.equal(images, before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("policy", ["rand-augment", "auto-augment", "3-augment"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_gpu_makes_the_bytes_of_the_cpu_and_is_not_waited_for(policy, interpolation):
    """Integers, and elementwise operations that round once each: nothing may differ."""
    plan = plan_views(ViewConfig(policy=policy, color_jitter=0.3), 96, 0, 0, np.arange(300))
    steps = plan.flip, plan.ops, plan.arguments, FILL, interpolation
    images = as_tensor(photograph_crops(96, 300))
    there = images.cuda()
    apply_plan(there, *steps)  # what is set up at first use may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        finished = apply_plan(there, *steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(finished.cpu(), apply_plan(images, *steps))
