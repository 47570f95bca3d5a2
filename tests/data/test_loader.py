"""Batches are a function of the step: not of workers, processes or where one started."""

import dataclasses
import functools
import hashlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as torchvision

from deit.data import workers
from deit.data.classes import ClassList
from deit.data.images import BadImage
from deit.data.loader import TrainLoader, WorkerDied, eval_batches
from deit.data.mix_plan import MixConfig
from deit.data.order import OrderConfig, epoch_samples
from deit.data.plan import ViewConfig, plan_views
from deit.data.preprocess import Preprocess
from deit.data.render import render_view
from deit.data.render_device import HostBatch, finish_batch
from deit.errors import UserError
from noise_source import Noise

VIEWS = ViewConfig(policy="none")
PREPROCESS = Preprocess(image_size=16, crop_pct=0.8)


def train_loader(
    source: Noise, batch_size: int = 100, workers: int = 0, repeats: int = 3, **more: Any
) -> TrainLoader:
    order = OrderConfig(repeats=repeats)
    return TrainLoader(source, VIEWS, order, 16, 7, batch_size, workers, **more)


def digest(batch: HostBatch) -> str:
    """One hash of everything that a batch holds."""
    parts = (batch.images, batch.labels, batch.samples, batch.positions)
    content = b"".join(part.numpy().tobytes() for part in parts)
    return hashlib.sha256(content + f"{batch.epoch} {batch.step}".encode()).hexdigest()


@functools.cache
def digests_without_workers(repeats: int = 3, rank: int = 0, world_size: int = 1) -> list[str]:
    """Of three epochs of 250 images: seven steps and the first of the fourth."""
    loader = train_loader(Noise(250), repeats=repeats, rank=rank, world_size=world_size)
    assert loader.steps_per_epoch == 2
    return [digest(batch) for batch in loader.batches(0, 7)]


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("start", [0, 1, 3])
@pytest.mark.parametrize("repeats", [1, 3])
def test_batches_are_the_same_from_any_start_with_any_workers(
    workers: int, start: int, repeats: int
) -> None:
    """Byte for byte, over four epochs of two steps."""
    batches = train_loader(Noise(250), workers=workers, repeats=repeats).batches(start, 7)
    assert [digest(batch) for batch in batches] == digests_without_workers(repeats)[start:]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("workers", [1, 2])
def test_shares_are_the_same_with_any_workers(rank: int, workers: int) -> None:
    """Of two processes, whose shares are cut within the views of an image."""
    loader = train_loader(Noise(250), workers=workers, rank=rank, world_size=2)
    found = [digest(batch) for batch in loader.batches(1, 7)]
    assert found == digests_without_workers(3, rank, 2)[1:]
    assert found != digests_without_workers(3, 1 - rank, 2)[1:]


@pytest.mark.parametrize("ahead", [1, 3, 20])
def test_batches_are_the_same_however_many_are_ahead(
    ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ring's length decides nothing but memory; kept batches are not written over."""
    monkeypatch.setattr(workers, "num_slots", lambda _workers, _ahead: ahead)
    batches = list(train_loader(Noise(250), workers=2).batches(0, 7))
    assert [digest(batch) for batch in batches] == digests_without_workers()


def loader_of_crops(workers: int) -> TrainLoader:
    views = ViewConfig(op_probability=1.0)
    return TrainLoader(
        Noise(250), views, OrderConfig(repeats=3), 16, 7, 100, workers, render="device"
    )


@pytest.mark.parametrize("start", [0, 3])
def test_batches_of_crops_are_the_same_from_any_start_with_any_workers(start: int) -> None:
    """They are cut and resized here and say so; the rest follows on the device."""
    alone, together = (list(loader_of_crops(workers).batches(start, 5)) for workers in (0, 2))
    assert [digest(batch) for batch in alone] == [digest(batch) for batch in together]
    assert {batch.holds for batch in alone + together} == {"crops"}
    assert {batch.holds for batch in train_loader(Noise(250)).batches(start, 5)} == {"views"}


def test_a_batch_of_crops_holds_the_planned_crop_at_each_position() -> None:
    """Neither mirrored nor changed by an operation yet."""
    (batch,) = loader_of_crops(0).batches(3, 4)
    config = ViewConfig(op_probability=1.0)
    plan = plan_views(config, 16, 7, 1, batch.positions.numpy())
    bare = dataclasses.replace(plan, flip=np.zeros(100, bool), ops=np.zeros_like(plan.ops))
    for row in range(100):
        image = Noise(250).read(int(batch.samples[row]))
        view = render_view(image, bare, row, config, 16)
        assert (batch.images[row].permute(1, 2, 0).numpy() == view).all()


@pytest.mark.long
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_batches_are_the_same_however_workers_start(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS and Windows workers are spawned: what they need can be pickled."""
    preprocess = Preprocess(image_size=8)
    source = loader_source_that_can_be_pickled()
    expected = [batch.images for batch in eval_batches(source, preprocess, 10, workers=0)]
    monkeypatch.setattr(workers, "start_method", lambda: method)
    spawned = [batch.images for batch in eval_batches(source, preprocess, 10, workers=1)]
    assert torch.equal(torch.cat(spawned), torch.cat(expected))
    views = TrainLoader(source, ViewConfig(), OrderConfig(), 8, 0, 16, workers=1).batches(0, 2)
    direct = TrainLoader(source, ViewConfig(), OrderConfig(), 8, 0, 16, workers=0).batches(0, 2)
    assert [digest(batch) for batch in views] == [digest(batch) for batch in direct]


def loader_source_that_can_be_pickled() -> Any:
    from deit.data.dataset import ArraySource

    images = np.random.default_rng(0).integers(0, 256, (25, 8, 8), dtype=np.uint8)
    names = [str(index) for index in range(25)]
    return ArraySource(images, np.arange(25) % 3, ClassList(("a", "b", "c")), names)


def test_a_batch_holds_the_planned_view_at_each_position() -> None:
    """Against order, plan and renderer taken one by one, in the second epoch."""
    source = Noise(250)
    (batch,) = train_loader(source).batches(3, 4)
    positions = np.arange(100, 200)
    samples = epoch_samples(OrderConfig(repeats=3), 7, 1, 250, 200)[100:]
    plan = plan_views(VIEWS, 16, 7, 1, positions)
    assert (batch.epoch, batch.step) == (1, 3)
    assert (batch.positions.numpy() == positions).all()
    assert (batch.samples.numpy() == samples).all()
    assert (batch.labels.numpy() == source.labels[samples]).all()
    for row in range(100):
        view = render_view(source.read(samples[row]), plan, row, VIEWS, 16)
        assert (batch.images[row].permute(1, 2, 0).numpy() == view).all()


@pytest.mark.parametrize("repeats", [1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize("batch_size", [96, 250, 331])
@pytest.mark.parametrize("rank", [0, 1])
def test_repeated_views_are_decoded_once(repeats: int, batch_size: int, rank: int) -> None:
    """In a step of a process, wherever its batch and its share of it begin within an image."""
    read: list[int] = []
    half = batch_size - batch_size % 2
    source = Noise(2000, read.append)
    loader = train_loader(source, half, repeats=repeats, rank=rank, world_size=2)
    for batch in loader.batches(0, 3):
        assert len(read) == len(set(read)) == len(set(batch.samples.tolist()))
        assert len(batch.samples) == half // 2
        read.clear()


def test_epochs_of_less_than_a_batch_are_filled() -> None:
    """Seven images, batches of 100."""
    batches = list(train_loader(Noise(7), workers=1).batches(0, 3))
    assert [batch.epoch for batch in batches] == [0, 1, 2]
    assert all(len(batch.images) == 100 for batch in batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_no_global_generator_is_touched(workers: int) -> None:
    """As drawing a seed for the workers would do.

    (Python's own generator is not watched: the type checks of the test-suite draw from it.)
    """
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    list(train_loader(Noise(250), workers=workers).batches(0, 3))
    list(eval_batches(Noise(20), PREPROCESS, 8, workers))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_surfaces_with_its_name(workers: int) -> None:
    """As the same exception, from a worker or not, in training and in evaluation."""

    def spoil(index: int) -> None:
        if index == 13:
            raise BadImage("train/cat/13.jpg", "truncated")

    source = Noise(20, spoil)
    for batches in (
        train_loader(source, workers=workers).batches(0, 1),
        eval_batches(source, PREPROCESS, 8, workers),
    ):
        with pytest.raises(BadImage) as caught:
            list(batches)
        assert (caught.value.name, caught.value.reason) == ("train/cat/13.jpg", "truncated")
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_worker_that_dies_is_named(workers: int) -> None:
    """Killed as the kernel does when memory is short, in training and in evaluation."""

    def die(index: int) -> None:
        if index == 13:
            os.kill(os.getpid(), signal.SIGKILL)

    for batches in (
        train_loader(Noise(20, die), workers=workers).batches(0, 1),
        eval_batches(Noise(20, die), PREPROCESS, 8, workers),
    ):
        with pytest.raises(WorkerDied, match=r"SIGKILL while at 13\.jpg.*fewer --workers"):
            list(batches)
    assert not multiprocessing.active_children()


def test_other_errors_of_a_worker_keep_their_traceback() -> None:
    """A bug in a source is not taken for a dead worker."""

    def break_down(index: int) -> None:
        raise RuntimeError("the source has a bug")

    with pytest.raises(RuntimeError, match=r"^the source has a bug$") as caught:
        next(train_loader(Noise(20, break_down), workers=1).batches(0, 1))
    assert caught.type is RuntimeError
    assert "in break_down" in str(caught.value.__cause__)


def test_workers_outlive_ctrl_c() -> None:
    """A terminal sends it to all processes; the parent finishes its step and saves it first."""
    batches = train_loader(Noise(250), workers=2).batches(0, 6)
    received = [digest(next(batches))]
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGINT)
    received += [digest(batch) for batch in batches]
    assert received == digests_without_workers()[:6]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_end_with_their_iterator(workers: int) -> None:
    """Also when it is left half way."""
    batches = train_loader(Noise(250), workers=workers).batches(0, 6)
    next(batches)
    assert len(multiprocessing.active_children()) == workers
    batches.close()
    assert not multiprocessing.active_children()


def test_waiting_for_data_is_timed() -> None:
    """Without workers it is the time of rendering, and not the caller's own time."""
    slow = train_loader(Noise(250, lambda index: time.sleep(0.01)), batch_size=30)
    began = time.perf_counter()
    for _ in slow.batches(0, 2):
        time.sleep(0.1)
    assert 2 * 10 * 0.01 <= slow.seconds_waiting <= time.perf_counter() - began - 0.2


def test_processes_share_each_batch_in_whole_mixing_groups() -> None:
    """Their shares, finished one by one, are the batch of one process."""
    source = Noise(250)
    group = MixConfig(group=16)

    def finished(**share: int) -> Iterator[torch.Tensor]:
        for host in train_loader(source, batch_size=64, unit=16, **share).batches(0, 4):
            yield finish_batch(
                host,
                views=ViewConfig(),
                mix=group,
                preprocess=PREPROCESS,
                num_classes=5,
                seed=7,
                device=torch.device("cpu"),
            ).images

    shares = [finished(rank=rank, world_size=4) for rank in range(4)]
    for whole, *parts in zip(finished(), *shares, strict=True):
        assert torch.equal(torch.cat(parts), whole)


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    """Else the processes' gradients would not weigh the same."""
    with pytest.raises(UserError, match="batch_size = 100 on 2 processes") as caught:
        train_loader(Noise(250), world_size=2, unit=64)
    assert "128" in caught.value.allowed


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [8, 120])
def test_evaluation_sees_every_image_once_in_order(workers: int, batch_size: int) -> None:
    """With torchvision's normalisation of the evaluation transform; the last batch is smaller."""
    source = Noise(250)
    batches = list(eval_batches(source, PREPROCESS, batch_size, workers))
    samples = torch.cat([batch.samples for batch in batches])
    assert samples.tolist() == list(range(250))
    assert torch.cat([batch.labels for batch in batches]).tolist() == source.labels.tolist()
    assert {len(batch.images) for batch in batches} == {batch_size, 250 % batch_size}
    pixels = torch.stack([torch.from_numpy(PREPROCESS.apply(source.read(i))) for i in range(250)])
    scaled = torchvision.to_dtype(pixels, torch.float32, True)
    expected = torchvision.normalize(scaled, PREPROCESS.mean, PREPROCESS.std)
    images = torch.cat([batch.images for batch in batches])
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-6)


def test_evaluation_of_chosen_images_and_shares() -> None:
    """The indices in their order; processes get contiguous parts of them."""
    chosen = np.array([9, 3, 17, 4, 4, 0, 11])
    seen = [
        sample
        for rank in range(3)
        for batch in eval_batches(
            Noise(20), PREPROCESS, 2, 0, indices=chosen, rank=rank, world_size=3
        )
        for sample in batch.samples.tolist()
    ]
    assert seen == chosen.tolist()
    assert list(eval_batches(Noise(20), PREPROCESS, 2, 1, indices=chosen[:0])) == []
