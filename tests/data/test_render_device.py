"""Normalising, erasing and mixing on the device, against Pillow, torchvision and the host."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as torchvision

from deit.data import render_device
from deit.data.mix import mix_images, mix_targets, smooth_targets
from deit.data.mix_plan import MixConfig, plan_mix
from deit.data.operations_device import apply_plan
from deit.data.plan import ViewConfig, plan_erasing, plan_views
from deit.data.preprocess import Preprocess
from deit.data.render_device import HostBatch, erase, finish_batch, finish_crops, normalise
from deit.randomness import Stream, normal

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CPU = torch.device("cpu")


def random_bytes(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def host_batch(places: int, size: int, first: int = 0) -> HostBatch:
    return HostBatch(
        images=random_bytes(places + first, 3, size, size)[first:],
        labels=torch.arange(first, first + places) % 7,
        samples=torch.arange(first, first + places),
        positions=torch.arange(first, first + places),
        epoch=3,
        step=0,
    )


def finish(host: HostBatch, channels: int = 3, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    batch = finish_batch(
        host,
        views=ViewConfig(),
        mix=MixConfig(),
        preprocess=Preprocess(
            image_size=16, channels=channels, mean=MEAN[:channels], std=STD[:channels]
        ),
        num_classes=7,
        seed=5,
        device=device,
    )
    assert (batch.samples.cpu() == host.samples).all()
    assert (batch.positions.cpu() == host.positions).all()
    assert batch.epoch == host.epoch
    return batch.images, batch.targets


def test_normalisation_is_torchvisions() -> None:
    """ToTensor and Normalize, all 256 values, to the rounding of float32 at values up to 3."""
    images = torch.arange(256, dtype=torch.uint8).expand(3, 256)[None, :, :, None]
    expected = torchvision.normalize(torchvision.to_dtype(images, torch.float32, True), MEAN, STD)
    torch.testing.assert_close(normalise(images, MEAN, STD), expected, rtol=0, atol=1e-6)


def test_grey_is_pillows_luma() -> None:
    """Exactly the bytes of convert("L")."""
    images = random_bytes(1, 3, 200, 200)
    grey = Image.fromarray(images[0].permute(1, 2, 0).numpy()).convert("L")
    luma = 255 * normalise(images, (0.0,), (1.0,), channels=1)[0, 0]
    assert (luma.round().to(torch.uint8).numpy() == np.asarray(grey)).all()
    torch.testing.assert_close(luma, luma.round(), rtol=0, atol=1e-4)


@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 4), st.integers(1, 4)),
        min_size=1,
        max_size=6,
    ),
    channels=st.sampled_from([1, 3]),
    first=st.sampled_from([0, 2**32 - 2, 2**62]),
)
def test_boxes_hold_the_normal_numbers_of_their_position(
    boxes: list[tuple[int, int, int, int]], channels: int, first: int
) -> None:
    """Bit for bit those that the host would draw, and nothing else in the image changes."""
    positions = first + np.arange(len(boxes))
    before = torch.full((len(boxes), channels, 9, 8), 7.0)
    after = erase(before.clone(), np.array(boxes, dtype=np.int32), 1, 2, positions)
    for row, (top, left, height, width) in enumerate(boxes):
        count = channels * height * width
        noise = normal(1, 2, positions[row : row + 1], Stream.ERASE_NOISE, count)
        expected = before[row].clone()
        expected[:, top : top + height, left : left + width] = torch.from_numpy(
            noise.reshape(channels, height, width)
        )
        assert torch.equal(after[row], expected)


@given(
    positions=st.lists(st.integers(0, 2**63 - 1), max_size=4),
    count=st.integers(0, 50),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 2**32 - 1),
)
def test_a_device_draws_the_numbers_of_the_host(
    positions: list[int], count: int, seed: int, epoch: int
) -> None:
    """In torch's signed integers, bit for bit, here run on the CPU."""
    place = (seed, epoch, np.array(positions, dtype=np.int64), Stream.ERASE_NOISE, count)
    drawn = render_device._draw_normal_in_torch(*place, CPU)
    assert (drawn.numpy() == normal(*place)).all()
    assert (render_device.draw_normal(*place, CPU) == drawn).all()


def test_a_batch_is_normalised_then_erased_then_mixed() -> None:
    """The reference's order: noise is not normalised, and is mixed into the partner."""
    host = host_batch(100, 16)
    positions = host.positions.numpy()
    images = normalise(host.images, MEAN, STD)
    boxes = plan_erasing(ViewConfig(), 16, 5, 3, positions)
    assert 10 < (boxes[:, 2] > 0).sum() < 45
    plan = plan_mix(MixConfig(), 16, 5, 3, positions)
    expected_images = mix_images(erase(images, boxes, 5, 3, positions), plan)
    expected_targets = mix_targets(smooth_targets(host.labels, 7, 0.1), plan)
    finished_images, finished_targets = finish(host)
    assert torch.equal(finished_images, expected_images)
    assert torch.equal(finished_targets, expected_targets)


def test_crops_get_their_operations_before_all_else():
    """As the plan of their positions says; then they are a batch like any other."""
    crops = dataclasses.replace(host_batch(100, 16), holds="crops")
    plan = plan_views(ViewConfig(), 16, 5, 3, crops.positions.numpy())
    views = apply_plan(crops.images, plan.flip, plan.ops, plan.arguments)
    finished_images, finished_targets = finish(crops)
    expected_images, expected_targets = finish(
        dataclasses.replace(host_batch(100, 16), images=views)
    )
    assert torch.equal(finished_images, expected_images)
    assert torch.equal(finished_targets, expected_targets)
    assert not torch.equal(finished_images, finish(host_batch(100, 16))[0])


def test_crops_are_finished_with_the_fill_and_kernel_of_the_views():
    """Not with the defaults."""
    crops, positions = random_bytes(60, 3, 16, 16), np.arange(60)
    views = ViewConfig(fill=(1, 2, 3), interpolation="bilinear")
    plan = plan_views(views, 16, 5, 3, positions)
    steps = plan.flip, plan.ops, plan.arguments
    finished = finish_crops(crops, views, 5, 3, positions)
    assert torch.equal(finished, apply_plan(crops, *steps, (1, 2, 3), "bilinear"))
    assert not torch.equal(finished, apply_plan(crops, *steps, (1, 2, 3)))
    assert not torch.equal(finished, apply_plan(crops, *steps, interpolation="bilinear"))


def test_shares_of_a_batch_are_finished_as_the_whole_is() -> None:
    """Two processes with whole mixing groups make what one makes."""
    whole_images, whole_targets = finish(host_batch(192, 16))
    parts = [finish(host_batch(128, 16)), finish(host_batch(64, 16, first=128))]
    assert torch.equal(torch.cat([images for images, _ in parts]), whole_images)
    assert torch.equal(torch.cat([targets for _, targets in parts]), whole_targets)


def test_a_grey_model_gets_one_channel() -> None:
    """Erased and mixed like any other."""
    images, targets = finish(host_batch(70, 16), channels=1)
    assert images.shape == (70, 1, 16, 16)
    torch.testing.assert_close(targets.sum(1), torch.ones(70))


def test_the_batch_of_the_host_is_left_as_it_was() -> None:
    """A host batch may be finished twice: for a student and, with other means, for a preview."""
    host = host_batch(70, 16)
    copy = host.images.clone()
    first, second = finish(host)[0], finish(host)[0]
    assert torch.equal(host.images, copy)
    assert torch.equal(first, second)


def test_finishing_leaves_the_global_generator_alone() -> None:
    """Noise and mixing are functions of their place."""
    before = torch.get_rng_state()
    finish(host_batch(70, 16))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("holds", ["views", "crops"])
def test_the_device_makes_what_the_host_makes(holds) -> None:
    """Noise and boxes bit for bit; arithmetic may be fused there: one rounding."""
    host = dataclasses.replace(host_batch(192, 16), holds=holds)
    here, there = finish(host), finish(host, device=torch.device("cuda"))
    torch.testing.assert_close(there[0].cpu(), here[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(there[1].cpu(), here[1], rtol=0, atol=1e-6)
