"""Images inside a Parquet file: which column, what they are called, memory, damage."""

import io
import multiprocessing
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from deit.data import parquet_images, parquet_table
from deit.data.dataset import Source
from deit.data.images import BadImage
from deit.data.manifest import read_manifest
from deit.data.parquet_images import ParquetSource
from deit.data.sources import open_data
from deit.errors import UserError


def png(number: int) -> bytes:
    """An image whose grey is its number."""
    buffer = io.BytesIO()
    Image.new("L", (4, 3), number).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, columns: dict[str, Any], group: int = 4, **options: Any) -> str:
    pq.write_table(pa.table(columns), path, row_group_size=group, **options)
    return str(path)


def numbered(count: int) -> dict[str, Any]:
    return {"image": [png(n) for n in range(count)], "label": [n % 2 for n in range(count)]}


def train_of(path: str) -> Source:
    return read_manifest(path).open()[0]


def test_images_are_named_by_their_rows(tmp_path: Path) -> None:
    """Where nothing else names them; said in a note."""
    train, _, notes = read_manifest(write(tmp_path / "a.parquet", numbered(10))).open()
    assert list(train.names)[8:] == ["train/000008", "train/000009"]
    assert [int(train.read(index)[0, 0, 0]) for index in range(10)] == list(range(10))
    assert notes[-1].endswith("have no paths of their own and are named by their rows")


@pytest.mark.parametrize(
    ("columns", "note"),
    [
        (
            {"image": [b"x", b"y"], "mask": [b"z", b"z"]},
            "images lie in the column 'image', their classes in 'label'",
        ),
        (
            {"img": [{"bytes": b"x", "path": "1"}, {"bytes": b"y", "path": "2"}]},
            "images lie in the column 'img', their classes in 'label'",
        ),
        (
            {"scan": [b"x", b"y"], "file": ["1", "2"], "split": ["train", "val"]},
            "images lie in the column 'scan', their names in 'file', their classes in 'label', "
            "their splits in 'split'",
        ),
    ],
)
def test_a_note_names_every_column_that_is_used(
    tmp_path: Path, columns: dict[str, Any], note: str
) -> None:
    """That of the images too, which may be one of several."""
    path = write(tmp_path / "a.parquet", columns | {"label": ["a", "b"]})
    notes = read_manifest(path).notes
    assert notes[0] == f"{path}: {note}"
    unused = [f"{path}: columns that are not used: mask"] if "mask" in columns else []
    assert notes[1 : 1 + len(unused)] == unused


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), "struct", "struct with path"])
def test_bytes_may_lie_in_any_kind_of_column(tmp_path: Path, kind: Any) -> None:
    """Under any name, as long as it is the only one; a path in a structure names its image."""
    cells: Any = [png(n) for n in range(6)]
    if kind == "struct":
        cells = [{"bytes": cell} for cell in cells]
    elif kind == "struct with path":
        cells = [{"bytes": cell, "path": f"{n}.png"} for n, cell in enumerate(cells)]
    else:
        cells = pa.array(cells, kind)
    train = train_of(write(tmp_path / "a.parquet", {"x": cells, "label": list("ababab")}))
    assert train.names[5] == ("5.png" if kind == "struct with path" else "train/000005")
    assert (train.read(5) == 5).all()


def test_images_that_are_called_alike_go_by_their_rows(tmp_path: Path) -> None:
    """As files of several folders are; across both splits."""
    for split, count in (("train", 6), ("test", 4)):
        cells = [{"bytes": png(n), "path": f"{n}.png"} for n in range(count)]
        write(tmp_path / f"{split}.parquet", {"image": cells, "label": ["a", "b"] * (count // 2)})
    data = open_data(str(tmp_path / "train.parquet"))
    assert (data.train.names[1], data.val.names[1]) == ("train/000001", "test/000001")
    assert (data.val.read(1) == 1).all()


def test_a_column_of_splits_picks_rows(tmp_path: Path) -> None:
    """Of one file; each image keeps the number of its row."""
    columns = numbered(8) | {"split": ["train", "val"] * 4, "label": list("aabbaabb")}
    data = open_data(write(tmp_path / "a.parquet", columns))
    assert [int(data.val.read(index)[0, 0, 0]) for index in range(4)] == [1, 3, 5, 7]
    assert data.val.names[1] == "val/000003"


def test_paths_without_bytes_name_files(tmp_path: Path) -> None:
    """As `datasets` writes a set whose images stayed where they were."""
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    cells = [{"bytes": None, "path": f"{n}.png"} for n in range(4)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    train = train_of(
        write(tmp_path / "a.parquet", {"image": pa.array(cells, kind), "label": list("abab")})
    )
    assert [int(train.read(index)[0, 0, 0]) for index in range(4)] == [0, 1, 2, 3]
    assert list(train.names) == ["0.png", "1.png", "2.png", "3.png"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [b"x"], "b": [b"y"], "label": ["c"]}, "several columns may hold the image: a, b"),
        ({"image": [b"x"]}, "no column is the label; there are none"),
        ({"image": [b"x"], "what": ["c"]}, "no column is the label; there are what"),
        ({"image": [b"x", b"y"], "label": ["c", None]}, r"a row has no class .*: row 2\n"),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.string())}, "has no rows"),
    ],
)
def test_tables_that_leave_a_question_are_refused(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    """As CSV is."""
    with pytest.raises(UserError, match=message):
        train_of(write(tmp_path / "a.parquet", columns))


def test_groups_too_large_to_read_for_one_image_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do about it."""
    monkeypatch.setattr(parquet_table, "MOST_GROUP_BYTES", 1000)
    path = write(tmp_path / "a.parquet", numbered(40), group=40, compression="none")
    with pytest.raises(UserError, match=r"group of rows holds .*(.|\n)*row_group_size=100"):
        train_of(path)
    assert len(train_of(write(tmp_path / "a.parquet", numbered(40), group=4)))


def test_what_is_kept_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups read last are kept, and read once; older ones go."""
    train = train_of(write(tmp_path / "a.parquet", numbered(40)))
    assert isinstance(train, ParquetSource)
    reads: list[int] = []
    read_group = parquet_images.ParquetImages._read_group
    monkeypatch.setattr(
        parquet_images.ParquetImages,
        "_read_group",
        lambda self, group, name: reads.append(group) or read_group(self, group, name),
    )
    train.read(0)
    size = next(iter(train.images._kept.groups.values())).nbytes
    monkeypatch.setattr(parquet_images, "KEPT_BYTES", 3 * size + 40)
    for index in (1, 5, 9, 2, 13, 3, 5):
        train.read(index)
    assert reads == [0, 1, 2, 3, 1]
    assert sum(kept.nbytes for kept in train.images._kept.groups.values()) <= 3 * size + 40


def test_what_an_image_costs_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not all groups can be kept: then their size decides the pace of training."""
    path = write(tmp_path / "a.parquet", numbered(40))
    assert not any("group of rows" in note for note in read_manifest(path).notes)
    monkeypatch.setattr(parquet_images, "KEPT_BYTES", 1000)
    (note,) = (note for note in read_manifest(path).notes if "group of rows" in note)
    assert "its group of rows, on average 0.0 MiB" in note


def test_threads_read_the_right_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While they drive each other's groups out."""
    train = train_of(write(tmp_path / "a.parquet", numbered(60)))
    monkeypatch.setattr(parquet_images, "KEPT_BYTES", 1)
    wrong: list[int] = []

    def work(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(60)[:40].tolist()
        wrong.extend(index for index in order if not (train.read(index) == index).all())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_worker_does_not_wait_for_its_parents_threads(tmp_path: Path) -> None:
    """One of them may be reading, and hold the lock, at the moment of the fork."""
    train = train_of(write(tmp_path / "a.parquet", numbered(8)))
    assert isinstance(train, ParquetSource)
    train.read(0)
    with train.images._kept.lock:
        child = multiprocessing.get_context("fork").Process(target=train.read, args=(5,))
        child.start()
        child.join(10)
    alive = child.is_alive()
    child.kill()
    assert not alive
    assert child.exitcode == 0


def test_bad_rows_are_named(tmp_path: Path) -> None:
    """An empty cell, and bytes that are no image."""
    columns = numbered(6)
    columns["image"][2:4] = [None, b"hello"]
    train = train_of(write(tmp_path / "a.parquet", columns))
    with pytest.raises(BadImage, match=r"train/000002: no bytes in its row of a\.parquet"):
        train.read(2)
    with pytest.raises(BadImage, match="train/000003: not an image"):
        train.read(3)
    assert (train.read(4) == 4).all()


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    """Rows lie elsewhere in it then."""
    path = write(tmp_path / "a.parquet", numbered(8))
    train = train_of(path)
    train.read(0)
    write(tmp_path / "a.parquet", numbered(10))
    with pytest.raises(BadImage, match=r"a\.parquet has changed since it was opened"):
        train.read(7)
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(BadImage, match="cannot be read"):
        train.read(7)


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CSV goes without it."""
    path = write(tmp_path / "a.parquet", numbered(4))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(
        UserError, match=r'pyarrow is not installed(.|\n)*pip install "deit\[data\]"'
    ):
        open_data(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_refused_or_named(tmp_path: Path, data: st.DataObject) -> None:
    """Wherever the file is cut or a byte of its pages changed: no other error than ours.

    Its last part, where the columns are described, bears no check sum, and pyarrow trusts it.
    """
    path = Path(write(tmp_path / "a.parquet", numbered(6), compression="none"))
    content = bytearray(path.read_bytes())
    pages = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, pages - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)
    try:
        train = train_of(str(path))
    except UserError:
        return
    for index in range(len(train)):
        try:
            train.read(index)
        except BadImage as problem:
            assert problem.name == train.names[index]  # noqa: PT017
