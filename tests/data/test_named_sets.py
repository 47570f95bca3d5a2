"""Data sets by name, offline: the digits, and torchvision's from files made in its own formats."""

import hashlib
import pickle
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torchvision.datasets
from PIL import Image
from sklearn.datasets import load_digits

from deit.data import named_sets
from deit.data.named_sets import NAMED_SETS, answers, default_cache, open_digits, open_torchvision
from deit.errors import UserError

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in this file may ask the world."""
    monkeypatch.setattr(named_sets, "answers", lambda site, seconds: False)


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Two images in each of CIFAR-10's six files; torchvision is told their checksums."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    images = {}
    checksums = {}

    def put(name: str, content: dict[str, Any]) -> None:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        checksums[name] = hashlib.md5(data).hexdigest()

    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        images[name] = RNG.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
        put(name, {"data": images[name].reshape(2, -1), "labels": [3, 9]})
    put("batches.meta", {"label_names": [f"class{number}" for number in range(10)]})
    cifar = torchvision.datasets.CIFAR10
    train = [[name, checksums[name]] for name in images if name != "test_batch"]
    monkeypatch.setattr(cifar, "train_list", train)
    monkeypatch.setattr(cifar, "test_list", [["test_batch", checksums["test_batch"]]])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": checksums["batches.meta"]})
    return images


def test_cifar_is_read_as_torchvision_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels, order, labels and class names; the official test images are measured on."""
    images = write_cifar10(tmp_path, monkeypatch)
    train, val, notes = open_torchvision("cifar10", tmp_path)
    assert val is not None
    assert (len(train), len(val), len(notes)) == (10, 2, 1)
    np.testing.assert_array_equal(val.read(1), images["test_batch"][1].transpose(1, 2, 0))
    theirs = torchvision.datasets.CIFAR10(tmp_path, train=True)
    for index, (image, label) in enumerate(theirs):
        np.testing.assert_array_equal(train.read(index), np.asarray(image))
        assert train.labels[index] == label
    assert train.classes.names == tuple(theirs.classes)
    assert train.names[3] == "train/000003"


def test_grey_sets_become_colour(tmp_path: Path) -> None:
    """MNIST's own file format: a header of big-endian numbers, then bytes."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = RNG.integers(0, 256, (4, 28, 28), dtype=np.uint8)
    for split in ("train", "t10k"):
        header = np.array([0x803, 4, 28, 28], ">i4").tobytes()
        (raw / f"{split}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = np.array([0x801, 4], ">i4").tobytes() + bytes([7, 0, 9, 1])
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(labels)
    train, _, _ = open_torchvision("MNIST", tmp_path)
    np.testing.assert_array_equal(train.read(2), np.repeat(images[2][:, :, None], 3, axis=2))
    assert train.labels.tolist() == [7, 0, 9, 1]
    assert train.classes.names[7] == "7 - seven"


def test_channels_first_and_nameless_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SVHN: MATLAB files, channels first once loaded, ten for zero, and no class names."""
    images = RNG.integers(0, 256, (32, 32, 3, 10), dtype=np.uint8)
    split_list = {}
    for split in ("train", "test"):
        path = tmp_path / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": images, "y": np.arange(1, 11)[:, None]})
        split_list[split] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", split_list)
    train, _, _ = open_torchvision("SVHN", tmp_path)
    np.testing.assert_array_equal(train.read(4), images[:, :, :, 4])
    assert train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert train.classes.names == tuple("0123456789")


def write_images(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 5, 3), number, dtype=np.uint8)).save(path, "PNG")


def test_files_are_listed_without_being_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DTD: its three parts, of which two are trained on; torchvision decodes none of them.

    Here a part lacks a class, and torchvision's own labels of that part are shifted.
    """
    base = tmp_path / "dtd" / "dtd"
    names = {"train": ["banded/b0.jpg", "dotted/d0.jpg"], "val": ["dotted/d1.jpg"]}
    names["test"] = ["banded/b1.jpg"]
    for split, files in names.items():
        write_images(base / "images", files)
        (base / "labels").mkdir(exist_ok=True)
        (base / "labels" / f"{split}1.txt").write_text("\n".join(files))
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", None)
        train, val, _ = open_torchvision("DTD", tmp_path)
    assert val is not None
    prefix = "dtd/dtd/images"
    assert list(train.names) == [f"{prefix}/{name}" for name in names["train"] + names["val"]]
    assert train.labels.tolist() == [0, 1, 1]
    assert (val.read(0) == 0).all()
    assert pickle.loads(pickle.dumps(train)).read(1).shape == (4, 5, 3)


def test_pets_are_listed_too(tmp_path: Path) -> None:
    """One of the sets of torchvision's that open their files themselves."""
    base = tmp_path / "oxford-iiit-pet"
    write_images(base / "images", ["Abyssinian_1.jpg", "great_pyrenees_7.jpg"])
    (base / "annotations").mkdir()
    for split in ("trainval", "test"):
        lines = "Abyssinian_1 1 1 1\ngreat_pyrenees_7 2 2 1\n"
        (base / "annotations" / f"{split}.txt").write_text(lines)
    train, _, _ = open_torchvision("OxfordIIITPet", tmp_path)
    assert train.classes.names == ("Abyssinian", "Great Pyrenees")
    assert train.names[1] == "oxford-iiit-pet/images/great_pyrenees_7.jpg"
    assert (train.read(1) == 1).all()


def test_traffic_signs_are_listed_too(tmp_path: Path) -> None:
    """GTSRB: a folder for each class to learn from, a table of those to measure on, no names."""
    base = tmp_path / "gtsrb"
    write_images(base / "GTSRB" / "Training", [f"{number:05d}/1.ppm" for number in range(43)])
    write_images(base / "GTSRB" / "Final_Test" / "Images", ["0.ppm", "1.ppm"])
    (base / "GT-final_test.csv").write_text("Filename;Width;ClassId\n0.ppm;5;42\n1.ppm;5;7\n")
    train, val, _ = open_torchvision("GTSRB", tmp_path)
    assert val is not None
    assert train.classes.names == tuple(map(str, range(43)))
    assert train.labels.tolist() == list(range(43))
    assert val.labels.tolist() == [42, 7]
    assert (val.read(1) == 1).all()


def test_the_first_of_several_names_is_a_classs(tmp_path: Path) -> None:
    """Imagenette's classes are called as ImageNet's are, in several words each."""
    base = tmp_path / "imagenette2"
    files = ["n01440764/1.JPEG", "n02102040/2.JPEG"]
    for split in ("train", "val"):
        write_images(base / split, files)
    train, _, _ = open_torchvision("Imagenette", tmp_path)
    assert train.classes.names == ("tench", "English springer")
    assert list(train.names) == [f"imagenette2/train/{name}" for name in files]


def test_three_parts_may_be_called_otherwise(tmp_path: Path) -> None:
    """Country211 says valid; it is learned from, too."""
    for split in ("train", "valid", "test"):
        write_images(tmp_path / "country211" / split, ["AT/1.jpg", "CH/2.jpg"])
    train, val, _ = open_torchvision("Country211", tmp_path)
    assert val is not None
    assert list(train.names)[2:] == ["country211/valid/AT/1.jpg", "country211/valid/CH/2.jpg"]
    assert (train.labels.tolist(), val.labels.tolist()) == ([0, 1, 0, 1], [0, 1])


def test_a_set_without_splits_has_no_validation_images(tmp_path: Path) -> None:
    """EuroSAT: the caller sets some aside."""
    write_images(tmp_path / "eurosat" / "2750", ["Forest/1.jpg", "River/1.jpg", "River/2.jpg"])
    train, val, _ = open_torchvision("EuroSAT", tmp_path)
    assert val is None
    assert train.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", NAMED_SETS)
def test_every_set_exists_and_takes_its_arguments(name: str) -> None:
    """In the torchvision that is installed: its name, its splits, and a loader for files."""
    import inspect

    entry = NAMED_SETS[name]
    parameters = inspect.signature(getattr(torchvision.datasets, name)).parameters
    assert {"root", "download"} <= set(parameters)
    for part in entry.train + entry.val:
        assert set(part) <= set(parameters)
    if entry.kind == "files" and name not in ("OxfordIIITPet", "GTSRB"):
        assert "loader" in parameters


@pytest.mark.parametrize("name", NAMED_SETS)
def test_without_a_network_one_message_comes_at_once(name: str, tmp_path: Path) -> None:
    """Which set, where it was looked for, and how to get it there; nothing is written."""
    start = time.perf_counter()
    with pytest.raises(UserError, match=f"torchvision:{name} is not in .* cannot be reached"):
        open_torchvision(name, tmp_path / "cache")
    assert time.perf_counter() - start < 2
    assert not (tmp_path / "cache").exists()


def test_a_download_that_fails_is_a_user_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server answers, then the connection breaks; the process's time limit is put back."""

    class Broken:
        def __init__(self, root: str, download: bool, **part: object) -> None:
            if not download:
                raise RuntimeError("Dataset not found")
            assert socket.getdefaulttimeout() == named_sets.STALLED_SECONDS
            raise TimeoutError("the read operation timed out")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Broken)
    monkeypatch.setattr(named_sets, "answers", lambda site, seconds: True)
    before = socket.getdefaulttimeout()
    with pytest.raises(UserError, match="could not be fetched: the read operation timed out"):
        open_torchvision("CIFAR10", tmp_path)
    assert socket.getdefaulttimeout() == before


def test_a_set_is_fetched_once_where_there_is_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a stand-in for torchvision: the first try finds nothing, the second fetches."""
    tries: list[tuple[bool, bool]] = []

    class Fetched:
        classes = ("a", "b")
        data = np.zeros((2, 4, 4), dtype=np.uint8)
        targets = (0, 1)

        def __init__(self, root: str, download: bool, train: bool) -> None:
            tries.append((train, download))
            if train and not download:
                raise RuntimeError("Dataset not found")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fetched)
    monkeypatch.setattr(named_sets, "answers", lambda site, seconds: True)
    open_torchvision("CIFAR10", tmp_path)
    assert tries == [(True, False), (True, True), (False, False)]


def test_labels_out_of_range_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision marks unlabelled images."""

    class Unlabelled:
        classes = ("a", "b")
        data = np.zeros((3, 4, 4), dtype=np.uint8)
        targets = (0, -1, 2)

        def __init__(self, root: str, **part: object) -> None:
            pass

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Unlabelled)
    with pytest.raises(UserError, match=r"labels out of range: -1, 2\n.*0 to 1, for 2 classes"):
        open_torchvision("CIFAR10", tmp_path)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """And with all that are known."""
    with pytest.raises(UserError, match=r"torchvision:CIFR10\n.*torchvision:SVHN(.|\n)*CIFAR10\?"):
        open_torchvision("CIFR10")


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By a variable of ours, or the one of the desktop standard."""
    monkeypatch.delenv("DEIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "deit" / "torchvision"
    monkeypatch.setenv("DEIT_CACHE", str(tmp_path / "mine"))
    assert default_cache() == tmp_path / "mine" / "torchvision"


def test_digits_are_scikit_learns() -> None:
    """Every one of them once, scaled from 0..16 to 0..255, a fifth of each class held out."""
    train, val, _ = open_digits()
    assert val is not None
    theirs = load_digits()
    seen = []
    for source in (train, val):
        for index, name in enumerate(source.names):
            number = int(name)
            seen.append(number)
            expected = np.rint(theirs.images[number] * 255 / 16)
            np.testing.assert_array_equal(source.read(index), np.dstack([expected] * 3))
            assert source.labels[index] == theirs.target[number]
    assert sorted(seen) == list(range(1797))
    shares = np.bincount(val.labels) / np.bincount(theirs.target)
    np.testing.assert_allclose(shares, 0.2, atol=0.5 / 174)  # to half an image of the rarest class


def test_a_server_that_is_silent_does_not_answer() -> None:
    """It accepts the connection and says nothing: the limit holds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.perf_counter()
        assert not answers(f"http://127.0.0.1:{server.getsockname()[1]}", 0.3)
        assert time.perf_counter() - start < 2


def test_a_server_that_refuses_does_not_answer() -> None:
    """Nobody listens on a port that was just given back."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not answers(f"http://127.0.0.1:{port}", 2)
