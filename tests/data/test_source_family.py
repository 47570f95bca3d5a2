"""One set of images through every way in: the same classes, labels, pixels and, by path, names."""

import csv
import json
import multiprocessing
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from deit.data import workers
from deit.data.check import check_images
from deit.data.dataset import DataSet, SizedSource, Source, read_bytes
from deit.data.images import BadImage
from deit.data.loader import TrainLoader
from deit.data.order import OrderConfig
from deit.data.plan import ViewConfig
from deit.data.shrinking import ShrinkConfig
from deit.data.sources import open_data, open_evaluation
from deit.programs.prepare_data import prepare_data

CLASSES = ("ant", "bee", "élan")
SPLITS = {"train": 4, "val": 2}


def write_photos(root: Path) -> None:
    """Images of 6 x 7 pixels and noise, so that no two are alike."""
    generator = np.random.default_rng(0)
    for split, count in SPLITS.items():
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (6, 7, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")


def rows_of(root: Path) -> list[dict[str, str]]:
    """What a manifest of the photos says, in the folders' order."""
    return [
        {"path": f"{split}/{name}/{number}.png", "label": name, "split": split}
        for split, count in SPLITS.items()
        for name in CLASSES
        for number in range(count)
    ]


def make_folder(root: Path) -> str:
    return str(root)


def make_shards(root: Path) -> str:
    with tarfile.open(root.parent / "photos.tar", "w") as archive:
        archive.add(root, "photos")
    return str(root.parent / "photos.tar")


def make_csv(root: Path) -> str:
    with open(root / "a.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "label", "split"])
        writer.writeheader()
        writer.writerows(rows_of(root))
    return str(root / "a.csv")


def make_jsonl(root: Path) -> str:
    lines = [json.dumps(row) for row in rows_of(root)]
    (root / "a.jsonl").write_text("\n".join(lines))
    return str(root / "a.jsonl")


def make_parquet(root: Path) -> str:
    pq.write_table(pa.Table.from_pylist(rows_of(root)), root / "a.parquet", row_group_size=5)
    return str(root / "a.parquet")


def make_parquet_of_bytes(root: Path) -> str:
    rows = [row | {"image": (root / row["path"]).read_bytes()} for row in rows_of(root)]
    pq.write_table(pa.Table.from_pylist(rows), root / "bytes.parquet", row_group_size=5)
    return str(root / "bytes.parquet")


def make_parquet_of_structs(root: Path) -> str:
    """As `datasets` writes it: bytes and path in one column, classes as numbers, a file a split."""
    for split, dataset in embed(root).items():
        dataset.to_parquet(root.parent / f"{split}.parquet", batch_size=3)
    return str(root.parent / "train.parquet")


def make_saved(root: Path) -> str:
    embed(root).save_to_disk(root.parent / "saved")
    return str(root.parent / "saved")


def embed(root: Path) -> datasets.DatasetDict:
    """The photos as `datasets` holds them, with their bytes."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    splits: dict[str, list[dict[str, object]]] = {split: [] for split in SPLITS}
    for row in rows_of(root):
        image = {"bytes": (root / row["path"]).read_bytes(), "path": row["path"]}
        splits[row["split"]].append({"image": image, "label": row["label"]})
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_list(rows, features) for split, rows in splits.items()}
    )


MEMBERS: dict[str, Callable[[Path], str]] = {
    "folder": make_folder,
    "shards": make_shards,
    "csv": make_csv,
    "jsonl": make_jsonl,
    "parquet": make_parquet,
    "bytes": make_parquet_of_bytes,
    "structs": make_parquet_of_structs,
    "saved": make_saved,
}
NAMED_BY_PATH = [name for name in MEMBERS if name != "saved"]
HOLDS_BYTES = ("bytes", "structs", "saved")


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The photos as DATA of every kind."""
    datasets.disable_progress_bars()
    root = tmp_path_factory.mktemp("family") / "photos"
    write_photos(root)
    return {name: make(root) for name, make in MEMBERS.items()}


@pytest.fixture(scope="module")
def opened(specs: dict[str, str]) -> dict[str, DataSet]:
    return {name: open_data(spec) for name, spec in specs.items()}


@pytest.mark.parametrize("member", MEMBERS)
def test_every_way_in_gives_the_same_images(member: str, opened: dict[str, DataSet]) -> None:
    """The folder is the referee, and Pillow for its pixels."""
    for split, source in opened[member].splits().items():
        referee = opened["folder"].splits()[split]
        assert isinstance(source, Source)
        assert source.classes == referee.classes
        np.testing.assert_array_equal(source.labels, referee.labels)
        assert source.labels.dtype == np.int64
        assert len(source) == len(set(source.names)) == SPLITS[split] * len(CLASSES)
        if member in NAMED_BY_PATH:
            assert list(source.names) == list(referee.names)
        for index, name in enumerate(referee.names):
            folder = Path(opened["folder"].train.root)  # type: ignore[attr-defined]
            with Image.open(folder / name) as image:
                np.testing.assert_array_equal(source.read(index), np.asarray(image))


@pytest.mark.parametrize("member", MEMBERS)
def test_every_source_goes_through_a_pickle(member: str, opened: dict[str, DataSet]) -> None:
    """Into workers that are spawned, and small: neither pixels nor bytes go along."""
    source = opened[member].train
    before = source.read(3)
    packed = pickle.dumps(source)
    again = pickle.loads(packed)
    assert list(again.names) == list(source.names)
    np.testing.assert_array_equal(again.read(3), before)
    assert before.tobytes() not in packed


@pytest.mark.parametrize("member", MEMBERS)
def test_every_source_knows_sizes_from_headers(
    member: str, opened: dict[str, DataSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With decoding switched off."""
    source = opened[member].val
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert isinstance(source, SizedSource)
    assert source.read_size(len(source) - 1) == (6, 7)


@pytest.mark.parametrize("member", MEMBERS)
def test_every_source_gives_the_files_undecoded(member: str, opened: dict[str, DataSet]) -> None:
    """Byte for byte: checks and prepared stores look at the files themselves."""
    folder = Path(opened["folder"].train.root)  # type: ignore[attr-defined]
    for split, source in opened[member].splits().items():
        for index, name in enumerate(opened["folder"].splits()[split].names):
            assert read_bytes(source, index) == (folder / name).read_bytes()


@pytest.mark.parametrize("member", MEMBERS)
def test_every_source_can_be_prepared(
    member: str, specs: dict[str, str], opened: dict[str, DataSet], tmp_path: Path
) -> None:
    """The store is the same data set: names, labels, classes, splits, and here the pixels too."""
    prepare_data(opened[member], specs[member], tmp_path / "store", ShrinkConfig(size=64))
    store = open_data(str(tmp_path / "store"))
    for split, source in opened[member].splits().items():
        kept = store.splits()[split]
        assert list(kept.names) == list(source.names)
        assert kept.classes == source.classes
        np.testing.assert_array_equal(kept.labels, source.labels)
        np.testing.assert_array_equal(kept.read(2), source.read(2))


@pytest.mark.parametrize("member", MEMBERS)
def test_measuring_takes_the_validation_images(
    member: str, specs: dict[str, str], opened: dict[str, DataSet]
) -> None:
    """The same that training measures on."""
    source, _ = open_evaluation(specs[member])
    assert list(source.names) == list(opened[member].val.names)


def render(source: Source, workers: int) -> list[np.ndarray]:
    """Two batches of augmented views, over the end of an epoch."""
    views = TrainLoader(source, ViewConfig(), OrderConfig(), 8, 7, 6, workers)
    return [batch.images.numpy().copy() for batch in views.batches(1, 3)]


@pytest.mark.parametrize("member", MEMBERS)
def test_forked_workers_render_the_same_batches(member: str, opened: dict[str, DataSet]) -> None:
    """As one process does from the folder: views depend on order, labels and pixels alone.

    The parent has read before, so a child inherits what is open and kept there.
    """
    opened[member].train.read(0)
    expected = render(opened["folder"].train, workers=0)
    for images, referee in zip(render(opened[member].train, 2), expected, strict=True):
        np.testing.assert_array_equal(images, referee)


@pytest.mark.parametrize("member", HOLDS_BYTES)
def test_spawned_processes_read_the_same_images(member: str, opened: dict[str, DataSet]) -> None:
    """From the pickle alone; files opened by the parent are not theirs."""
    source = opened[member].train
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        first, last = pool.map(source.read, [0, len(source) - 1])
    np.testing.assert_array_equal(first, source.read(0))
    np.testing.assert_array_equal(last, source.read(len(source) - 1))


@pytest.mark.long
@pytest.mark.parametrize("member", MEMBERS)
def test_spawned_workers_render_the_same_batches(
    member: str, opened: dict[str, DataSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As forked ones do; each imports torch first, which takes seconds."""
    expected = render(opened["folder"].train, workers=0)
    monkeypatch.setattr(workers, "start_method", lambda: "spawn")
    for images, referee in zip(render(opened[member].train, 1), expected, strict=True):
        np.testing.assert_array_equal(images, referee)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_broken_image_is_named(
    member: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name in the source, while all others are read, in several threads."""
    root = tmp_path / "photos"
    write_photos(root)
    (root / "train" / "bee" / "2.png").write_bytes(b"no image")
    data = open_data(MEMBERS[member](root))
    (problem,) = check_images(data, threads=4)
    assert isinstance(problem, BadImage)
    assert problem.name == data.train.names[6]
    assert "not an image" in problem.reason
