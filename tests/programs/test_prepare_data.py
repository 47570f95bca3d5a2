"""A prepared store is the same data set as the one it was made of, however it came to be whole."""

import json
import multiprocessing
import os
import shutil
import signal
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from deit.data import prepared as prepared_module
from deit.data.images import decode_image
from deit.data.loader import TrainLoader
from deit.data.order import OrderConfig
from deit.data.plan import ViewConfig
from deit.data.shrinking import ShrinkConfig, shrink_image
from deit.data.sources import open_data, open_evaluation
from deit.errors import UserError
from deit.programs import prepare_data as program
from deit.programs import prepared_shards
from deit.programs.prepare import fingerprint
from deit.programs.prepare_data import Prepared, prepare_data
from photo_folder import write_photos

SMALL = ShrinkConfig(size=24)
SPLIT = {"train/cat": 9, "train/dog": 8, "val/cat": 2, "val/dog": 3}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", SPLIT)


@pytest.fixture(autouse=True)
def short_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four images."""
    monkeypatch.setattr(program, "IMAGES_PER_SHARD", 4)


def prepare(spec: object, out: Path, config: ShrinkConfig = SMALL, **more: object) -> Prepared:
    return prepare_data(open_data(str(spec)), str(spec), out, config, **more)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")}


def specs(root: Path, kind: str) -> str:
    """DATA of every kind that can be had without a download."""
    if kind == "folder":
        return str(write_photos(root / "split", SPLIT))
    if kind == "folder without validation":
        return str(write_photos(root / "unsplit", {"cat": 23, "dog": 31, "b.c d/é": 12}))
    if kind == "shards":
        with tarfile.open(root / "all.tar", "w") as archive:
            archive.add(write_photos(root / "packed", SPLIT), arcname="photos")
        return str(root / "all.tar")
    return "digits"


KINDS = ("folder", "folder without validation", "shards", "digits")


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_is_the_same_data_set(kind: str, tmp_path: Path, monkeypatch) -> None:
    """Names, labels, classes, order and splits: also the tenth that was set aside."""
    if kind == "digits":
        monkeypatch.setattr(program, "IMAGES_PER_SHARD", 500)
    spec = specs(tmp_path, kind)
    original = open_data(spec)
    prepare(spec, tmp_path / "store")
    store = open_data(str(tmp_path / "store"))
    assert fingerprint(store) == fingerprint(original)
    assert list(store.val.names) == list(original.val.names)
    assert open_data(str(tmp_path / "store"), images_per_class=5).train.names == (
        open_data(spec, images_per_class=5).train.names
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_is_the_shrunk_one_of_its_name(kind: str, tmp_path: Path, monkeypatch) -> None:
    if kind == "digits":
        monkeypatch.setattr(program, "IMAGES_PER_SHARD", 500)
    spec = specs(tmp_path, kind)
    prepare(spec, tmp_path / "store")
    store, original = open_data(str(tmp_path / "store")), open_data(spec)
    for split in ("train", "val"):
        ours, theirs = store.splits()[split], original.splits()[split]
        for index in range(min(len(theirs), 40)):
            expected = decode_image(shrink_image(theirs, index, SMALL)[0], "expected")
            assert (ours.read(index) == expected).all()


def test_plans_of_views_are_the_same(photos: Path, tmp_path: Path) -> None:
    """So labels stored for one have the places of the other; workers can read it."""
    prepare(photos, tmp_path / "store")

    def batches(spec: Path, workers: int) -> list[tuple[list[int], list[int]]]:
        loader = TrainLoader(
            open_data(str(spec)).train, ViewConfig(), OrderConfig(), 16, 0, 8, workers
        )
        return [(b.samples.tolist(), b.labels.tolist()) for b in loader.batches(0, 4)]

    assert batches(tmp_path / "store", 2) == batches(photos, 0)


def test_the_store_can_be_moved_and_evaluated_on(photos: Path, tmp_path: Path) -> None:
    prepare(photos, tmp_path / "store")
    shutil.move(tmp_path / "store", tmp_path / "elsewhere")
    source, notes = open_evaluation(str(tmp_path / "elsewhere"))
    assert len(source) == 5
    assert source.read(4).shape[0] == 24
    assert any("prepared from" in note for note in notes)


def test_shards_are_plain_tar_files_of_class_folders(photos: Path, tmp_path: Path) -> None:
    """Read by their names alone, in the same order and with the same labels."""
    prepare(photos, tmp_path / "store")
    paths = [f"{tmp_path}/store/{name}" for name in ("train-{000..004}.tar", "val-{000..001}.tar")]
    plain = open_data(",".join(paths))
    store = open_data(str(tmp_path / "store"))
    for split in ("train", "val"):
        ours, theirs = store.splits()[split], plain.splits()[split]
        assert ours.labels.tolist() == theirs.labels.tolist()
        assert all((ours.read(i) == theirs.read(i)).all() for i in range(len(ours)))


def test_threads_change_nothing(photos: Path, tmp_path: Path) -> None:
    """Byte for byte."""
    for threads in (1, 4):
        prepare(photos, tmp_path / str(threads), threads=threads)
    assert content(tmp_path / "1") == content(tmp_path / "4")


def die_at_image(spec: str, out: Path, number: int) -> None:
    """Prepare, and be killed in the middle of a shard."""
    shrink = prepared_shards.shrink_image
    calls = iter(range(10_000))

    def shrink_or_die(source, index, config):
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return shrink(source, index, config)

    prepared_shards.shrink_image = shrink_or_die
    prepared_shards._CHUNK = 1
    prepare(spec, out, threads=1)


@pytest.mark.parametrize(("number", "shards", "images"), [(2, 0, 0), (10, 2, 8), (19, 5, 17)])
def test_a_killed_preparation_goes_on_where_it_was(
    number: int, shards: int, images: int, photos: Path, tmp_path: Path
) -> None:
    """SIGKILL in the middle of a shard; whole shards are kept, the result is that of one call."""
    prepare(photos, tmp_path / "undisturbed")
    out = tmp_path / "store"
    child = multiprocessing.get_context("fork").Process(
        target=die_at_image, args=(str(photos), out, number)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    whole = {path: path.stat().st_ino for path in out.glob("*.tar")}
    assert len(whole) == shards
    with pytest.raises(UserError, match="interrupted"):
        open_data(str(out))
    assert prepare(photos, out).made == 22 - images
    assert {path: path.stat().st_ino for path in whole} == whole
    assert content(out) == content(tmp_path / "undisturbed")


def test_a_preparation_that_dies_at_the_very_end_goes_on(
    photos: Path, tmp_path: Path, monkeypatch
) -> None:
    """After the description was written, before all traces are gone."""
    prepare(photos, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr(program, "_tidy", lambda path: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            prepare(photos, tmp_path / "store")
    prepare(photos, tmp_path / "store")
    assert content(tmp_path / "store") == content(tmp_path / "undisturbed")


def test_bad_images_are_left_out_by_name(photos: Path, tmp_path: Path) -> None:
    """Told by the program, by the store, and whenever the store is opened; none is replaced."""
    (photos / "train/cat/3.jpg").write_bytes(b"no image")
    (photos / "val/dog/1.jpg").write_bytes(b"")
    result = prepare(photos, tmp_path / "store")
    assert [bad.name for bad in result.bad] == ["train/cat/3.jpg", "val/dog/1.jpg"]
    assert (result.images, result.made, result.smaller) == (20, 20, 20)
    store = open_data(str(tmp_path / "store"))
    original = open_data(str(photos))
    kept = [name for name in original.train.names if name != "train/cat/3.jpg"]
    assert list(store.train.names) == kept
    assert store.train.labels.tolist() == [0] * 8 + [1] * 8
    assert store.val.labels.tolist() == [0, 0, 1, 1]
    last = decode_image(shrink_image(original.train, 16, SMALL)[0], "expected")
    assert (store.train.read(15) == last).all()
    described = json.loads((tmp_path / "store/prepared.json").read_text())
    assert described["bad_images"][1] == {"name": "val/dog/1.jpg", "reason": result.bad[1].reason}
    assert any("train/cat/3.jpg" in note for note in store.notes)


def test_a_class_without_a_usable_image_is_refused(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", {**SPLIT, "train/fox": 1, "val/fox": 1})
    (photos / "train/fox/0.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match="no usable image is left for fox"):
        prepare(photos, tmp_path / "store")


def test_the_description_says_what_was_done(photos: Path, tmp_path: Path) -> None:
    result = prepare(photos, tmp_path / "store", difference=lambda: {"training": 1.5})
    described = json.loads((tmp_path / "store/prepared.json").read_text())
    assert described["bytes_before"] == sum(p.stat().st_size for p in photos.rglob("*.jpg"))
    tars = list((tmp_path / "store").glob("*.tar"))
    assert described["bytes_after"] == sum(path.stat().st_size for path in tars)
    assert described["images"] == {"train": 17, "val": 5}
    assert (described["size"], described["encoding"], described["quality"]) == (24, "jpeg", 95)
    assert described["difference"] == {"training": 1.5}
    assert result.images == result.made == 22


def test_shards_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Of three digits or more."""
    names = ["train-009.tar", "train-100.tar", "train-101.tar", "train-999.tar", "train-1000.tar"]
    for name in (*names, "val-000.tar"):
        (tmp_path / name).touch()
    assert [path.name for path in prepared_module.shards_of(tmp_path, "train")] == names


def test_a_preparation_with_other_shards_is_not_gone_on_with(
    photos: Path, tmp_path: Path, monkeypatch
) -> None:
    """Its images would be there twice."""
    monkeypatch.setattr(program, "_tidy", lambda path: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        prepare(photos, tmp_path / "store")
    monkeypatch.setattr(program, "IMAGES_PER_SHARD", 5)
    assert "images_per_shard was 4, is 5" in refused(photos, tmp_path / "store")


def test_progress_counts_every_image(photos: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    prepare(photos, tmp_path / "store", progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (22, 22)


def refused(spec: object, out: Path, config: ShrinkConfig = SMALL) -> str:
    with pytest.raises(UserError) as caught:
        prepare(spec, out, config)
    return str(caught.value)


def test_folders_that_hold_something_else_are_refused(photos: Path, tmp_path: Path) -> None:
    """Nothing is written there."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("mine")
    assert "exists already" in refused(photos, tmp_path / "other")
    assert content(tmp_path / "other") == {"thesis.txt": b"mine"}
    prepare(photos, tmp_path / "store")
    before = content(tmp_path / "store")
    assert "is a prepared store" in refused(photos, tmp_path / "store")
    assert "exists already" in refused(photos, tmp_path / "other/thesis.txt")
    assert content(tmp_path / "store") == before


@pytest.mark.parametrize("change", ["size", "images", "limit"])
def test_another_preparation_is_not_gone_on_with(
    change: str, photos: Path, tmp_path: Path, monkeypatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(program, "_gather", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            prepare(photos, tmp_path / "store")
    if change == "size":
        said = refused(photos, tmp_path / "store", ShrinkConfig(size=20))
        assert "size was 24, is 20" in said
    elif change == "limit":
        data = open_data(str(photos), max_pixels=99_999)
        with pytest.raises(UserError, match="max_pixels was 67108864, is 99999"):
            prepare_data(data, str(photos), tmp_path / "store", SMALL)
    else:
        shutil.copy(photos / "train/cat/1.jpg", photos / "train/cat/new.jpg")
        assert "other images" in refused(photos, tmp_path / "store")


def test_too_little_room_is_told_before_the_start(
    photos: Path, tmp_path: Path, monkeypatch
) -> None:
    free = SimpleNamespace(free=20_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    assert "0.0 GB are free" in refused(photos, tmp_path / "store")
    assert list((tmp_path / "store").glob("*.tar")) == []
    free.free = 200_000
    prepare(photos, tmp_path / "store")


def hold(store: Path, begun, done) -> None:
    program.write_shard = lambda *_: (begun.set(), done.wait(30))
    prepare(store.parent / "photos", store)


def test_two_preparations_of_one_folder_are_refused(photos: Path, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    begun, done = fork.Event(), fork.Event()
    child = fork.Process(target=hold, args=(tmp_path / "store", begun, done))
    child.start()
    assert begun.wait(30)
    said = refused(photos, tmp_path / "store")
    child.kill()
    child.join()
    assert "is being prepared by another process" in said
    prepare(photos, tmp_path / "store")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("train-001.tar", lambda path: path.write_bytes(path.read_bytes()[:-512])),
        ("train-001.tar", Path.unlink),
        ("images.npz", Path.unlink),
        ("images.npz", lambda path: path.write_bytes(path.read_bytes()[:100])),
        ("prepared.json", lambda path: path.write_text("{")),
        ("prepared.json", lambda path: path.write_text("[]")),
    ],
)
def test_damaged_stores_are_refused_by_name(name, damage, photos: Path, tmp_path: Path) -> None:
    prepare(photos, tmp_path / "store")
    damage(tmp_path / "store" / name)
    with pytest.raises(UserError, match=f"store/{name} is not what"):
        open_data(str(tmp_path / "store"))


def test_a_store_of_a_later_format_is_refused(photos: Path, tmp_path: Path, monkeypatch) -> None:
    prepare(photos, tmp_path / "store")
    monkeypatch.setattr(prepared_module, "FORMAT", 0)
    with pytest.raises(UserError, match="a store of format 1"):
        open_data(str(tmp_path / "store"))
