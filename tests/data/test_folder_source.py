"""Folders of images: torchvision's order and labels, and one clear message for every mistake."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder

from deit.data.folder import FileSource, open_evaluation_folder, open_folder, scan_split
from deit.errors import UserError


def write(root: Path, *names: str) -> Path:
    """Empty files (and, for names that end in a slash, folders)."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def listing(source: FileSource) -> list[tuple[str, str]]:
    """Each image's name and class, by name."""
    return [
        (name, source.classes.names[label])
        for name, label in zip(source.names, source.labels, strict=True)
    ]


PART = st.text(alphabet="aAbB10-_. é\udcff", min_size=1, max_size=4).filter(
    lambda name: not name.startswith(".") and name.lower() not in ("con", "train", "val", "test")
)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            PART, st.lists(PART, max_size=2), PART, st.sampled_from([".jpg", ".PNG", ".tif"])
        ),
        min_size=1,
        max_size=12,
    )
)
def test_order_and_labels_are_image_folders(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[tuple[str, list[str], str, str]],
) -> None:
    """Referee: torchvision, on folders within folders and names of any letters and bytes."""
    root = tmp_path_factory.mktemp("data")
    for class_name, folders, stem, ending in files:
        write(root, "/".join([class_name, *[f"{folder}+" for folder in folders], stem + ending]))
    theirs = ImageFolder(root)
    ours, notes = scan_split(root, "")
    assert list(ours.classes.names) == theirs.classes
    assert [f"{root}/{name}" for name in ours.names] == [path for path, _ in theirs.samples]
    assert ours.labels.tolist() == theirs.targets
    assert all("only folders of images" in note for note in notes)


def test_class_order_is_lexicographic(tmp_path: Path) -> None:
    """10 before 2, as in torchvision: published weights rely on it."""
    source, _ = scan_split(write(tmp_path, "10/a.png", "2/a.png", "1/a.png"), "")
    assert source.classes.names == ("1", "10", "2")


def test_splits_share_the_training_classes(tmp_path: Path) -> None:
    """Validation labels are translated by name: here every index differs between the folders."""
    names = [f"train/{name}/1.png" for name in "abcd"] + [
        "val/d/1.png",
        "val/b/1.png",
        "val/b/2.png",
    ]
    train, val, notes = open_folder(write(tmp_path, *names))
    assert val is not None
    assert val.classes == train.classes
    assert listing(val) == [("val/b/1.png", "b"), ("val/b/2.png", "b"), ("val/d/1.png", "d")]
    assert notes == []


def test_classes_that_hold_only_folders_are_noted(tmp_path: Path) -> None:
    """The upper folder is the class. One class with images of its own is enough to be sure."""
    names = ["animals/cat/1.jpg", "animals/dog/1.jpg", "things/cup/1.jpg", "things/pen/a/1.jpg"]
    train, _, notes = open_folder(write(tmp_path / "x", *names))
    assert train.classes.names == ("animals", "things")
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert "only folders of images: animals, things." in notes[0]
    assert open_folder(write(tmp_path / "x", "things/1.jpg"))[2] == []
    plain = write(tmp_path / "y", "a/images/1.jpg", "b/images/1.jpg")
    assert open_folder(plain)[2] == []


@given(
    train=st.sets(PART, min_size=2, max_size=6),
    val=st.sets(PART, min_size=1, max_size=6),
)
@settings(max_examples=60)
def test_classes_never_shift_between_splits(
    tmp_path_factory: pytest.TempPathFactory, train: set[str], val: set[str]
) -> None:
    """Either every validation image keeps the class of its folder, or the data is refused."""
    root = tmp_path_factory.mktemp("data")
    write(root, *[f"train/{name}/1.png" for name in train], *[f"val/{name}/1.png" for name in val])
    if val <= train:
        _, source, _ = open_folder(root)
        assert source is not None
        assert listing(source) == [(f"val/{name}/1.png", name) for name in sorted(val)]
    else:
        with pytest.raises(UserError, match=r"those of val/ have what the class folders of train/"):
            open_folder(root)


@pytest.mark.parametrize("name", ["val", "validation", "valid", "test"])
def test_a_validation_split_has_four_names(name: str, tmp_path: Path) -> None:
    """All those in common use."""
    root = write(tmp_path, "train/a/1.png", "train/b/1.png", f"{name}/a/2.png")
    _, val, _ = open_folder(root)
    assert val is not None
    assert list(val.names) == [f"{name}/a/2.png"]


def test_of_several_splits_the_others_are_named(tmp_path: Path) -> None:
    """`val` comes before `test`; whatever else lies there is said to be unused."""
    root = write(
        tmp_path, "train/a/1.png", "train/b/1.png", "test/a/3.png", "val/a/2.png", "extra/x.png"
    )
    _, val, notes = open_folder(root)
    assert val is not None
    assert list(val.names) == ["val/a/2.png"]
    assert [note.rpartition(": ")[2] for note in notes] == ["extra, test"]


def test_what_is_no_image_is_counted_not_used(tmp_path: Path) -> None:
    """Files beside the class folders, and other endings within; hidden files without a word."""
    root = write(
        tmp_path,
        *("train/a/1.jpg", "train/a/2.JPEG", "train/a/notes.txt", "train/a/Thumbs.db"),
        *("train/a/more.txt", "train/a/noending", "train/b/x.webp", "train/readme.md"),
        *("train/.DS_Store", "train/a/._1.jpg", "train/.ipynb_checkpoints/1.png"),
        *("train/__MACOSX/a/1.png", "train/a/.git/1.png"),
    )
    train, _, notes = open_folder(root)
    assert list(train.names) == ["train/a/1.jpg", "train/a/2.JPEG", "train/b/x.webp"]
    assert notes == [
        f"{root}/train: 1 files beside the class folders are not used: readme.md",
        f"{root}/train: 4 files are not used because their ending is no image's: "
        "2 .txt, 1 .db, 1 without ending",
    ]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    """Links to files, to folders as classes and within them; four ways to go round for ever."""
    write(tmp_path, "elsewhere/1.png", "elsewhere/deep/2.png", "data/train/a/1.png")
    train = tmp_path / "data" / "train"
    (train / "b").symlink_to(tmp_path / "elsewhere")
    (train / "a" / "linked.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (train / "a" / "again").symlink_to(train / "a")
    (train / "a" / "up").symlink_to(train)
    (train / "a" / "top").symlink_to(tmp_path)
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    (train / "a" / "dead.png").symlink_to(tmp_path / "gone.png")
    source, _, notes = open_folder(tmp_path / "data")
    names = ["a/1.png", "a/dead.png", "a/linked.png", "b/1.png", "b/deep/2.png"]
    assert list(source.names) == [f"train/{name}" for name in names]
    assert len(notes) == 1
    assert "4 links lead back" in notes[0]
    for link in ("train/a/again", "train/a/up", "train/a/top", "train/b/deep/back"):
        assert link in notes[0]


def test_names_that_are_no_utf8_are_read_and_printed(tmp_path: Path) -> None:
    """From a class folder to an error message."""
    picture = np.full((3, 4, 3), 9, dtype=np.uint8)
    for folder in (b"caf\xe9", b"b"):
        path = os.path.join(os.fsencode(tmp_path), folder)
        os.mkdir(path)
        with open(os.path.join(path, b"\xff\xfe.png"), "wb") as file:
            Image.fromarray(picture).save(file, "PNG")
    source, _, _ = open_folder(tmp_path)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(1), picture)
    os.mkdir(os.path.join(os.fsencode(tmp_path), b"emp\xe9ty"))
    with pytest.raises(UserError) as caught:
        open_folder(tmp_path)
    assert b"without an image: emp\\xe9ty" in str(caught.value).encode("utf-8")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    """Vehicles: a `train` folder of images among other class folders is a class."""
    train, val, _ = open_folder(write(tmp_path, "train/1.png", "car/1.png", "bus/1.png"))
    assert train.classes.names == ("bus", "car", "train")
    assert val is None


MISTAKES: dict[str, tuple[list[str], str, str]] = {
    "missing": (
        ["flowers/a/1.png"],
        "flower",
        r"no folder .*flower\n(.|\n)*did you mean .*/flowers\?",
    ),
    "missing, nothing near": (["xyz/a/1.png"], "flower", "check the path"),
    "parent missing": ([], "no/where", r"no folder .*no/where\n(.|\n)*no folder .*/no either"),
    "a file": (["x.png"], "x.png", "is a file"),
    "empty": (["x/"], "x", "no class folders"),
    "images without classes": (["x/1.png", "x/2.png"], "x", "2 images, but none in a class folder"),
    "train without classes": (["x/train/1.png"], "x", "1 images, but none in a class folder"),
    "only other files": (
        ["x/a/1.txt", "x/b/2.heic"],
        "x",
        "no image in the folders a, b(.|\n)*heic",
    ),
    "an empty class": (["x/a/1.png", "x/b/", "x/c/d/"], "x", "without an image: b, c"),
    "one class": (["x/a/1.png"], "x", "only one class folder, a"),
    "one folder too high": (
        ["x/data/train/a/1.png", "x/data/train/b/1.png"],
        "x",
        r"only one class folder(.|\n)*did you mean .*/x/data\?",
    ),
    "the training split itself": (
        ["x/train/a/1.png", "x/train/b/1.png", "x/val/a/1.png"],
        "x/train",
        r"is one split of a data set: val/ lies beside it(.|\n)*give .*/x\n?",
    ),
    "the validation split itself": (
        ["x/train/a/1.png", "x/test/a/1.png", "x/test/b/1.png"],
        "x/test",
        "is one split of a data set: train/",
    ),
    "only a validation split": (["x/val/a/1.png", "x/val/b/1.png"], "x", "has val/ but no train/"),
    "capital letters": (
        ["x/Train/a/1.png", "x/Test/a/1.png"],
        "x",
        r"class folders called Test, Train(.|\n)*train/ and val or",
    ),
    "an unknown validation class": (
        ["x/train/cat/1.png", "x/train/dog/1.png", "x/val/cats/1.png"],
        "x",
        r"have what the class folders of train/ lack: cats(.|\n)*did you mean cat\?",
    ),
    "no validation image": (
        ["x/train/a/1.png", "x/train/b/1.png", "x/val/a/"],
        "x",
        "x/val: no image in the folders a",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_by_one_clear_message(mistake: str, tmp_path: Path) -> None:
    """What was given, what is allowed, what to do."""
    names, given_path, message = MISTAKES[mistake]
    write(tmp_path, *names)
    with pytest.raises(UserError, match=message) as caught:
        open_folder(tmp_path / given_path)
    assert caught.value.allowed
    assert caught.value.todo


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_named(tmp_path: Path) -> None:
    """Not passed over: its images would be missing without a word."""
    write(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a").chmod(0)
    with pytest.raises(UserError, match="a: Permission denied"):
        open_folder(tmp_path)


def test_a_folder_that_vanishes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any failure of the file system is an error with the path."""
    write(tmp_path, "a/1.png", "b/1.png")
    scandir = os.scandir

    def failing(path: str) -> object:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(UserError, match="/b: Permission denied"):
        open_folder(tmp_path)


def test_for_measuring_a_validation_split_may_stand_alone(tmp_path: Path) -> None:
    """Given by its parent without `train`, or itself; a training folder is not meant."""
    write(tmp_path, "x/val/a/1.png", "x/val/b/1.png", "y/train/a/1.png", "z/a/1.png")
    for given_path, name in (("x", "val/a/1.png"), ("x/val", "a/1.png")):
        opened = open_evaluation_folder(tmp_path / given_path)
        assert opened is not None
        assert opened[0].names[0] == name
    assert open_evaluation_folder(tmp_path / "y") is None
    assert open_evaluation_folder(tmp_path / "z") is None
    with pytest.raises(UserError, match="no folder"):
        open_evaluation_folder(tmp_path / "w")


def test_one_class_with_several_inner_folders_is_enough_to_be_noted(tmp_path: Path) -> None:
    """All images in inner folders: the upper ones are hardly the classes that are meant."""
    inner = ("things/china", "things/flower", "other/noise")
    root = write(tmp_path, *(f"train/{name}/{n}.png" for name in inner for n in range(2)))
    assert any("write a manifest" in note for note in open_folder(root)[2])
    write(tmp_path, "train/other/own.png")
    assert not any("write a manifest" in note for note in open_folder(root)[2])


@pytest.mark.parametrize("name", ["vaildation", "Eval"])
def test_a_misspelled_validation_split_is_pointed_out(name: str, tmp_path: Path) -> None:
    """A tenth is set aside in its place; without a word that would be noticed late."""
    root = write(tmp_path, "train/a/1.png", "train/b/1.png", f"{name}/a/1.png", "notes/1.txt")
    notes = open_folder(root)[2]
    assert f"{root}: if {name} holds the validation images, call it val" in notes
    assert not any("if notes holds" in note for note in notes)
