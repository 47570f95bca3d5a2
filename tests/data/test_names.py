"""Names of images: packed, printed and hashed."""

import pickle
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deit.data.names import Names, printable, stable_hash

ANY_NAMES = st.lists(
    st.binary(min_size=1, max_size=20).map(
        lambda name: name.replace(b"\0", b"_").decode("utf-8", "surrogateescape")
    )
)


@given(ANY_NAMES, st.data())
def test_packed_names_behave_like_a_list(names: list[str], data: st.DataObject) -> None:
    """Whatever bytes a file name may hold, by index, slice, selection and through pickle."""
    packed = pickle.loads(pickle.dumps(Names.of(names)))
    assert list(packed) == names
    start, stop = data.draw(st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
    assert list(packed[start:stop]) == names[start:stop]
    if names:
        picked = data.draw(st.lists(st.integers(-len(names), len(names) - 1)))
        taken = packed.take(np.array(picked, dtype=np.int64))
        assert list(taken) == [names[index] for index in picked]
        assert taken == Names.of(names[index] for index in picked)


def test_packed_names_are_small() -> None:
    """A million names travel to a worker in their own length and 16 bytes each."""
    names = [f"train/n{number:08d}/n{number:08d}_1.JPEG" for number in range(1000)]
    size = len(pickle.dumps(Names.of(names)))
    assert size < 1000 * (len(names[0]) + 1 + 16) + 1000
    assert size < sum(map(sys.getsizeof, names))


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_any_name_can_be_printed(name: str) -> None:
    """Lone surrogates, control characters and line breaks leave no trace but an escape."""
    shown = printable(name)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert printable(shown) == shown
    assert (shown == name) == name.isprintable()


def test_hashes_are_blake2b() -> None:
    """They decide which images are held out: the values, computed apart, may never change."""
    hashes = stable_hash(["cat/1.jpg", "é\udcff"], "set aside")
    assert hashes.tolist() == [0x8D855BC801F8BC78, 0x4599FA5EA593F7C3]


def test_hashes_of_two_purposes_are_independent() -> None:
    """Over a thousand names, their ranks do not correlate: |r| below 4 standard errors."""
    names = [f"{number}.jpg" for number in range(1000)]
    ranks = [stable_hash(names, purpose).argsort().argsort() for purpose in ("one", "other")]
    assert abs(np.corrcoef(ranks)[0, 1]) < 4 / np.sqrt(1000)
