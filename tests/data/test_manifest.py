"""Manifests: which columns, splits and classes are meant, and what is refused beforehand."""

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from deit.data.dataset import DataSet, Source
from deit.data.folder import FileSource
from deit.data.manifest import Manifest, read_manifest
from deit.data.sources import open_data, open_evaluation
from deit.errors import UserError

BASE = "path,label\n1.png,cat\n2.png,dog\n3.png,dog\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Nine images, the grey of each its number, beside which manifests are written."""
    for number in range(1, 10):
        Image.new("L", (2, 3), number).save(tmp_path / f"{number}.png")
    return tmp_path


def write(root: Path, content: str, name: str = "a.csv") -> str:
    (root / name).write_text(content, encoding="utf-8")
    return str(root / name)


def manifest(root: Path, content: str, name: str = "a.csv") -> Manifest:
    return read_manifest(write(root, content, name))


def rows_of(source: Source | None) -> list[tuple[str, str]]:
    """Each image's name and class."""
    assert source is not None
    return [
        (name, source.classes.names[label])
        for name, label in zip(source.names, source.labels, strict=True)
    ]


def opened(root: Path, content: str, name: str = "a.csv") -> list[tuple[str, str]]:
    """The training images of a manifest."""
    return rows_of(manifest(root, content, name).open()[0])


def test_images_keep_the_order_of_the_rows(root: Path) -> None:
    """Classes are sorted; pixels are those of the files."""
    train, val, notes = manifest(root, "path,label\n3.png,dog\n1.png,cat\n2.png,dog\n").open()
    assert rows_of(train) == [("3.png", "dog"), ("1.png", "cat"), ("2.png", "dog")]
    assert train.classes.names == ("cat", "dog")
    assert [int(train.read(index)[0, 0, 0]) for index in range(3)] == [3, 1, 2]
    assert val is None
    assert notes == [
        f"{root}/a.csv: images are named by the column 'path', their classes by 'label'"
    ]


@pytest.mark.parametrize("path", ["file", "FileName", "file_name", "image", "filepath", " Path "])
@pytest.mark.parametrize("label", ["class", "class_name", "Target", "label"])
def test_columns_may_have_the_common_names(root: Path, path: str, label: str) -> None:
    """In any case of letters, beside columns that mean nothing here; a note says which."""
    content = f"width,{label},{path}\n7,cat,1.png\n7,dog,2.png\n"
    _, _, notes = manifest(root, content).open()
    expected = f"by the column '{path.strip()}', their classes by '{label}'"
    assert notes[0].endswith(expected)
    assert opened(root, content) == [("1.png", "cat"), ("2.png", "dog")]


def test_the_plain_name_goes_before_the_others(root: Path) -> None:
    """`path`, `label` and `split` are meant wherever they are."""
    content = "image,path,target,label\nx,1.png,0.5,cat\ny,2.png,0.1,dog\n"
    assert opened(root, content) == [("1.png", "cat"), ("2.png", "dog")]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("where,label", r"no column is the path; there are where, label\n.*file_name"),
        ("path,kind", r"no column is the label; there are path, kind\n.*class_name"),
        ("file,image,label", r"several columns may be the path: file, image\n"),
        ("path,class,target", r"several columns may be the label: class, target\n"),
        ("path,label,set,subset", r"several columns may be the split: subset, set\n"),
        ("1.png,cat", r"has no header: its first line is 1\.png, cat\n.*\n.*path,label"),
    ],
)
def test_columns_that_are_missing_or_ambiguous_are_refused(
    root: Path, header: str, message: str
) -> None:
    """Naming what is there."""
    row = ",".join(["1.png"] * len(header.split(",")))
    with pytest.raises(UserError, match=message):
        manifest(root, f"{header}\n{row}\n")


def test_splits_are_told_by_a_column(root: Path) -> None:
    """In any case of letters; of several validation splits the first of ours is measured on."""
    content = (
        "path,label,subset\n1.png,cat,Train\n2.png,dog,train\n3.png,dog,test\n4.png,cat,valid\n"
    )
    train, val, notes = manifest(root, content).open()
    assert rows_of(train) == [("1.png", "cat"), ("2.png", "dog")]
    assert rows_of(val) == [("4.png", "cat")]
    assert notes[-1].endswith("splits that are not used: test (1)")


def test_numbered_folds_are_no_splits(root: Path) -> None:
    """Of a cross-validation: which of them to measure on is not said."""
    content = "path,label,fold\n1.png,cat,0\n2.png,dog,1\n"
    assert opened(root, content) == [("1.png", "cat"), ("2.png", "dog")]
    assert opened(root, content.replace(",0", ",train").replace(",1", ",train"))


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("spilt", ("train", "val")),
        ("Splits", ("a", "b")),
        ("phase", ("Train", "valid")),
        ("part", ("test", "test")),
        ("part", ("val", "")),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_column_that_may_be_meant_as_the_split_is_not_passed_over(
    root: Path, column: str, cells: tuple[str, str], name: str
) -> None:
    """Its validation images would be trained on."""
    columns = {"path": ["1.png", "2.png"], "label": ["cat", "dog"], column: list(cells)}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if name == "a.csv":
        write(root, "\n".join(",".join(row) for row in [columns, *(row.values() for row in rows)]))
    elif name == "a.jsonl":
        write(root, "\n".join(map(json.dumps, rows)), name)
    else:
        pq.write_table(pa.table(columns), root / name)
    with pytest.raises(UserError, match=f"the column '{column}' is not used") as refused:
        read_manifest(str(root / name))
    assert "did you mean split?" in refused.value.todo


def test_columns_that_are_not_used_are_named(root: Path) -> None:
    """In a note; beside a column of splits another one may hold such names."""
    content = "path,label,fold,split,old\n1.png,cat,0,train,val\n2.png,dog,1,train,train\n"
    train, val, notes = manifest(root, content).open()
    assert (len(train), val) == (2, None)
    assert notes[1] == f"{root}/a.csv: columns that are not used: fold, old"
    pq.write_table(
        pa.table({"path": ["1.png", "2.png"], "label": ["a", "b"], "x": [[1], [2]]}),
        root / "a.parquet",
    )
    assert read_manifest(str(root / "a.parquet")).notes[1].endswith("columns that are not used: x")


@pytest.mark.parametrize("other", ["val", "validation", "valid", "test"])
def test_the_validation_manifest_lies_beside(root: Path, other: str) -> None:
    """Said in a note; labels are those of the training classes, by name."""
    write(root, "path,label\n4.png,dog\n", f"birds_{other}.csv")
    train, val, notes = manifest(root, BASE, "birds_train.csv").open()
    assert (len(train), rows_of(val)) == (3, [("4.png", "dog")])
    assert val is not None
    assert val.classes is train.classes
    assert notes[-1].endswith(f"birds_{other}.csv beside it is its validation split")
    source, _ = open_evaluation(str(root / f"birds_{other}.csv"))
    assert rows_of(source) == [("4.png", "dog")]
    with pytest.raises(UserError, match=r"is one split of a data set: birds_train\.csv lies"):
        open_data(str(root / f"birds_{other}.csv"))


def test_a_manifest_without_splits_has_a_tenth_set_aside(root: Path) -> None:
    """The same images as of a folder: the choice hangs on names below the class's folder."""
    photos = root / "photos"
    names = [f"{name}/{number}.png" for name in ("a", "b") for number in range(20)]
    for name in names:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(photos / name)
    lines = "".join(f"{name},{name[0]}\n" for name in names)
    data = open_data(write(photos, f"path,label\n{lines}"))
    (photos / "a.csv").unlink()
    assert set(data.val.names) == set(open_data(str(photos)).val.names)
    assert "a tenth of each class, 4 images, is set aside" in data.notes[-1]


def test_one_split_alone_can_be_measured_on(root: Path) -> None:
    """By its column, or by the name of its file; not trained on."""
    by_column = write(root, "path,label,split\n1.png,cat,test\n2.png,dog,test\n")
    assert len(open_evaluation(by_column)[0]) == 2
    with pytest.raises(UserError, match=r"rows of test only, none of train"):
        open_data(by_column)
    by_name = write(root, BASE, "test.csv")
    assert len(open_evaluation(by_name)[0]) == 3
    assert len(open_data(write(root, BASE)).train) + 1 == 3


def test_numbers_are_classes_in_numerical_order(root: Path) -> None:
    """And called by their number, said in a note."""
    train, _, notes = manifest(root, "path,label\n1.png,10\n2.png,9\n3.png,0\n").open()
    assert train.classes.names == ("0", "9", "10")
    assert notes[-1].endswith("the classes are numbers, and so are their names")
    text = manifest(root, "path,label\n1.png,10\n2.png,9\n3.png,x\n").open()[0]
    assert text.classes.names == ("10", "9", "x")
    lines = '{"path": "1.png", "label": 10}\n{"path": "2.png", "label": 9}\n'
    assert manifest(root, lines, "a.jsonl").open()[0].classes.names == ("9", "10")


def test_numbers_may_have_names_in_a_second_column(root: Path) -> None:
    """One for each; the order is that of the numbers."""
    content = "path,label,label_name\n1.png,1,ant\n2.png,0,bee\n3.png,1,ant\n"
    train, _, notes = manifest(root, content).open()
    assert train.classes.names == ("bee", "ant")
    assert [label for _, label in rows_of(train)] == ["ant", "bee", "ant"]
    assert notes[0].endswith("the classes' names stand in 'label_name'")
    with pytest.raises(UserError, match=r"class 1 is called ant, and elsewhere fly"):
        manifest(root, content + "4.png,1,fly\n")
    with pytest.raises(UserError, match=r"ant is class 1, and elsewhere 2"):
        manifest(root, content + "4.png,2,ant\n")


def test_numbers_may_have_names_in_a_list_beside(root: Path) -> None:
    """In its order; names that no training image has are left out, said so."""
    (root / "classes.txt").write_text("wasp\nant\nbee\n")
    train, _, notes = manifest(root, "path,label\n1.png,2\n2.png,0\n").open()
    assert train.classes.names == ("wasp", "bee")
    assert rows_of(train) == [("1.png", "bee"), ("2.png", "wasp")]
    assert "names are from classes.txt" in notes[1]
    assert "1 of 3 classes have no image to learn from and are left out: ant" in notes[2]
    with pytest.raises(UserError, match=r"a row has a class above 2, the last of 3 in classes.txt"):
        manifest(root, "path,label\n1.png,3\n2.png,0\n")
    (root / "classes.txt").write_text("wasp\n\nbee\n")
    with pytest.raises(UserError, match=r"classes\.txt: empty, or with an empty line"):
        manifest(root, "path,label\n1.png,2\n2.png,0\n")


def test_paths_are_told_from_the_manifests_folder_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absolute ones, steps up and needless points too; wherever the program was started."""
    (root / "lists").mkdir()
    monkeypatch.chdir(root / "lists")
    content = f"path,label\n../1.png,cat\n.//..//2.png,dog\n{root}/3.png,dog\n"
    train = manifest(root / "lists", content).open()[0]
    assert list(train.names) == ["../1.png", "../2.png", f"{root}/3.png"]
    assert [int(train.read(index)[0, 0, 0]) for index in range(3)] == [1, 2, 3]
    assert isinstance(train, FileSource)
    assert [train.read_size(index) for index in range(3)] == [(3, 2)] * 3
    inside = manifest(root, f"path,label\n{root}/1.png,cat\n./2.png,dog\n").open()[0]
    assert list(inside.names) == ["1.png", "2.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\n", r"a\.csv has no rows"),
        ("path,label\n1.png,cat\n2.png,\n3.png,\n", r"2 rows have no class .*: lines 3, 4\n"),
        ("path,label\n1.png,cat\n2.png,'  '\n".replace("'", '"'), r"a row has no class .*line 3"),
        ("path,label\n,cat\n", r"a row has an empty path: line 2"),
        ("path,label\n1.png,0\n2.png,-1\n", r"a row has a class below 0, .*: line 3"),
        (
            "path,label,split\n1.png,cat,",
            r"no split in .*\n.*allowed: one of train, val, validation, valid, test for each image",
        ),
        (
            "path,label,split\n1.png,cat,dev\n",
            r"splits that are not known: dev \(line 2\)\n.*valid",
        ),
        ("path,label,split\n1.png,cat,\n", r"a row has no split in the column 'split': line 2"),
        (BASE + "1.png,dog\n", r"1\.png is in more than one class: cat, dog \(lines 2, 5\)"),
        (
            "path,label,split\n1.png,a,train\n./1.png,a,val\n2.png,b,train\n2.png,b,test\n",
            r"1\.png is in more than one split: train, val \(lines 2, 3\); and 1 more like it",
        ),
        ("path,label\n1.png,cat\n2.png,cat\n", "only one class, cat"),
        (
            "path,label\nx,cat\n2.png,dog\ny,dog\n",
            r"2 of 3 files are not there: x, y \(lines 2, 4\)\n",
        ),
        (
            "path,label\n1,cat\n2,dog\n",
            r"2 of 2 files are not there: 1, 2 \(lines 2, 3\)\n(.|\n)*too: 1\.png",
        ),
        (
            "path,label\na\\1.png,cat\n2.png,dog\n",
            r"not there: a\\1\.png \(line 2\)\n(.|\n)*write / betw",
        ),
        ("path,label\n.,cat\n..,dog\n", r"2 of 2 paths are folders: \., \.\. \(lines 2, 3\)\n"),
        (
            "path,label\n.,cat\nx,dog\n3.png,dog\n",
            r"1 of 3 files are not there: x \(line 3\); 1 of 3 paths are folders: \. \(line 2\)",
        ),
        (
            "path,label,split\nx,a,train\n1.png,b,train\n2.png,b,train\ny,b,val\n3.png,a,test\n",
            r"2 of 5 files are not there: x, y \(lines 2, 5\)\n",
        ),
    ],
)
def test_bad_rows_are_named_before_any_image_is_read(
    root: Path, content: str, message: str
) -> None:
    """With their lines, and how many there are."""
    with pytest.raises(UserError, match=message):
        open_data(write(root, content))


def test_files_of_a_split_that_is_not_used_may_lack(root: Path) -> None:
    """Nobody reads them; those that are measured on are asked for."""
    content = "path,label,split\n1.png,a,train\n2.png,b,train\n3.png,a,val\nx,b,test\n"
    assert len(opened(root, content)) == 2
    with pytest.raises(UserError, match=r"1 of 4 files are not there: x \(line 5\)"):
        manifest(root, content.replace("test", "val")).open()
    with pytest.raises(UserError, match=r"1 of 1 files are not there: x \(line 2\)"):
        open_evaluation(write(root, "path,label\nx,a\n", "test.csv"))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (True, "neither text nor a number"),
        (["cat"], "neither text nor a number"),
        ("\ud800", "neither text nor a number"),
        (None, "no class"),
        (-1, "a class below 0"),
    ],
)
def test_classes_are_text_or_whole_numbers(root: Path, cell: object, message: str) -> None:
    """One for each image."""
    lines = json.dumps({"path": "1.png", "label": cell}) + '\n{"path": "2.png", "label": 0}'
    with pytest.raises(UserError, match=f"a row has {message}"):
        manifest(root, lines, "a.jsonl")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_numbers_with_a_fraction_are_no_classes(root: Path, name: str) -> None:
    """Tables write whole numbers so where a cell was empty; as text 10.0 would go before 2.0."""
    paths, labels = ["1.png", "2.png", "3.png"], [1.0, 2.0, 10.0]
    rows = list(zip(paths, labels, strict=True))
    if name == "a.csv":
        write(root, "path,label\n" + "".join(f"{path},{label}\n" for path, label in rows), name)
    elif name == "a.jsonl":
        lines = [json.dumps({"path": path, "label": label}) for path, label in rows]
        write(root, "\n".join(lines), name)
    else:
        pq.write_table(pa.table({"path": paths, "label": labels}), root / name)
    with pytest.raises(UserError, match=r"3 rows have a number with a fraction") as refused:
        read_manifest(str(root / name))
    assert refused.value.allowed == "whole numbers or names"
    assert "pandas" in refused.value.todo


@pytest.mark.parametrize("label", ["1.5", "-1.0", "3.", "1,0", "1.0e3"])
def test_fractions_are_known_however_they_are_written(root: Path, label: str) -> None:
    """One of them is enough; names with points and digits are names."""
    with pytest.raises(UserError, match=r"a row has a number with a fraction .*: line 3"):
        manifest(root, f"path;label\n1.png;cat\n2.png;{label}\n")
    assert opened(root, "path,label\n1.png,v1.0\n2.png,1.0.2\n")


def test_a_cell_that_is_no_number_has_no_class(root: Path) -> None:
    """As JSON of Python says that a cell was empty."""
    with pytest.raises(UserError, match=r"a row has no class .*: line 1"):
        manifest(root, '{"path": "1.png", "label": NaN}\n', "a.jsonl")


def test_a_number_that_is_written_in_two_ways_is_refused(root: Path) -> None:
    """It would be two classes; numbers that are all padded are names like others."""
    with pytest.raises(UserError, match=r"classes written in two ways: 2 and 02 \(lines 2, 4\)"):
        manifest(root, "path,label\n1.png,2\n2.png,3\n3.png,02\n4.png,02\n")
    padded = opened(root, "path,label\n1.png,00\n2.png,02\n3.png,10\n")
    assert [label for _, label in padded] == ["00", "02", "10"]


@pytest.mark.parametrize("path", [3, ["1.png"], "1\0.png", "\udc80.png"])
def test_paths_are_text_that_can_name_a_file(root: Path, path: object) -> None:
    """JSON can hold what no file system can."""
    with pytest.raises(UserError, match="a row has no path of a file: line 1"):
        manifest(root, json.dumps({"path": path, "label": "cat"}), "a.jsonl")


def test_rows_that_repeat_another_are_left_out(root: Path) -> None:
    """An image is in a data set once; said so."""
    train, _, notes = manifest(root, BASE + "2.png,dog\n./1.png,cat\n").open()
    assert list(train.names) == ["1.png", "2.png", "3.png"]
    assert notes[1].endswith("2 rows name an image again and are not used: lines 5, 6")


def test_the_same_image_in_two_manifests_is_refused(root: Path) -> None:
    """It would be measured on after it was learned."""
    write(root, "path,label\n2.png,dog\n", "val.csv")
    with pytest.raises(UserError, match=r"train\.csv and .*val\.csv: 2\.png\n"):
        open_data(write(root, BASE, "train.csv"))
    write(root, "path,label,split\n4.png,dog,train\n", "val.csv")
    with pytest.raises(UserError, match=r"val\.csv, beside .*train\.csv, has rows of train too"):
        open_data(write(root, BASE, "train.csv"))


def test_classes_that_are_only_measured_are_refused(root: Path) -> None:
    """Their images could not be answered right."""
    write(root, "path,label\n4.png,fox\n", "val.csv")
    with pytest.raises(UserError, match=r"those of val have what the classes of train lack: fox"):
        open_data(write(root, BASE, "train.csv"))


def test_parquet_says_the_same_as_csv(root: Path) -> None:
    """Text, numbers, dictionaries; columns that mean nothing are not read."""
    columns = {
        "file": ["1.png", "2.png", "3.png"],
        "label": pa.array(["cat", "dog", "dog"]).dictionary_encode(),
        "embedding": [[0.5] * 8] * 3,
    }
    pq.write_table(pa.table(columns), root / "a.parquet")
    opened = read_manifest(str(root / "a.parquet"))
    assert rows_of(opened.open()[0]) == [("1.png", "cat"), ("2.png", "dog"), ("3.png", "dog")]
    assert opened.rows[0].table.unread == ["embedding"]


def everything(data: DataSet) -> Iterable[tuple[str, str]]:
    return [pair for source in data.splits().values() for pair in rows_of(source)]


CELL = st.sampled_from(["1.png", "2.png", "3.png", "x", "", "cat", "dog", "0", "1", "-1", "train"])
TEXT = st.text(st.sampled_from('path,label\n\r"\t;:{}[]019.n\ufeff\0é'), max_size=60)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.lists(st.lists(CELL, min_size=2, max_size=3), min_size=1, max_size=6).map(
            lambda rows: "path,label,split\n" + "\n".join(",".join(row) for row in rows)
        ),
        st.lists(st.tuples(CELL, CELL), max_size=6).map(
            lambda rows: "path,label\n" + "\n".join(",".join(row) for row in rows)
        ),
        TEXT,
        TEXT.map(lambda text: "path,label\n" + text),
    ),
    st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.parquet", "train.csv"]),
)
@example(BASE, "a.csv")
def test_any_table_is_opened_or_refused(root: Path, content: str, name: str) -> None:
    """Whatever stands in it: a `UserError`, or images that are files there, in one split each."""
    path = root / name
    path.write_bytes(content.encode())
    try:
        pairs = everything(open_data(str(path)))
    except UserError:
        return
    finally:
        path.unlink()
    assert len({image for image, _ in pairs}) == len(pairs)
    assert all((root / image).is_file() and label for image, label in pairs)
    assert all(image in content for image, _ in pairs)
