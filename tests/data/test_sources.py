"""From DATA to training and validation images: what is set aside, taken, refused."""

import math
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deit.config import from_plain
from deit.data.classes import ClassList
from deit.data.dataset import count_images, read_size, set_aside, take_per_class
from deit.data.images import BadImage
from deit.data.sources import (
    ArraySource,
    DataConfig,
    DataSet,
    SizedSource,
    Source,
    open_data,
    open_evaluation,
)
from deit.errors import UserError


def arrays(labels: list[int], names: list[str] | None = None) -> ArraySource:
    """One grey image per label; its number is its grey value, its height and its width - 1."""
    images = np.zeros((len(labels), 2, 3), dtype=np.uint8)
    images[:] = np.arange(len(labels), dtype=np.uint8)[:, None, None]
    classes = ClassList(tuple(f"c{number}" for number in range(max(labels, default=0) + 1)))
    names = names or [f"{number}.png" for number in range(len(labels))]
    return ArraySource(images, np.array(labels, dtype=np.int64), classes, names)


def write_images(root: Path, counts: dict[str, int], size: tuple[int, int] = (4, 5)) -> Path:
    """So many PNG images in each folder, each of a grey of its own."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            image = Image.new("L", size[::-1], number)
            image.save(root / folder / f"{number:03d}.png")
    return root


def families(root: Path) -> list[Source]:
    """One of every kind of source."""
    folder = open_data(str(write_images(root / "data", {"a": 5, "b": 12})))
    with tarfile.open(root / "data.tar", "w") as archive:
        archive.add(root / "data", "data")
    shards = open_data(str(root / "data.tar"))
    digits = open_data("digits")
    return [
        folder.train,
        folder.val,
        shards.train,
        shards.val,
        digits.train,
        digits.val,
        arrays([0, 1, 1]),
    ]


def test_every_source_keeps_the_protocol(tmp_path: Path) -> None:
    """Labels index classes, names are unique, images are RGB, and a pickle gives the same."""
    for source in families(tmp_path):
        assert isinstance(source, Source)
        assert len(source) == len(source.labels) == len(source.names) == len(set(source.names))
        assert source.labels.dtype == np.int64
        assert 0 <= source.labels.min() <= source.labels.max() < len(source.classes)
        again = pickle.loads(pickle.dumps(source))
        assert list(again.names) == list(source.names)
        for index in (0, len(source) - 1):
            image = source.read(index)
            assert image.dtype == np.uint8
            assert image.shape[2] == 3
            assert image.flags.writeable
            np.testing.assert_array_equal(again.read(index), image)
            assert read_size(source, index) == image.shape[:2]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.sampled_from([2, 5, 10]))
def test_what_is_set_aside_is_a_share_of_every_class(labels: list[int], one_in: int) -> None:
    """Rounded, at least one of two or more, never the only one; nothing lost, nothing doubled."""
    source = arrays(labels)
    rest, aside = set_aside(source, one_in)
    assert sorted([*rest.names, *aside.names]) == sorted(source.names)
    for count, taken in zip(count_images(source), count_images(aside), strict=True):
        expected = 0 if count < 2 else max(1, math.floor(count / one_in + 0.5))
        assert taken == expected
    for part in (rest, aside):
        assert list(part.names) == sorted(part.names, key=lambda name: int(name[:-4]))


@given(st.permutations(range(40)), st.integers(1, 20))
def test_the_choice_depends_on_names_only(order: list[int], count: int) -> None:
    """Not on the order in which a source lists its images."""
    names = [f"{number}.png" for number in range(40)]
    labels = [number % 2 for number in range(40)]
    source = arrays(labels, names)
    shuffled = arrays([labels[i] for i in order], [names[i] for i in order])
    assert set(set_aside(source, 5)[1].names) == set(set_aside(shuffled, 5)[1].names)
    assert set(take_per_class(source, count).names) == set(take_per_class(shuffled, count).names)


@given(st.lists(st.integers(0, 3), min_size=30, max_size=90), st.data())
def test_smaller_subsets_lie_in_larger_ones(labels: list[int], data: st.DataObject) -> None:
    """So a study of data efficiency adds images and never exchanges them."""
    source = arrays([*labels, 0, 1, 2, 3])
    most = int(count_images(source).min())
    few, many = sorted(data.draw(st.tuples(st.integers(1, most), st.integers(1, most))))
    smaller, larger = take_per_class(source, few), take_per_class(source, many)
    assert set(smaller.names) <= set(larger.names)
    assert (count_images(smaller) == few).all()
    assert (count_images(larger) == many).all()


def test_too_few_images_name_the_class() -> None:
    """And how many there are of it."""
    with pytest.raises(UserError, match=r"images_per_class = 3, .* c1 \(2\), c2 \(1\)\n"):
        take_per_class(arrays([0, 0, 0, 1, 1, 2]), 3)


def test_a_folder_without_splits_has_a_tenth_set_aside(tmp_path: Path) -> None:
    """Of every class, the same in every run, said so; the same if it lies in train/."""
    data = open_data(str(write_images(tmp_path / "x", {"a": 30, "b": 50})))
    assert count_images(data.val).tolist() == [3, 5]
    assert count_images(data.train).tolist() == [27, 45]
    assert any("a tenth of each class, 8 images, is set aside" in note for note in data.notes)
    split = open_data(str(write_images(tmp_path / "y", {"train/a": 30, "train/b": 50})))
    assert [f"train/{name}" for name in data.val.names] == list(split.val.names)


def test_the_tenth_does_not_change_with_the_rest(tmp_path: Path) -> None:
    """An image that is added moves one other at most."""
    root = write_images(tmp_path, {"a": 40, "b": 40})
    before = set(open_data(str(root)).val.names)
    Image.new("L", (4, 4)).save(root / "a" / "new.png")
    after = set(open_data(str(root)).val.names)
    assert len(before - after) <= 1
    assert len(after - before) <= 1


def test_a_subset_leaves_validation_alone(tmp_path: Path) -> None:
    """`images_per_class` counts training images, after validation images are set aside."""
    root = str(write_images(tmp_path, {"a": 30, "b": 50}))
    whole, part = open_data(root), open_data(root, images_per_class=27)
    assert list(part.val.names) == list(whole.val.names)
    assert count_images(part.train).tolist() == [27, 27]
    assert set(part.train.names) <= set(whole.train.names)
    with pytest.raises(UserError, match=r"images_per_class = 28, .* a \(27\)"):
        open_data(root, images_per_class=28)


def test_images_are_read_from_where_their_names_say(tmp_path: Path) -> None:
    """Through every selection: the grey value of each image is its number."""
    root = write_images(tmp_path, {"a": 30, "b": 50})
    data = open_data(str(root), images_per_class=20)
    for source in data.splits().values():
        for index, name in enumerate(source.names):
            assert (source.read(index) == int(Path(name).stem)).all()
            assert source.classes.names[source.labels[index]] == name[0]


def test_classes_that_are_not_measured_are_named(tmp_path: Path) -> None:
    """It is no error: some validation splits are like that."""
    counts = {"train/a": 2, "train/b": 2, "train/c": 1, "val/b": 1}
    data = open_data(str(write_images(tmp_path, counts)))
    assert data.notes == ["2 classes have no validation image: a, c"]


def test_one_image_per_class_cannot_be_split(tmp_path: Path) -> None:
    """There would be nothing to measure on."""
    with pytest.raises(UserError, match="no image to measure on"):
        open_data(str(write_images(tmp_path, {"a": 1, "b": 1})))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "no data given"),
        ("shards/train-{000..009}.tar", r"10 of 10 shards are missing: shards/train-000\.tar, "),
        ("x.TAR", r"a shard is missing: x\.TAR"),
        ("x.tar.gz", r"compressed archives: x\.tar\.gz\n(.|\n)*gunzip"),
        ("train.csv", r"no file train\.csv\n(.|\n)*check the path"),
        ("photos.zip", r"is an archive\n.*digits\n.*unpack"),
        ("train.json", r"is a file of another kind\n(.|\n)*\.jsonl"),
        ("no/such/folder", "no folder no/such/folder"),
        ("cifar10", "did you mean torchvision:cifar10"),
        ("torchvision:", "torchvision:\n"),
    ],
)
def test_data_that_cannot_be_opened_is_answered(spec: str, message: str) -> None:
    """With what is accepted."""
    for opening in (open_data, open_evaluation):
        with pytest.raises(UserError, match=message):
            opening(spec)


def test_measuring_takes_the_validation_images(tmp_path: Path) -> None:
    """The tenth that training held out, too: else a model is measured on its training images."""
    root = write_images(tmp_path / "x", {"a": 30, "b": 50})
    source, notes = open_evaluation(str(root))
    assert list(source.names) == list(open_data(str(root)).val.names)
    assert "is set aside" in notes[0]
    alone = write_images(tmp_path / "y", {"val/a": 3, "val/b": 5})
    assert len(open_evaluation(str(alone))[0]) == 8
    assert len(open_evaluation(str(alone / "val"))[0]) == 8
    assert len(open_evaluation("digits")[0]) == 359


@pytest.mark.parametrize(
    ("images", "labels", "names", "message"),
    [
        (2, [0, 2], 2, r"labels out of range: 2\n.*0 to 1, for 2 classes"),
        (2, [0, -1], 2, "labels out of range: -1"),
        (2, [0], 2, "2 images, 1 labels and 2 names"),
        (2, [0, 1], 1, "2 images, 2 labels and 1 names"),
    ],
)
def test_arrays_must_fit_together(images: int, labels: list[int], names: int, message: str) -> None:
    """As many labels and names as images, and no label beyond the classes."""
    with pytest.raises(UserError, match=message):
        ArraySource(
            np.zeros((images, 4, 4), dtype=np.uint8),
            np.array(labels, dtype=np.int64),
            ClassList(("a", "b")),
            [str(number) for number in range(names)],
        )


def test_sizes_come_from_headers(tmp_path: Path) -> None:
    """Where the source can: here the pixels are gone, and the size is still known."""
    data = open_data(str(write_images(tmp_path, {"a": 3, "b": 3}, (40, 50))))
    assert isinstance(data.train, SizedSource)
    path = tmp_path / data.train.names[1]
    path.write_bytes(path.read_bytes()[:45])
    assert read_size(data.train, 1) == (40, 50)
    with pytest.raises(BadImage):
        data.train.read(1)


def test_the_config_names_its_fields() -> None:
    """Values out of range are told as they stand in a recipe."""
    with pytest.raises(UserError, match=r"data\.images_per_class = 0"):
        DataConfig(images_per_class=0)
    config = from_plain(DataConfig, {"source": "digits", "images_per_class": "none"})
    assert config == DataConfig(source="digits")


def test_a_data_set_has_the_classes_of_its_training_images() -> None:
    """Both splits share them."""
    source = arrays([0, 1])
    assert DataSet(source, source).classes is source.classes
