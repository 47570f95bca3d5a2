"""`--json`, `--html` and `--plot` replace earlier files of theirs, and nothing else."""

from pathlib import Path

import pytest

from deit.cli.main import main
from deit.cli.tables import check_writable
from deit.errors import UserError
from photo_folder import write_photos

EARLIER = {
    "json": b'{"rows": []}\n',
    "html": b"<!doctype html>\n<p>figures</p>",
    "plot": b"\x89PNG\r\n\x1a\n....",
}
OTHER = {
    "json": b"file,label\n1.jpg,cat\n",
    "html": b"\xff\xd8\xff\xe0 a photograph",
    "plot": b"\xff\xd8\xff\xe0 a photograph",
}
NAMES = {"json": "train.csv", "html": "k.jpg", "plot": "figure.png"}


@pytest.mark.parametrize("option", NAMES)
def test_a_file_of_another_kind_is_refused(option: str, tmp_path: Path) -> None:
    path = tmp_path / NAMES[option]
    path.write_bytes(OTHER[option])
    with pytest.raises(UserError, match=f"--{option} .*{NAMES[option]} is there already"):
        check_writable(**{option: path})


@pytest.mark.parametrize("option", NAMES)
@pytest.mark.parametrize("earlier", [True, False])
def test_an_earlier_file_or_an_empty_one_is_replaced(option, earlier, tmp_path) -> None:
    path = tmp_path / NAMES[option]
    path.write_bytes(EARLIER[option] if earlier else b"")
    check_writable(**{option: path})


@pytest.mark.parametrize("start", [b"\n {}", b"\xef\xbb\xbf[1]", b"[\n 1\n]"])
def test_white_space_and_a_byte_order_mark_may_come_first(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(start)
    check_writable(json=tmp_path / "a.json")


def test_an_svg_plot_is_replaced_and_a_picture_by_that_name_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text('<?xml version="1.0"?><svg/>')
    check_writable(plot=path)
    path.write_bytes(EARLIER["plot"])
    with pytest.raises(UserError, match="choose another name"):
        check_writable(plot=path)


def test_a_manifest_of_json_lines_is_refused(tmp_path: Path) -> None:
    """It begins as JSON does."""
    (tmp_path / "train.jsonl").write_text('{"file": "1.jpg", "label": "cat"}\n')
    with pytest.raises(UserError, match="is there already"):
        check_writable(json=tmp_path / "train.jsonl")


@pytest.mark.parametrize(
    ("verb", "option"), [("check", "--json"), ("stats", "--json"), ("stats", "--html")]
)
def test_verbs_leave_the_file_as_it_was(verb: str, option: str, tmp_path: Path, capsys) -> None:
    """Exit code 2, before any image is read."""
    photos = write_photos(tmp_path / "photos", {"train/cat": 2, "train/dog": 2})
    manifest = photos / "train.csv"
    manifest.write_text("file,label\n")
    assert main(["data", verb, str(photos), option, str(manifest)]) == 2
    captured = capsys.readouterr()
    assert f"{option} {manifest} is there already" in captured.err
    assert captured.out == ""
    assert manifest.read_text() == "file,label\n"
