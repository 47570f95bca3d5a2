"""Data sets of `datasets`: saved to disk, in a folder, in the cache; columns, splits, classes."""

import io
import pickle
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from deit.data import huggingface_sets
from deit.data.dataset import Source
from deit.data.huggingface_sets import is_saved_set, load_set, parse
from deit.data.huggingface_source import Split
from deit.data.images import BadImage
from deit.data.sources import open_data, open_evaluation
from deit.errors import UserError

NAMES = ["wasp", "ant", "bee"]


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for each test, and no network."""
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(huggingface_sets, "answers", lambda site, seconds: False)


def png(number: int) -> bytes:
    """An image whose grey is its number."""
    buffer = io.BytesIO()
    Image.new("L", (4, 3), number).save(buffer, "PNG")
    return buffer.getvalue()


def dataset(labels: list[Any], feature: Any = None, **columns: Any) -> datasets.Dataset:
    """So many numbered images with labels, numbers of `NAMES` unless another kind is given."""
    features = {"image": datasets.Image(), "label": feature or datasets.ClassLabel(names=NAMES)}
    images = [{"bytes": png(number), "path": None} for number in range(len(labels))]
    built = datasets.Dataset.from_dict(
        {"image": images, "label": labels}, features=datasets.Features(features)
    )
    for name, (cells, kind) in columns.items():
        built = built.add_column(name, cells).cast_column(name, kind)
    return built


def save(root: Path, **splits: datasets.Dataset) -> str:
    datasets.DatasetDict(splits).save_to_disk(root / "saved")
    return str(root / "saved")


def classes_of(source: Source | None) -> list[str]:
    assert source is not None
    return [source.classes.names[label] for label in source.labels]


def test_a_saved_set_keeps_the_order_of_its_rows_and_classes(tmp_path: Path) -> None:
    """Labels are those of its list; the first of our validation splits is measured on."""
    spec = save(
        tmp_path,
        train=dataset([2, 0, 1]),
        test=dataset([0]),
        validation=dataset([1, 2]),
        x=dataset([0]),
    )
    train, val, notes = load_set(spec).open()
    assert train.classes.names == tuple(NAMES)
    assert train.labels.tolist() == [2, 0, 1]
    assert [int(train.read(index)[0, 0, 0]) for index in range(3)] == [0, 1, 2]
    assert classes_of(val) == ["ant", "bee"]
    assert notes[0].endswith("in the column 'image', their classes in 'label'")
    assert notes[1].endswith("splits that are not used: test, x")
    assert is_saved_set(spec)
    assert not is_saved_set(str(tmp_path))


def test_one_saved_split_is_told_by_its_name(tmp_path: Path) -> None:
    """Training images, unless it or its folder is called like a validation split."""
    save(tmp_path, train=dataset([2, 0, 1] * 5), test=dataset([0, 1]))
    data = open_data(str(tmp_path / "saved" / "train"))
    assert (len(data.train), len(data.val)) == (12, 3)
    source, _ = open_evaluation(str(tmp_path / "saved" / "test"))
    assert classes_of(source) == ["wasp", "ant"]
    with pytest.raises(UserError, match="no split is called train; there are test"):
        open_data(str(tmp_path / "saved" / "test"))


def test_rows_that_were_picked_are_read_as_picked(tmp_path: Path) -> None:
    """Shuffled, filtered and put together: the file holds other rows in another order."""
    chosen = datasets.concatenate_datasets([dataset([0, 1, 2]), dataset([2, 1, 0])]).select(
        [5, 1, 3]
    )
    train, _, _ = load_set(save(tmp_path, train=chosen)).open()
    assert classes_of(train) == ["wasp", "ant", "bee"]
    assert [int(train.read(index)[0, 0, 0]) for index in range(3)] == [2, 1, 0]


@pytest.mark.parametrize(
    ("feature", "labels", "names"),
    [
        (datasets.Value("string"), ["b", "a", "b"], ("a", "b")),
        (datasets.Value("large_string"), ["10", "9", "10"], ("9", "10")),
        (datasets.Value("int32"), [10, 9, 10], ("9", "10")),
        (datasets.ClassLabel(names=NAMES), [2, 0, 2], ("wasp", "bee")),
    ],
)
def test_classes_may_be_text_numbers_or_places_in_a_list(
    tmp_path: Path, feature: Any, labels: list[Any], names: tuple[str, ...]
) -> None:
    """Those without an image are left out."""
    train, _, _ = load_set(save(tmp_path, train=dataset(labels, feature))).open()
    assert train.classes.names == names
    assert train.labels.tolist() == [1, 0, 1]
    assert train.labels.dtype == np.int64


def test_classes_that_are_left_out_are_noted(tmp_path: Path) -> None:
    """Else the labels would seem to be the set's own."""
    _, _, notes = load_set(save(tmp_path, train=dataset([2, 0]))).open()
    assert notes[1].endswith("1 of 3 classes have no image in train and are left out: ant")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (dataset([0, -1, 1]), r"classes out of range in train: -1\n.*0 to 2; -1 marks"),
        (dataset([0, -7], datasets.Value("int64")), r"classes out of range in train: -7\n"),
        (dataset(["a", " "], datasets.Value("string")), "empty classes in train"),
        (dataset([0, None]), "1 rows of train have no class"),
        (dataset([1, 1]), "images of one class only, ant"),
        (
            dataset([0, 1]).remove_columns("label"),
            r"no columns may be label; the columns are image",
        ),
        (dataset([0, 1]).remove_columns("image"), r"no columns may be image; .*\n.*the kind Image"),
    ],
    ids=["minus", "numbers", "empty", "none", "one", "label", "image"],
)
def test_sets_that_cannot_be_trained_on_are_refused(
    tmp_path: Path, train: datasets.Dataset, message: str
) -> None:
    """Before any image is read."""
    with pytest.raises(UserError, match=message):
        load_set(save(tmp_path, train=train)).open()


def test_a_split_without_rows_is_refused() -> None:
    """`datasets` itself saves one that it cannot load."""
    with pytest.raises(UserError, match="insects: no rows in train"):
        Split("insects", "train", dataset([]), "", {}).open()


def test_validation_labels_are_those_of_the_training_classes(tmp_path: Path) -> None:
    """Whatever the order of its own list; by name."""
    test = dataset([0, 1], datasets.ClassLabel(names=["bee", "ant"]))
    _, val, _ = load_set(save(tmp_path, train=dataset([0, 1, 2]), test=test)).open()
    assert val is not None
    assert val.labels.tolist() == [2, 1]
    shutil.rmtree(tmp_path / "saved")
    spec = save(tmp_path, train=dataset([0, 1]), test=dataset([0, 2]))
    with pytest.raises(UserError, match="those of test have what the classes of train lack: bee"):
        load_set(spec).open()


def test_columns_are_chosen_where_several_may_be_meant(tmp_path: Path) -> None:
    """As in CIFAR-100, with fine and coarse classes."""
    coarse = datasets.ClassLabel(names=["x", "y"])
    train = dataset([0, 1, 2], coarse=([0, 1, 1], coarse)).rename_column("label", "fine")
    spec = save(tmp_path, train=train)
    with pytest.raises(UserError, match=r"2 columns may be label(.|\n)*hf:.*saved,label=fine"):
        load_set(spec).open()
    assert classes_of(load_set(f"hf:{spec},label=coarse").open()[0]) == ["x", "y", "y"]
    assert classes_of(load_set(f"hf:{spec},label=fine").open()[0]) == NAMES
    with pytest.raises(UserError, match=r"label=course; the columns are image \(Image"):
        load_set(f"hf:{spec},label=course").open()


def test_a_column_called_label_goes_before_others(tmp_path: Path) -> None:
    """Whatever else names classes."""
    train = dataset([0, 1, 2], pose=([0, 1, 1], datasets.ClassLabel(names=["x", "y"])))
    assert classes_of(load_set(save(tmp_path, train=train)).open()[0]) == NAMES


def test_a_folder_that_datasets_can_load_is_opened(tmp_path: Path) -> None:
    """Here class folders: images stay in their files, and are called by their paths."""
    for split, count in (("train", 3), ("test", 2)):
        for name in ("ant", "bee"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for number in range(count):
                (tmp_path / "photos" / split / name / f"{number}.png").write_bytes(png(number))
    data = open_data(f"hf:{tmp_path / 'photos'}")
    referee = open_data(str(tmp_path / "photos"))
    for split, source in data.splits().items():
        assert list(source.names) == list(referee.splits()[split].names)
        assert classes_of(source) == classes_of(referee.splits()[split])
        for index in range(len(source)):
            np.testing.assert_array_equal(source.read(index), referee.splits()[split].read(index))
    (tmp_path / "photos" / "train" / "ant" / "1.png").unlink()
    with pytest.raises(BadImage, match=r"train/ant/1\.png: cannot be read: No such file"):
        data.train.read(1)


def test_a_repository_of_parquet_files_is_opened(tmp_path: Path) -> None:
    """As one clones it from the Hub."""
    (tmp_path / "repo" / "data").mkdir(parents=True)
    for split, labels in (("train", [0, 1, 2]), ("test", [2, 1])):
        path = tmp_path / "repo" / "data" / f"{split}-00000-of-00001.parquet"
        dataset(labels).to_parquet(path)
    data = open_data(f"hf:{tmp_path / 'repo'}")
    assert classes_of(data.train) == NAMES
    assert classes_of(data.val) == ["bee", "ant"]
    assert (data.val.read(1) == 1).all()


def put_in_cache(root: Path, name: str) -> None:
    """A set as if it had been fetched from the Hub before."""
    dataset([0, 1, 2, 0, 1, 2]).to_parquet(root / "train.parquet")
    loaded = datasets.load_dataset("parquet", data_files={"train": str(root / "train.parquet")})
    (found,) = (root / "cache" / "parquet").iterdir()
    assert len(loaded["train"]) == 6
    target = root / "cache" / name.replace("/", "___") / "default"
    target.parent.mkdir()
    shutil.move(found, target)
    for file in target.glob("*/*/parquet-train.arrow"):
        file.rename(file.with_name(f"{name.partition('/')[2]}-train.arrow"))


def test_a_set_of_the_hub_is_read_from_the_cache(tmp_path: Path) -> None:
    """Where there is no network, at once."""
    put_in_cache(tmp_path, "some/insects")
    start = time.perf_counter()
    data = open_data("hf:some/insects")
    assert time.perf_counter() - start < 2
    assert len(data.train) + len(data.val) == 6
    assert "cache, where `datasets` keeps it" in data.notes[0]
    assert datasets.config.HF_HUB_OFFLINE is False


def test_without_a_network_one_message_comes_at_once(tmp_path: Path) -> None:
    """Not after half a minute of tries."""
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"hf:no/insects cannot be opened: .*\n.*cannot be reached"):
        open_data("hf:no/insects")
    assert time.perf_counter() - start < 2
    assert datasets.config.HF_HUB_OFFLINE is False


def test_with_a_network_the_hub_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the configuration and the revision that are named; what it answers is passed on."""
    asked: list[tuple[object, ...]] = []

    def load_dataset(name: str, config: str | None, revision: str | None) -> None:
        asked.append((name, config, revision, datasets.config.HF_HUB_OFFLINE))
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist\non the Hub")

    monkeypatch.setattr(huggingface_sets, "answers", lambda site, seconds: True)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match="Dataset 'a/b' doesn't exist on the Hub"):
        open_data("hf:a/b,config=small,revision=v2")
    assert asked == [("a/b", "small", "v2", False)]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hf:", "hf:: no name"),
        ("hf:,label=x", "no name"),
        ("hf:a/b,lbel=x", r"'lbel=x'\n(.|\n)*did you mean label\?"),
        ("hf:a/b,label", "'label'"),
        ("hf:a/b,label=", "'label='"),
        ("hf:no/such/folder", "no folder no/such/folder"),
        ("hf:./folder", r"no folder \./folder"),
    ],
)
def test_names_that_cannot_be_meant_are_answered(spec: str, message: str) -> None:
    """With the way that they are written."""
    for opening in (open_data, open_evaluation):
        with pytest.raises(UserError, match=message):
            opening(spec)


def test_a_folder_with_commas_is_that_folder(tmp_path: Path) -> None:
    """Whatever lies on the disk under the very name goes before options."""
    (tmp_path / "a,label=b").mkdir()
    assert parse(f"hf:{tmp_path}/a,label=b") == (f"{tmp_path}/a,label=b", {})


def test_a_saved_set_that_is_damaged_is_refused(tmp_path: Path) -> None:
    """With what `datasets` says of it."""
    spec = save(tmp_path, train=dataset([0, 1, 2]))
    (tmp_path / "saved" / "train" / "data-00000-of-00001.arrow").write_bytes(b"nothing")
    with pytest.raises(UserError, match="saved cannot be opened: "):
        load_set(spec)


def test_empty_images_are_named(tmp_path: Path) -> None:
    """By split and row."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    cells = [{"bytes": png(0), "path": None}, None, {"bytes": b"x", "path": None}]
    built = datasets.Dataset.from_dict(
        {"image": cells, "label": ["a", "b", "c"]}, features=features
    )
    train, _, _ = load_set(save(tmp_path, train=built)).open()
    with pytest.raises(BadImage, match="train/000001: its row holds no image"):
        train.read(1)
    with pytest.raises(BadImage, match="train/000002: not an image"):
        train.read_size(2)


def test_a_pickle_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """A spawned worker maps the file itself; labels and names are 8 and about 30 bytes an image."""
    sizes = []
    for count in (30, 330):
        train, _, _ = load_set(save(tmp_path / str(count), train=dataset([0, 1, 2] * count))).open()
        sizes.append(len(pickle.dumps(train)))
    assert (sizes[1] - sizes[0]) / 900 < 40


def test_without_datasets_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders and CSV go without it."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r'datasets is not installed(.|\n)*"deit\[data\]"'):
        open_data("hf:a/b")
