"""The random numbers that everything else is drawn from."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from deit import randomness
from deit.randomness import (
    Stream,
    normal,
    normal_table,
    permutation,
    philox,
    philox_rounds,
    random_bits,
    uniform,
)

# Random123's kat_vectors for philox4x32-10: counter, key, output.
KNOWN_ANSWERS = [
    ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    (
        [0xFFFFFFFF] * 4,
        (0xFFFFFFFF, 0xFFFFFFFF),
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
    ),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(
    counter: list[int], key: tuple[int, int], expected: list[int]
) -> None:
    """The generator is Philox4x32-10 and no other, by the vectors that its authors publish."""
    words = tuple(np.array(word, dtype=np.uint32) for word in counter)
    assert philox(words, key).tolist() == expected


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_rounds_in_torch_give_the_published_answers(
    counter: list[int], key: tuple[int, int], expected: list[int]
) -> None:
    """A device, which has signed integers only, makes the same bits as the host."""
    words = [torch.tensor([word]) for word in counter]
    assert [word.item() for word in philox_rounds(words, key)] == expected


@given(
    positions=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5),
    count=st.integers(1, 20),
    more=st.integers(0, 9),
)
def test_numbers_depend_on_their_place_alone(positions: list[int], count: int, more: int) -> None:
    """Neither the other positions of a call nor the number of draws changes a number."""
    together = random_bits(3, 5, np.array(positions), Stream.CROP, count + more)
    for row, position in enumerate(positions):
        alone = random_bits(3, 5, np.array([position]), Stream.CROP, count)
        assert (alone[0] == together[row, :count]).all()


def test_every_coordinate_of_the_place_matters() -> None:
    """Seed, epoch, stream and all 63 bits of the position each lead to other numbers."""
    places = [
        (0, 0, 0, Stream.CROP),
        (1, 0, 0, Stream.CROP),
        (0, 1, 0, Stream.CROP),
        (0, 0, 0, Stream.FLIP),
        *((0, 0, 1 << bit, Stream.CROP) for bit in range(63)),
    ]
    draws = {
        random_bits(seed, epoch, np.array([position]), stream, 4).tobytes()
        for seed, epoch, position, stream in places
    }
    assert len(draws) == len(places)


def test_uniforms_follow_the_uniform_distribution() -> None:
    """Along positions and along the draws of one position."""
    across = uniform(0, 0, np.arange(20_000), Stream.MIX, 3)
    along = uniform(0, 0, np.arange(1), Stream.MIX, 20_000)
    for sample in (*across.T, along[0]):
        assert scipy.stats.kstest(sample, "uniform").pvalue > 0.01


def test_draws_of_a_position_are_not_correlated() -> None:
    """32 draws at 20,000 positions: no pair correlates beyond five standard errors."""
    draws = uniform(1, 2, np.arange(20_000), Stream.OPERATIONS, 32)
    correlation = np.corrcoef(draws.T) - np.eye(32)
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)


def test_uniforms_never_reach_zero_or_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outermost words become 2**-33 and 1 - 2**-33, exactly."""
    outermost = np.array([[0, 2**32 - 1]], dtype=np.uint32)
    monkeypatch.setattr(randomness, "random_bits", lambda *_: outermost)
    assert uniform(0, 0, np.arange(1), Stream.MIX, 2).tolist() == [[2**-33, 1 - 2**-33]]


def test_a_permutation_holds_every_item_once() -> None:
    """Also for no items and for one."""
    for size in (0, 1, 2, 1000):
        assert sorted(permutation(0, 0, size).tolist()) == list(range(size))


def test_all_orders_are_equally_likely() -> None:
    """The 24 orders of four items over 4800 epochs, by the chi-squared test."""
    seen = [tuple(permutation(0, epoch, 4).tolist()) for epoch in range(4800)]
    counts = [seen.count(order) for order in itertools.permutations(range(4))]
    assert sum(counts) == 4800
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_orders_differ_by_seed_epoch_and_round() -> None:
    """A run does not see the data in the same order twice."""
    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 2)]
    orders = {permutation(seed, epoch, 50, round).tobytes() for seed, epoch, round in places}
    assert len(orders) == len(places)


def test_normal_table_holds_the_quantiles_of_scipy() -> None:
    """Within one rounding of float32, and exactly symmetric."""
    table = normal_table()
    expected = scipy.stats.norm.ppf((np.arange(65536) + 0.5) / 65536)
    np.testing.assert_allclose(table, expected, rtol=2**-23)
    assert (table == -table[::-1]).all()


def test_normals_follow_the_normal_distribution() -> None:
    """For odd counts and none too; 20,000 draws cannot tell a table of 65536 quantiles from it."""
    draws = normal(0, 0, np.arange(4), Stream.ERASE_NOISE, 5001)
    assert draws.shape == (4, 5001)
    assert normal(0, 0, np.arange(0), Stream.ERASE_NOISE, 3).shape == (0, 3)
    assert scipy.stats.kstest(draws.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(draws)[0, 1]) < 5 / np.sqrt(5001)


def test_no_global_generator_is_touched() -> None:
    """Drawing leaves NumPy's global generator where it was."""
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    uniform(0, 0, np.arange(3), Stream.MIX, 5)
    permutation(0, 0, 10)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_streams_keep_their_numbers() -> None:
    """A renumbered stream would change every run ever made: add new ones at the end."""
    assert {stream.name: stream.value for stream in Stream} == {
        "ORDER": 1,
        "CROP": 2,
        "FLIP": 3,
        "OPERATIONS": 4,
        "ERASE": 5,
        "ERASE_NOISE": 6,
        "MIX": 7,
        "STOCHASTIC_DEPTH": 8,
        "COLOR_JITTER": 9,
        "INITIAL_WEIGHTS": 10,
        "SPLIT": 11,
        "DROPOUT": 12,
        "MAGNITUDE": 13,
    }
