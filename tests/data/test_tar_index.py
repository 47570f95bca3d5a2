"""Headers of tar archives: every member's bytes are found, and nothing hostile is believed."""

import io
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deit.data import tar_index
from deit.data.images import BadImage
from deit.data.tar_index import list_members, read_member
from deit.errors import UserError

LONG = "folder" * 20 + "/" + "x" * 200 + "é\udcff.png"


def header(name: str, size: int = 0, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def pack(path: Path, files: dict[str, bytes], *others: tarfile.TarInfo, form: int = 1) -> Path:
    """A tar archive of files, and of members without content."""
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in files.items():
            archive.addfile(header(name, len(content)), io.BytesIO(content))
        for info in others:
            archive.addfile(info)
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_file_is_found_byte_for_byte(form: int, tmp_path: Path) -> None:
    """In all formats of tar; long names and names that are no UTF-8 where a format has them."""
    files = {"./a//b.png": b"", "c/d.png": bytes(range(256)) * 5, "e": b"x" * 512, "f": b"y" * 513}
    files |= {} if form == tarfile.USTAR_FORMAT else {LONG: b"long"}
    archive, members = list_members(str(pack(tmp_path / "x.tar", files, form=form)))
    expected = {name.replace("./a//", "a/"): content for name, content in files.items()}
    assert {"/".join(member.parts) for member in members} == set(expected)
    for member in members:
        content = read_member(archive, member.offset, member.size, "name")
        assert content == expected["/".join(member.parts)]


def test_no_content_is_read_for_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard of 64 MB costs a few blocks for each of its members."""
    path = pack(tmp_path / "x.tar", {f"a/{number}": bytes(2**24) for number in range(4)})
    reads: list[int] = []
    readinto = io.FileIO.readinto

    class Counted(io.FileIO):
        def readinto(self, buffer: bytearray) -> int | None:
            reads.append(readinto(self, buffer) or 0)
            return reads[-1]

    monkeypatch.setattr(tar_index.io, "FileIO", Counted)
    assert len(list_members(str(path))[1]) == 4
    assert 0 < sum(reads) < 2**17


def test_what_is_no_plain_file_is_told_apart(tmp_path: Path) -> None:
    """Links, devices and pipes are never followed or opened; sparse files have gaps."""
    link = header("l.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    hard = header("h.png", type=tarfile.LNKTYPE, linkname="../../secret")
    device, pipe = header("d.png", type=tarfile.CHRTYPE), header("p.png", type=tarfile.FIFOTYPE)
    sparse = header("s.png", type=tarfile.GNUTYPE_SPARSE)
    folder = header("f", type=tarfile.DIRTYPE)
    path = pack(tmp_path / "x.tar", {"a.png": b"1"}, link, hard, device, pipe, sparse, folder)
    kinds = {"/".join(member.parts): member.kind for member in list_members(str(path))[1]}
    others = dict.fromkeys(["l.png", "h.png", "d.png", "p.png", "s.png"], "other")
    assert kinds == {"a.png": "file", "f": "folder", **others}


@pytest.mark.parametrize("name", ["/etc/x.png", "../x.png", "a/../../x.png", "a/..", "a\0b.png"])
def test_names_that_lead_out_are_refused(name: str, tmp_path: Path) -> None:
    """Nothing is written, but such an archive is no data set."""
    form = tarfile.PAX_FORMAT if "\0" in name else tarfile.GNU_FORMAT
    info = header("plain.png", pax_headers={"path": name}) if "\0" in name else header(name)
    path = pack(tmp_path / "x.tar", {"a/b.png": b"1"}, info, form=form)
    with pytest.raises(UserError, match=r"x\.tar: a member called (.|\n)*tar -C photos"):
        list_members(str(path))


def whole(tmp_path: Path) -> bytes:
    return pack(
        tmp_path / "w.tar", {f"a/{number}.png": bytes(700) for number in range(5)}
    ).read_bytes()


def joined(data: bytes) -> bytes:
    return data + data


def bomb(data: bytes) -> bytes:
    """A long name of 8 GiB is promised."""
    info = header("././@LongLink", 2**33, type=tarfile.GNUTYPE_LONGNAME)
    return data[:1536] + info.tobuf(tarfile.GNU_FORMAT) + data[1536:]


def nested(data: bytes) -> bytes:
    """Thousands of long names for one member."""
    info = header("././@LongLink", 4, type=tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT)
    return (info + b"abc\0" + bytes(508)) * 5000 + data


def backwards(data: bytes) -> bytes:
    """A size below zero leads back to the same header for ever."""
    info = header("b.png", type=tarfile.REGTYPE)
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 10 + (0x10000 - 512).to_bytes(2, "big")
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return data[:1536] + bytes(block) + data[1536:]


def beyond(data: bytes) -> bytes:
    """A global PAX header gives every file a size of its own liking."""
    record = b"16 size=1000000\n"
    info = header("g", len(record), type=tarfile.XGLTYPE)
    return info.tobuf(tarfile.GNU_FORMAT) + record.ljust(512, b"\0") + data


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "is no tar archive: empty file"),
    "text": (lambda data: b"not a tar archive " * 100, "is no tar archive"),
    "gzip": (lambda data: b"\x1f\x8b\x08" + bytes(2000), "compressed with gzip(.|\n)*gunzip"),
    "zstd": (lambda data: b"\x28\xb5\x2f\xfd" + bytes(2000), "compressed with zstd"),
    "half a file": (lambda data: data[:1000], r"it ends within a/0\.png"),
    "half a header": (lambda data: data[:2000], "without an end mark: copied in part"),
    "no end mark": (lambda data: data[: 5 * 1536], "without an end mark: copied in part"),
    "a bad header": (
        lambda data: data[:1536] + b"junk" * 128 + data[2048:],
        "no header at byte 1536",
    ),
    "joined": (joined, "more follows its end mark"),
    "a bomb": (bomb, "a header of 8589934592 bytes"),
    "nested": (nested, "is no tar archive"),
    "backwards": (backwards, "is no whole tar archive"),
    "beyond": (beyond, "is no (whole )?tar archive"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_refused_by_name(damage: str, tmp_path: Path) -> None:
    """Never read in part: images would be missing without a word."""
    harm, message = DAMAGES[damage]
    path = tmp_path / "x.tar"
    path.write_bytes(harm(whole(tmp_path)))
    with pytest.raises(UserError, match=rf"x\.tar (.|\n)*{message}"):
        list_members(str(path))


@given(length=st.integers(0, 5 * 1536 + 511))
def test_no_archive_that_is_cut_is_taken_as_whole(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    """Wherever a copy broke off before the end mark."""
    folder = tmp_path_factory.mktemp("cut")
    path = folder / "x.tar"
    path.write_bytes(whole(folder)[:length])
    with pytest.raises(UserError, match="tar archive"):
        list_members(str(path))


@given(st.binary(max_size=1600), st.integers(0, 3000))
def test_hostile_bytes_never_end_in_anything_else(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, place: int
) -> None:
    """Members that lie in the file, or a UserError."""
    folder = tmp_path_factory.mktemp("junk")
    data = whole(folder)
    path = folder / "x.tar"
    path.write_bytes(data[:place] + junk + data[place + len(junk) :])
    try:
        _, members = list_members(str(path))
    except UserError:
        return
    assert all(0 < m.offset <= len(data) + 1600 - m.size for m in members if m.kind == "file")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Nor a missing file let through."""
    os.mkfifo(tmp_path / "p.tar")
    for name, message in (("p.tar", "no regular file"), ("gone.tar", "cannot be read: No such")):
        with pytest.raises(UserError, match=message):
            list_members(str(tmp_path / name))


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(512))


def cut(path: Path) -> None:
    status = path.stat()
    path.write_bytes(path.read_bytes()[:600])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def touched(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


@pytest.mark.parametrize("change", [grown, cut, touched, Path.unlink])
@pytest.mark.parametrize("opened", [True, False])
def test_a_changed_archive_is_named(
    change: Callable[[Path], None], opened: bool, tmp_path: Path
) -> None:
    """Whether it is open already or not; a deleted one that is open can still be read."""
    path = pack(tmp_path / "x.tar", {"a/b.png": b"12345"})
    archive, (member,) = list_members(str(path))
    if opened:
        assert read_member(archive, member.offset, member.size, "a/b.png") == b"12345"
    change(path)
    if opened and change is Path.unlink:
        assert read_member(archive, member.offset, member.size, "a/b.png") == b"12345"
        return
    with pytest.raises(BadImage, match=r"a/b\.png: x\.tar (has changed|cannot be read: No such)"):
        read_member(archive, member.offset, member.size, "a/b.png")


def test_a_replaced_archive_is_read_anew(tmp_path: Path) -> None:
    """What is kept open belongs to one state of the file, not to its path."""
    for content in (b"one", b"three"):
        path = pack(tmp_path / "new.tar", {"b.png": content}).rename(tmp_path / "x.tar")
        archive, (member,) = list_members(str(path))
        assert read_member(archive, member.offset, member.size, "b.png") == content


def test_no_more_archives_stay_open_than_said(tmp_path: Path) -> None:
    """ImageNet has more shards than many systems allow files; threads read them all at once."""
    found = []
    for number in range(tar_index.OPEN_ARCHIVES + 40):
        path = pack(tmp_path / f"{number}.tar", {"b.png": b"%d" % number})
        found.append(list_members(str(path)))
    contents: list[bytes] = []

    def read_all() -> None:
        for archive, (member,) in found:
            contents.append(read_member(archive, member.offset, member.size, "b.png"))

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(contents) == sorted(4 * [b"%d" % number for number in range(len(found))])
    if os.path.isdir("/proc/self/fd"):
        targets = map(os.path.realpath, Path("/proc/self/fd").iterdir())
        still_open = sum(target.startswith(str(tmp_path)) for target in targets)
        assert still_open == tar_index.OPEN_ARCHIVES


def test_an_oversized_member_is_refused_unread(tmp_path: Path) -> None:
    """Like a file of that size."""
    archive, (member,) = list_members(str(pack(tmp_path / "x.tar", {"b.png": b"1"})))
    with pytest.raises(BadImage, match=r"in x\.tar: a file of 536,870,913 bytes is too large"):
        read_member(archive, member.offset, 2**29 + 1, "b.png")
