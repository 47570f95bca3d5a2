"""Hashes of looks, and the search among them against brute force."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.fft import dctn

from deit.data.duplicates import (
    close_hashes,
    content_hash,
    equal_groups,
    layout_hash,
    near_groups,
    slope_hash,
)


def clustered(seed: int, count: int) -> np.ndarray:
    """Random hashes, each again with some bits turned, and a few repeated."""
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 2**64, count, dtype=np.uint64)
    flips = np.zeros(count, dtype=np.uint64)
    for place in range(count):
        for bit in random.choice(64, random.integers(0, 12), replace=False):
            flips[place] |= np.uint64(1) << np.uint64(bit)
    return np.concatenate([hashes, hashes ^ flips, hashes[:3]])


def brute_force(hashes: np.ndarray, distance: int) -> set[tuple[int, int]]:
    first, second = np.triu_indices(len(hashes), 1)
    close = np.bitwise_count(hashes[first] ^ hashes[second]) <= distance
    return set(zip(first[close].tolist(), second[close].tolist(), strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(0, 16))
def test_the_search_finds_what_brute_force_finds(seed: int, count: int, distance: int) -> None:
    """Every pair, each once, for any number of hashes and any distance."""
    hashes = clustered(seed, count)
    found = [tuple(pair) for part in close_hashes(hashes, distance) for pair in part.tolist()]
    assert len(found) == len(set(found))
    assert set(found) == brute_force(hashes, distance)


@pytest.mark.parametrize("distance", [0, 5, 12])
def test_the_search_is_exact_where_hashes_crowd(distance: int) -> None:
    """Hashes of few bits fill some buckets and leave others empty, as flat pictures do."""
    hashes = np.random.default_rng(3).integers(0, 2**9, 200, dtype=np.uint64) << np.uint64(20)
    found = {tuple(pair) for part in close_hashes(hashes, distance) for pair in part.tolist()}
    assert found == brute_force(hashes, distance)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 10))
def test_groups_are_the_connected_parts_of_brute_force(seed: int, count: int, near: int) -> None:
    """Layouts within the distance and slopes within twice it; neighbours of neighbours join."""
    layouts = clustered(seed, count)
    slopes = clustered(seed + 1, count)
    slopes[count // 2 :] = slopes[0]  # so that many of them agree
    both = brute_force(layouts, near) & brute_force(slopes, 2 * near)
    group = list(range(len(layouts)))
    for first, second in both:
        old, new = group[second], group[first]
        group = [new if member == old else member for member in group]
    expected = {
        tuple(place for place, member in enumerate(group) if member == number)
        for number in set(group)
        if group.count(number) > 1
    }
    found = near_groups(layouts, slopes, near)
    assert {tuple(members.tolist()) for members in found} == expected
    assert [members[0] for members in found] == sorted(members[0] for members in found)


def test_a_million_equal_looks_are_one_group_at_once() -> None:
    """Equal hashes are joined before the search: it would meet half a trillion pairs."""
    hashes = np.full(10**6, 7, dtype=np.uint64)
    (group,) = near_groups(hashes, hashes, 6)
    assert len(group) == 10**6


def test_equal_values_are_grouped_by_their_first_place() -> None:
    """Ascending within a group; what stands alone is in none."""
    hashes = np.array([5, 9, 7, 9, 5, 0, 9], dtype=np.uint64)
    assert [group.tolist() for group in equal_groups(hashes)] == [[0, 4], [1, 3, 6]]
    assert equal_groups(np.zeros(0, dtype=np.uint64)) == []


def test_the_layout_is_the_phash_of_another_library() -> None:
    """SciPy's cosine transform and NumPy's median over the 63 frequencies above the lowest."""
    random = np.random.default_rng(1)
    for _ in range(20):
        grey = random.integers(0, 256, (32, 32), dtype=np.uint8)
        frequencies = dctn(grey.astype(float), norm="ortho")[:8, :8].ravel()
        bits = frequencies > np.median(frequencies[1:])
        assert layout_hash(grey) == int("".join(str(int(bit)) for bit in bits), 2)


def test_the_slopes_compare_neighbours_from_left_to_right() -> None:
    """All rising, all falling, flat; the first row gives the highest bits."""
    rising = np.tile(np.arange(9, dtype=np.uint8), (8, 1))
    assert slope_hash(rising) == 2**64 - 1
    assert slope_hash(rising[:, ::-1].copy()) == 0
    rising[1:] = 7
    assert slope_hash(rising) == 0xFF << 56


def test_content_is_told_apart_by_shape_and_bytes() -> None:
    """The same bytes as 2 x 8 and as 4 x 4 are two pictures."""
    assert content_hash(b"abc") == content_hash(memoryview(b"abc"))
    assert len({content_hash(b"abc"), content_hash(b"abd"), content_hash(b"abc", "1 x 3")}) == 3


def looks(picture: Image.Image) -> tuple[int, int]:
    grey = picture.convert("L")
    small = grey.resize((32, 32), Image.Resampling.BOX)
    return layout_hash(np.asarray(small)), slope_hash(np.asarray(grey.resize((9, 8), Image.BOX)))


def test_looks_survive_size_quality_and_light() -> None:
    """A smooth picture shrunk, compressed or brightened differs in few bits; another in many."""
    random = np.random.default_rng(2)
    coarse = random.integers(30, 200, (2, 7, 7, 3), dtype=np.uint8)
    picture, other = (Image.fromarray(pixels).resize((96, 96), 3) for pixels in coarse)
    compressed = io.BytesIO()
    picture.save(compressed, "JPEG", quality=40)
    edited = [
        picture.resize((48, 48), 2),
        Image.open(compressed),
        ImageEnhance.Brightness(picture).enhance(1.1),
    ]
    layout, slopes = looks(picture)
    for near in map(looks, edited):
        assert (layout ^ near[0]).bit_count() <= 6
        assert (slopes ^ near[1]).bit_count() <= 12
    assert (layout ^ looks(other)[0]).bit_count() > 16
