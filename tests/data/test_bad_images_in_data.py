"""Odd files in a data set: what is delivered and what is rejected add up to what is listed.

And each image that is delivered has its own pixels under its own name and label.
"""

import os
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deit.data.check import check_images, find_unreadable, leave_out
from deit.data.dataset import DataSet
from deit.data.images import BadImage
from deit.data.loader import TrainLoader
from deit.data.order import OrderConfig
from deit.data.plan import ViewConfig, plan_views
from deit.data.preprocess import Preprocess
from deit.data.render import render_view
from deit.data.sources import open_data, open_evaluation
from deit.measuring.evaluate import evaluate
from deit.tensors import TwoHeads
from odd_files import OddFile, all_files

# This machine may have fewer cores than a test has workers, about which torch warns.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

CLASSES = 7


def place(number: int, file: OddFile) -> str:
    """The name of an odd file in the data: every sixth is for validation."""
    split = "val" if number % 6 == 5 else "train"
    return f"{split}/class{number % CLASSES}/{number:03d}{file.ending}"


def expected_label(name: str) -> int:
    return int(name.rpartition("/")[2][:3]) % CLASSES


TRUTH = {place(number, file): file for number, file in enumerate(all_files())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All odd files as a data folder."""
    root = tmp_path_factory.mktemp("odd")
    for name, file in TRUTH.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(file.data)
    return root


@pytest.fixture(scope="module", params=["folder", "shards"])
def opened(request: pytest.FixtureRequest, folder: Path, tmp_path_factory) -> DataSet:
    """The data, as a folder and as a tar shard of it."""
    if request.param == "folder":
        return open_data(str(folder))
    path = tmp_path_factory.mktemp("shards") / "odd.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(folder, "odd")
    return open_data(str(path))


@pytest.fixture(scope="module")
def checked(opened: DataSet) -> tuple[DataSet, list[BadImage], DataSet]:
    """The data, what is bad in them, and the rest."""
    bad = check_images(opened, threads=2)
    return opened, bad, leave_out(opened, bad)


def names_of(data: DataSet) -> list[str]:
    return [name for source in data.splits().values() for name in source.names]


def test_delivered_and_rejected_add_up(checked: tuple[DataSet, list[BadImage], DataSet]) -> None:
    """To what is listed, which is all files; each rejected one is named once, with its reason."""
    opened, bad, rest = checked
    rejected = [problem.name for problem in bad]
    assert sorted(names_of(opened)) == sorted(TRUTH)
    assert sorted([*names_of(rest), *rejected]) == sorted(TRUTH)
    assert all(problem.reason for problem in bad)
    assert {name for name, file in TRUTH.items() if file.pixels is None} <= set(rejected)
    for name in rejected:
        assert TRUTH[name].pixels is None or TRUTH[name].or_refused, name


def test_what_is_delivered_is_the_named_image(
    checked: tuple[DataSet, list[BadImage], DataSet],
) -> None:
    """Its own pixels, under its own name and label: nothing stands for another."""
    for source in checked[2].splits().values():
        for index, name in enumerate(source.names):
            off_by = np.abs(source.read(index).astype(int) - TRUTH[name].pixels)
            assert off_by.max() <= TRUTH[name].off_by, name
            assert source.labels[index] == expected_label(name)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_sees_the_images_that_its_labels_belong_to(
    checked: tuple[DataSet, list[BadImage], DataSet], workers: int
) -> None:
    """A whole epoch: each view is that of the pixels which the file was made of."""
    source, config = checked[2].train, ViewConfig(policy="none", erase=0)
    loader = TrainLoader(source, config, OrderConfig(repeats=1), 16, 5, 50, workers)
    seen = []
    for batch in loader.batches(0, loader.steps_per_epoch):
        plan = plan_views(config, 16, 5, batch.epoch, batch.positions.numpy())
        for row, sample in enumerate(batch.samples.tolist()):
            file = TRUTH[source.names[sample]]
            view = render_view(
                np.ascontiguousarray(file.pixels, dtype=np.uint8), plan, row, config, 16
            )
            off_by = np.abs(batch.images[row].numpy().astype(int) - view.transpose(2, 0, 1))
            assert off_by.max() <= 4 * file.off_by, source.names[sample]
            assert batch.labels[row] == expected_label(source.names[sample])
        seen += batch.samples.tolist()
    assert len(set(seen)) == len(seen) == 50 * loader.steps_per_epoch > 200


class Constant(nn.Module):
    """Says class 0 of everything."""

    num_classes = CLASSES

    def forward(self, images, keep=None):
        return TwoHeads(torch.eye(CLASSES)[:1].repeat(len(images), 1), None)


def test_evaluation_refuses_or_counts_all(
    checked: tuple[DataSet, list[BadImage], DataSet],
) -> None:
    """By default it ends with a name; else its count is of all listed images, bad ones wrong."""
    opened, bad, rest = checked
    preprocess = Preprocess(image_size=16)
    with pytest.raises(BadImage) as refused:
        evaluate(Constant(), opened.val, preprocess=preprocess)
    wrong_by_name = [problem.name for problem in bad if problem.name.startswith("val/")]
    assert refused.value.name == wrong_by_name[0]
    result = evaluate(Constant(), opened.val, preprocess=preprocess, bad_images="wrong")
    right = sum(expected_label(name) == 0 for name in rest.val.names)
    assert [problem.name for problem in result.unreadable] == wrong_by_name
    assert result.to_json()["class"]["count"] == len(opened.val)
    assert result.to_json()["class"]["top1"] == right / len(opened.val)


def test_a_training_run_meets_the_bad_image_by_name(opened: DataSet) -> None:
    """Without a check beforehand, and whether or not workers decode."""
    loader = TrainLoader(opened.train, ViewConfig(), OrderConfig(repeats=1), 16, 5, 50, 1)
    with pytest.raises(BadImage) as met:
        list(loader.batches(0, loader.steps_per_epoch))
    assert TRUTH[met.value.name].pixels is None or TRUTH[met.value.name].or_refused


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_dead_link(path: Path) -> None:
    path.symlink_to("gone.jpg")


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(path.parent)  # its address may have a hundred letters only
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)


def a_huge_hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def a_forbidden_file(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path.write_bytes(b"P5 1 1 255 \x07")
    path.chmod(0)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (a_pipe, "not a regular file"),
        (a_device, "not a regular file"),
        (a_dead_link, "No such file"),
        (a_link_to_itself, "symbolic links|cannot be read"),
        (a_socket, "cannot be read: No such device|not a regular file"),
        (a_huge_hole, "a file of 1,099,511,627,776 bytes is too large"),
        (a_forbidden_file, "Permission denied"),
    ],
)
def test_what_is_no_file_is_listed_and_rejected(
    make: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    """By name and at once, in a folder of good images."""
    for split, name in (("train", "a"), ("train", "b"), ("val", "a"), ("val", "b")):
        (tmp_path / split / name).mkdir(parents=True)
        Image.new("L", (4, 4), 9).save(tmp_path / split / name / "good.png")
    make(tmp_path / "train/a/odd.jpg")
    data = open_data(str(tmp_path))
    (bad,) = check_images(data)
    assert bad.name == "train/a/odd.jpg"
    assert len(data.train) == 3
    with pytest.raises(BadImage, match=reason):
        data.train.read(list(data.train.names).index(bad.name))


NAMES = [
    b"caf\xe9.png",
    "café.png".encode(),
    "cafe\u0301.png".encode(),
    b"line\nbreak.png",
    b"carriage\rreturn.png",
    b"-rf.png",
    b" .png",
    b"a b\tc.png",
    b"\xff\xfe.png",
    b"\x1b[31mred.png",
    b"quote'\"`$(x).png",
    b"100%d%s.png",
    b"x" * 251 + b".png",
    "猫.png".encode(),
    "😀.PNG".encode(),
]


def tree_of_names(root: Path) -> Iterator[tuple[bytes, int]]:
    """One image for each odd name, whose grey level is its number."""
    for number, name in enumerate(NAMES):
        folder = os.fsencode(root) + (b"/train/a/" if number % 2 else b"/train/b/")
        os.makedirs(folder, exist_ok=True)
        with open(folder + name, "wb") as file:
            file.write(b"P5 1 1 255 " + bytes([number]))
        yield name, number


def test_images_of_any_name_are_read(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, line breaks, escapes, names of 255 bytes: each its own pixels."""
    levels = dict(tree_of_names(tmp_path))
    source = open_data(str(tmp_path))
    found = {}
    for split in source.splits().values():
        found |= {
            os.fsencode(name).rpartition(b"/")[2]: split.read(i)[0, 0, 0]
            for i, name in enumerate(split.names)
        }
    assert found == levels


def test_bad_images_of_any_name_are_named_in_one_line(tmp_path: Path) -> None:
    """Printable, so that no terminal and no log can be led astray."""
    for name, number in tree_of_names(tmp_path):
        if number > 3:
            path = os.fsencode(tmp_path) + (b"/train/a/" if number % 2 else b"/train/b/") + name
            os.truncate(path, 5)
    bad = check_images(open_data(str(tmp_path)))
    assert len(bad) == len(NAMES) - 4
    assert all(str(problem).isprintable() for problem in bad)
    assert len({str(problem) for problem in bad}) == len(bad)


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_every_source_of_files_keeps_the_size_limit(kind: str, tmp_path: Path) -> None:
    """One pixel more than allowed is refused, by header and by decoding, in both splits."""
    root = tmp_path / "data"
    for split in ("train", "val"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            Image.new("L", (5, 4), 9).save(root / split / name / "1.png")
    spec = str(root)
    if kind == "shards":
        spec = str(tmp_path / "data.tar")
        with tarfile.open(spec, "w") as archive:
            archive.add(root, "data")
    assert check_images(open_data(spec, max_pixels=20)) == []
    for how in ("decode", "header"):
        assert len(check_images(open_data(spec, max_pixels=19), how=how)) == 4
    alone = [open_evaluation(one, max_pixels=19)[0] for one in (spec, str(root / "val"))]
    assert [len(find_unreadable(source, np.arange(2))) for source in alone] == [2, 2]
