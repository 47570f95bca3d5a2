"""Which image stands at which place of an epoch, and which places belong to which process.

An epoch is one global order of views. A view's position in it is all that the rest of the data path
needs: everything random about the view is drawn from (seed, epoch, position).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from deit.errors import UserError
from deit.randomness import permutation


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderConfig:
    """How an epoch goes through the data."""

    repeats: int = 1
    """Repeated augmentation: views taken of each image, one after another; an epoch keeps its
    number of views, so it sees a `repeats`-th of the images. 1 = off, 3 in the paper (Table 9)."""
    bank_epochs: int = 0
    """Epochs of which the views are used again and again, in turn: epoch e shows those of epoch
    e modulo this, in the same order and mixing, so that as many epochs of stored labels serve a run
    of any length. 0: every epoch has views of its own."""

    def __post_init__(self) -> None:
        if self.bank_epochs < 0:
            raise UserError(
                f"order.bank_epochs = {self.bank_epochs}", "0 or more", "0 for new views always"
            )
        if self.repeats < 1:
            raise UserError(
                f"order.repeats = {self.repeats}",
                "a whole number from 1",
                "use 1 for one view each",
            )


def epoch_of_views(config: OrderConfig, epoch: int) -> int:
    """The epoch whose views an epoch shows: itself, or one of the bank.

    >>> [epoch_of_views(OrderConfig(bank_epochs=3), epoch) for epoch in range(5)]
    [0, 1, 2, 0, 1]
    """
    return epoch % config.bank_epochs if config.bank_epochs else epoch


def steps_per_epoch(num_samples: int, batch_size: int) -> int:
    """How many whole batches an epoch has: ``num_samples // batch_size``, at least one.

    A data set smaller than one batch is gone through as often as it takes to fill the batch. The
    reference's sampler rounds to multiples of 256 instead and has empty epochs below that.

    >>> steps_per_epoch(1_281_167, 1024)
    1251

    Raises:
        UserError: without a single sample, or for a batch size below 1.
    """
    if num_samples < 1:
        raise UserError("the training split holds no images", "at least one", "check the data")
    if batch_size < 1:
        raise UserError(f"batch_size = {batch_size}", "a whole number from 1", "set --batch-size")
    return max(1, num_samples // batch_size)


def epoch_samples(
    config: OrderConfig, seed: int, epoch: int, num_samples: int, num_positions: int
) -> Int64[np.ndarray, "num_positions"]:
    """The index of the image at each position of an epoch.

    A fresh permutation of the data set, each image `config.repeats` times in a row (the loader
    decodes it once for all of them), cut after `num_positions`; further permutations follow where
    one does not suffice. Repeated augmentation is that of Hoffer et al. (2020) with the length of
    Berman et al. (2019): the epoch does not grow, it sees fewer distinct images. Unlike the
    reference's it needs no particular number of processes.

    Args:
        config: how often each image is repeated.
        seed, epoch: the place in the run.
        num_samples: size of the data set.
        num_positions: length of the epoch, steps x batch size.

    >>> epoch_samples(OrderConfig(repeats=3), 0, 0, num_samples=4, num_positions=7).shape
    (7,)
    """
    num_images = -(-num_positions // config.repeats)
    num_rounds = -(-num_images // num_samples)
    passes = [permutation(seed, epoch, num_samples, round) for round in range(num_rounds)]
    return np.repeat(np.concatenate(passes)[:num_images], config.repeats)[:num_positions]


def share(num_places: int, rank: int, world_size: int, unit: int = 1) -> slice:
    """The contiguous part of ``range(num_places)`` that belongs to one process.

    Args:
        num_places: how many there are to share, of a batch or of a data set.
        rank, world_size: which process of how many.
        unit: places that must stay together, such as a mixing group.

    >>> [share(1024, rank, 4, unit=64) for rank in (0, 3)]
    [slice(0, 256, None), slice(768, 1024, None)]
    """
    num_units = -(-num_places // unit)
    first, last = (num_units * part // world_size * unit for part in (rank, rank + 1))
    return slice(first, min(last, num_places))
