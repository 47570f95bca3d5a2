"""Tar shards as data: the same images under the same names as in the unpacked folder."""

import io
import pickle
import random
import re
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from deit.data import workers as worker_pool
from deit.data.check import check_images
from deit.data.dataset import DataSet, SizedSource, count_images, read_size
from deit.data.images import BadImage
from deit.data.loader import TrainLoader
from deit.data.order import OrderConfig
from deit.data.plan import ViewConfig
from deit.data.shards import ShardSource
from deit.data.sources import open_data, open_evaluation
from deit.errors import UserError


def pixel(grey: int) -> bytes:
    """An image file of one pixel."""
    return b"P5 1 1 255 " + bytes([grey % 256])


def pack(path: Path, files: dict[str, bytes] | Sequence[str], form: int = 1) -> Path:
    """A tar archive of these files; of images of one pixel where only names are given."""
    if not isinstance(files, dict):
        files = {name: pixel(number) for number, name in enumerate(files)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content))
    return path


def unpack(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return root


def contents(data: DataSet) -> list[object]:
    """Everything that a program can learn from a data set, but its notes."""
    return [
        (
            source.classes.names,
            list(source.names),
            source.labels.tolist(),
            [source.read(index).tobytes() for index in range(len(source))],
        )
        for source in data.splits().values()
    ]


def outcome(spec: str) -> tuple[list[object], list[str]]:
    """What opening gives, or the message, with the data's own name taken out of the words."""
    try:
        data = open_data(spec)
    except UserError as error:
        return [], [str(error).replace(f"{spec}:", "@/").replace(spec, "@")]
    notes = [re.sub(r":(train|val)\b", r"/\1", note.replace(spec, "@")) for note in data.notes]
    return contents(data), notes


PART = st.text(alphabet="aAbB10-_. é\udcff", min_size=1, max_size=4).filter(
    lambda name: not name.startswith(".")
)
FILE = st.tuples(
    st.sampled_from(["train", "val"]),
    st.sampled_from(["cat", "dog", "é\udcff", "10", "2"]),
    st.lists(PART.map(lambda name: name + "+"), max_size=2),
    PART,
    st.sampled_from([".pgm", ".PPM", ".txt", ""]),
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(FILE, min_size=3, max_size=25),
    st.booleans(),
    st.integers(1, 4),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.randoms(use_true_random=False),
)
def test_any_shards_equal_the_unpacked_folder(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[tuple[str, str, list[str], str, str]],
    with_splits: bool,
    count: int,
    form: int,
    chance: random.Random,
) -> None:
    """Names, labels, order, classes, pixels, notes and refusals, whatever lies in which shard."""
    root = tmp_path_factory.mktemp("data")
    names = {"/".join([a] * with_splits + [b, *c, d + e]) for a, b, c, d, e in files}
    assume(len({name.split("/")[with_splits] for name in names}) > 1)
    order = chance.sample(sorted(names), len(names))
    tree = {name: pixel(number) for number, name in enumerate(order)}
    unpack(root / "folder", tree)
    shard_of = {name: chance.randrange(count) for name in order}
    for shard in range(count):
        prefix = chance.choice(["", "./", "x/", f"{shard}/deep/"]) if with_splits else ""
        chosen = {prefix + name: tree[name] for name in order if shard_of[name] == shard}
        pack(root / "shards" / f"{shard}.tar", chosen, form)
    theirs, ours = outcome(str(root / "folder")), outcome(str(root / "shards"))
    assert ours[0] == theirs[0]
    assert ours[1] == theirs[1]


SPLITS = [
    (["train-000.tar", "val-000.tar"], ["a/1.pgm", "b/1.pgm"], "train/a/1.pgm", "val/a/1.pgm"),
    (["x_train.tar", "x_test.tar"], ["a/1.pgm", "b/1.pgm"], "train/a/1.pgm", "test/a/1.pgm"),
    (["train00.tar", "Valid01.tar"], ["a/1.pgm", "b/1.pgm"], "train/a/1.pgm", "valid/a/1.pgm"),
    (["train/0.tar", "val/0.tar"], ["a/1.pgm", "b/1.pgm"], "train/a/1.pgm", "val/a/1.pgm"),
    (
        ["c-train-0.tar", "c-test.tar"],
        ["./a/1.pgm", "./b/x/1.pgm"],
        "train/a/1.pgm",
        "test/a/1.pgm",
    ),
]


@pytest.mark.parametrize(("paths", "members", "train", "val"), SPLITS)
def test_a_split_may_stand_in_the_name_of_a_shard(
    paths: list[str], members: list[str], train: str, val: str, tmp_path: Path
) -> None:
    """As a word of its own; where all names are silent, in the folders that the shards lie in."""
    spec = ",".join(str(pack(tmp_path / path, members)) for path in paths)
    data = open_data(spec)
    assert (data.train.names[0], data.val.names[0]) == (train, val)
    assert len(data.train) == len(data.val) == 2
    assert "by their names, splits are" in data.notes[0]
    evaluated, _ = open_evaluation(spec)
    assert list(evaluated.names) == list(data.val.names)


@pytest.mark.parametrize("name", ["trainval.tar", "retrain-0.tar", "train-val.tar", "photos.tar"])
def test_other_names_say_no_split(name: str, tmp_path: Path) -> None:
    """Part of a word, or two splits: then a tenth is set aside as of a folder of class folders."""
    names = [f"{folder}/{number}.pgm" for folder in "ab" for number in range(10)]
    data = open_data(str(pack(tmp_path / name, names)))
    folder = open_data(str(unpack(tmp_path / "f", {name: pixel(0) for name in names})))
    assert list(data.val.names) == list(folder.val.names)
    assert count_images(data.train).tolist() == [9, 9]


def test_folders_in_a_shard_say_more_than_its_name(tmp_path: Path) -> None:
    """An archive called after a part of its content."""
    path = pack(tmp_path / "train.tar", ["x/train/a/1.pgm", "x/train/b/1.pgm", "x/val/a/1.pgm"])
    data = open_data(str(path))
    assert list(data.train.names) == ["train/a/1.pgm", "train/b/1.pgm"]
    assert list(data.val.names) == ["val/a/1.pgm"]


def test_a_folder_packed_from_outside_is_the_folder(tmp_path: Path) -> None:
    """`tar cf photos.tar photos` puts one folder above the classes."""
    names = [f"photos/{folder}/{number}.pgm" for folder in "ab" for number in range(3)]
    data = open_data(str(pack(tmp_path / "photos.tar", ["photos/", *names])))
    assert data.classes.names == ("a", "b")
    assert data.train.names[0] in ("a/0.pgm", "a/1.pgm")


def test_a_validation_shard_may_stand_alone_for_measuring(tmp_path: Path) -> None:
    """As a folder with `val` alone may; training on it is refused."""
    path = str(pack(tmp_path / "val-0.tar", ["a/1.pgm", "b/1.pgm"]))
    source, _ = open_evaluation(path)
    assert list(source.names) == ["val/a/1.pgm", "val/b/1.pgm"]
    with pytest.raises(UserError, match="by their names, shards of val only, none of train"):
        open_data(path)


def test_what_is_not_used_is_noted(tmp_path: Path) -> None:
    """Links, other endings, strays; hidden files and the leavings of macOS without a word."""
    names = ["train/a/1.pgm", "train/b/1.pgm", "train/a/x.txt", "train/stray.pgm", "val/a/2.pgm"]
    hidden = ["train/a/._1.pgm", "__MACOSX/train/c/1.pgm", "train/.git/1.pgm"]
    path = pack(tmp_path / "x.tar", [*names, *hidden])
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("train/a/3.pgm")
        link.type, link.linkname = tarfile.SYMTYPE, "1.pgm"
        archive.addfile(link)
    data = open_data(str(path))
    assert list(data.train.names) == ["train/a/1.pgm", "train/b/1.pgm"]
    assert [note.split(": ", 1)[1] for note in data.notes] == [
        "1 members are no plain files (links, devices, sparse files) and are not used: "
        "train/a/3.pgm",
        "1 files beside the class folders are not used: stray.pgm",
        "1 files are not used because their ending is no image's: 1 .txt",
        "b",
    ]


MISTAKES: dict[str, tuple[dict[str, list[str]], str]] = {
    "the same name in two shards": (
        {"0.tar": ["a/1.pgm", "b/1.pgm"], "1.tar": ["b/2.pgm", "a/1.pgm"]},
        r"a/1\.pgm is twice in the data: in .*/0\.tar and in .*/1\.tar\n",
    ),
    "the same name twice in one": (
        {"0.tar": ["a/1.pgm", "b/1.pgm", "./a/1.pgm"]},
        r"a/1\.pgm is twice in the data: in .*/0\.tar and in .*/0\.tar\n",
    ),
    "some shards without a split": (
        {
            "0.tar": ["train/a/1.pgm", "train/b/1.pgm"],
            "1.tar": ["a/2.pgm"],
            "2.tar": ["val/a/3.pgm"],
        },
        r"do not say to which split(.|\n)*/1\.tar\n(.|\n)*rename them",
    ),
    "an image beside the data's folder": (
        {"0.tar": ["x/train/a/1.pgm", "x/train/b/1.pgm", "loose/1.pgm"]},
        r"0\.tar: loose/1\.pgm belongs to no split: others lie in x\n",
    ),
    "images without classes": (
        {"0.tar": ["1.pgm", "2.pgm"]},
        "2 images, but none in a class folder",
    ),
    "no images": ({"0.tar": ["a/1.txt"]}, "no image in the folders a"),
    "nothing": ({"0.tar": []}, "no class folders"),
    "one class": ({"0.tar": ["a/1.pgm"]}, "only one class folder, a"),
    "an empty class": ({"0.tar": ["a/1.pgm", "b/1.pgm", "c/"]}, "without an image: c"),
    "capital letters": (
        {"0.tar": ["Train/a/1.pgm", "Test/a/1.pgm"]},
        "class folders called Test, Train",
    ),
    "an unknown validation class": (
        {"0.tar": ["train/cat/1.pgm", "train/dog/1.pgm"], "1.tar": ["val/cats/1.pgm"]},
        r"lack: cats(.|\n)*did you mean cat\?",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_by_one_clear_message(mistake: str, tmp_path: Path) -> None:
    """The folder's messages, and those that only shards can bring about."""
    shards, message = MISTAKES[mistake]
    for name, members in shards.items():
        pack(tmp_path / name, members)
    with pytest.raises(UserError, match=message) as caught:
        open_data(str(tmp_path))
    assert caught.value.allowed
    assert caught.value.todo


def noise(number: int) -> bytes:
    """A PNG file of noise, of a size of its own."""
    shape = (16 + number % 7, 16 + number % 5, 3)
    pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def noise_data(root: Path) -> tuple[DataSet, DataSet]:
    """The same images in a folder and in three shards."""
    tree = {f"train/{'abc'[n % 3]}/{n}.png": noise(n) for n in range(90)}
    tree |= {f"val/{'abc'[n % 3]}/{n}.png": noise(n) for n in range(90, 99)}
    names = sorted(tree)
    for shard in range(3):
        pack(root / "s" / f"{shard}.tar", {f"d/{name}": tree[name] for name in names[shard::3]})
    return open_data(str(unpack(root / "f", tree))), open_data(f"{root}/s/{{0..2}}.tar")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_the_same_batches(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forked from a process that has all shards open, or started anew; two of them at once."""
    folder, shards = noise_data(tmp_path)
    shards.train.read(0)
    monkeypatch.setattr(worker_pool, "start_method", lambda: method)

    def batches(data: DataSet, workers: int) -> list[bytes]:
        config = (ViewConfig(policy="none"), OrderConfig(), 16, 7, 45, workers)
        return [b.images.numpy().tobytes() for b in TrainLoader(data.train, *config).batches(0, 4)]

    assert batches(shards, 2) == batches(folder, 0)
    assert shards.train.read(1).tobytes() == folder.train.read(1).tobytes()


def test_sizes_and_bad_images_are_those_of_files(tmp_path: Path) -> None:
    """A bomb, a text, a cut file, an empty one: the same names and reasons as from a folder."""
    bomb = bytearray(noise(1))
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    bad = {"bomb": bytes(bomb), "text": b"<html>", "cut": noise(2)[:60], "empty": b""}
    tree = {f"a/{name}.png": content for name, content in bad.items()}
    tree |= {f"b/{n}.png": noise(n) for n in range(4)}
    folder = open_data(str(unpack(tmp_path / "f", tree)))
    shards = open_data(str(pack(tmp_path / "x.tar", tree)))
    assert isinstance(shards.train, SizedSource)
    for how in ("decode", "header"):
        theirs = [str(problem) for problem in check_images(folder, how=how)]
        assert [str(problem) for problem in check_images(shards, how=how)] == theirs
        assert len(theirs) >= 3
    good = [i for i, name in enumerate(shards.train.names) if name.startswith("b/")]
    assert all(read_size(shards.train, i) == shards.train.read(i).shape[:2] for i in good)


def test_a_shard_that_changes_while_training_is_named(tmp_path: Path) -> None:
    """Another image's bytes are never shown under a name."""
    path = pack(tmp_path / "x.tar", ["a/1.pgm", "a/2.pgm", "b/1.pgm", "b/2.pgm"])
    data = open_data(str(path))
    pack(path, ["b/1.pgm", "b/2.pgm", "a/1.pgm", "a/2.pgm"])
    with pytest.raises(BadImage, match=r"a/.\.pgm: x\.tar has changed"):
        data.train.read(0)


def test_the_index_is_small(tmp_path: Path) -> None:
    """20 bytes an image beside its label (8) and its name (its bytes and 17): also in workers."""
    names = [f"train/{'ab'[n % 2]}/{n:04d}.pgm" for n in range(1000)] + ["val/a/1.pgm"]
    source = open_data(str(pack(tmp_path / "x.tar", names))).train
    assert isinstance(source, ShardSource)
    index = (source.archive_of, source.offsets, source.sizes)
    assert sum(part.nbytes for part in index) == 20 * 1000
    name_bytes = sum(map(len, names[:1000]))
    assert len(pickle.dumps(source)) < name_bytes + (17 + 8 + 20) * 1000 + 2000


@pytest.mark.long
def test_real_shards_are_opened_in_seconds(shared_data: Path) -> None:
    """CIFAR-10 in six shards: 60,000 images, ten classes."""
    if not (shared_data / "cifar10-test.tar").is_file():
        pytest.skip("no cifar10-test.tar")
    began = time.perf_counter()
    data = open_data(f"{shared_data}/{{cifar10-train-{{0..4}},cifar10-test}}.tar")
    seconds = time.perf_counter() - began
    print(f"60,000 images indexed in {seconds:.1f} s")
    assert count_images(data.train).tolist() == [5000] * 10
    assert count_images(data.val).tolist() == [1000] * 10
    assert data.classes.names[:3] == ("airplane", "automobile", "bird")
    assert data.train.names[0].startswith("train/airplane/")
    assert all(data.train.read(index).shape == (32, 32, 3) for index in range(0, 50000, 2500))
    assert seconds < 60
