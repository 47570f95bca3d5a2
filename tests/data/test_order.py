"""The epoch's one global order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timm.data.distributed_sampler import RepeatAugSampler

from deit.data.order import OrderConfig, epoch_samples, share, steps_per_epoch
from deit.errors import UserError


@given(
    repeats=st.integers(1, 5),
    num_samples=st.integers(1, 40),
    num_positions=st.integers(1, 200),
    epoch=st.integers(0, 9),
)
def test_repeats_are_consecutive_and_no_image_is_favoured(
    repeats: int, num_samples: int, num_positions: int, epoch: int
) -> None:
    """Runs of `repeats` views of an image; none has a second run before all had their first."""
    order = epoch_samples(OrderConfig(repeats=repeats), 0, epoch, num_samples, num_positions)
    images = order[::repeats]
    assert len(order) == num_positions
    assert (np.repeat(images, repeats)[:num_positions] == order).all()
    for start in range(0, len(images), num_samples):
        one_pass = images[start : start + num_samples].tolist()
        assert len(set(one_pass)) == len(one_pass)
        assert set(one_pass) <= set(range(num_samples))


def test_an_epoch_of_imagenet_has_the_published_numbers() -> None:
    """1251 steps of 1024 views of 427,008 distinct images, at three repeats."""
    steps = steps_per_epoch(1_281_167, 1024)
    order = epoch_samples(OrderConfig(repeats=3), 0, 0, 1_281_167, steps * 1024)
    assert (steps, len(order), len(np.unique(order))) == (1251, 1_281_024, 427_008)


def test_an_epoch_sees_as_many_images_as_timms_repeated_augmentation() -> None:
    """Where timm's sampler works: from 256 images on, and the number of processes made up."""
    theirs = list(RepeatAugSampler(range(1024), num_replicas=1, rank=0, shuffle=True))
    ours = epoch_samples(OrderConfig(repeats=3), 0, 0, 1024, steps_per_epoch(1024, 256) * 256)
    assert len(ours) == len(theirs)
    assert len(set(ours.tolist())) == len(set(theirs))


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "steps"), [(100, 256, 1), (1, 7, 1), (9, 4, 2)]
)
def test_small_data_sets_have_whole_batches(num_samples: int, batch_size: int, steps: int) -> None:
    """The reference's sampler has empty epochs below 256 images; here the batch is filled."""
    assert steps_per_epoch(num_samples, batch_size) == steps
    order = epoch_samples(OrderConfig(repeats=3), 0, 0, num_samples, steps * batch_size)
    assert len(order) == steps * batch_size


def test_orders_differ_by_seed_and_by_epoch() -> None:
    """In the reference the order does not depend on the seed."""
    places = [(0, 0), (0, 1), (1, 0)]
    orders = {epoch_samples(OrderConfig(), *place, 50, 50).tobytes() for place in places}
    assert len(orders) == 3


def test_further_passes_within_an_epoch_have_orders_of_their_own() -> None:
    """A small data set is not gone through twice in the same order."""
    first, second, third = epoch_samples(OrderConfig(), 0, 0, 50, 150).reshape(3, 50).tolist()
    assert first != second != third != first


def test_a_longer_epoch_begins_like_a_shorter_one() -> None:
    """The order is a function of the position, not of the epoch's length."""
    short, long = (epoch_samples(OrderConfig(repeats=2), 3, 1, 10, length) for length in (11, 70))
    assert (long[:11] == short).all()


@given(
    num_units=st.integers(0, 40),
    unit=st.integers(1, 8),
    rest=st.integers(0, 7),
    world_size=st.integers(1, 9),
)
def test_shares_are_contiguous_parts_of_whole_units(
    num_units: int, unit: int, rest: int, world_size: int
) -> None:
    """Together they are the whole, in the order of the ranks, and differ by one unit at most."""
    num_places = num_units * unit + rest % unit
    shares = [share(num_places, rank, world_size, unit) for rank in range(world_size)]
    places = [place for part in shares for place in range(num_places)[part]]
    assert places == list(range(num_places))
    assert all(part.start % unit == 0 or part.start == num_places for part in shares)
    lengths = [-(-(part.stop - part.start) // unit) for part in shares]
    assert max(lengths) - min(lengths) <= 1


def test_what_cannot_be_ordered_is_refused() -> None:
    """No data, no batch, no repeats."""
    with pytest.raises(UserError, match="holds no images"):
        steps_per_epoch(0, 4)
    with pytest.raises(UserError, match="batch_size = 0"):
        steps_per_epoch(4, 0)
    with pytest.raises(UserError, match=r"order\.repeats = 0"):
        OrderConfig(repeats=0)
