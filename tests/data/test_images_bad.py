"""Bad images of every kind we could think of: each is refused as a `BadImage`, with a reason."""

import io
import os
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from deit.data.images import BadImage, decode_image, read_file_size, read_image_file

NOISE = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    """A PNG with any header and any compressed data."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def changed(data: bytes, place: int, by: bytes) -> bytes:
    return data[:place] + by + data[place + len(by) :]


def float_tiff(*values: float) -> bytes:
    return encoded(np.array([values], dtype=np.float32), "TIFF")


JPEG = encoded(NOISE, "JPEG")
PNG = encoded(NOISE, "PNG")
GIF = encoded(NOISE, "GIF")
BMP = encoded(NOISE, "BMP")
TIFF = encoded(NOISE, "TIFF")
LZW = encoded(NOISE, "TIFF", compression="tiff_lzw")
WEBP = encoded(NOISE, "WEBP", lossless=True)
PPM = encoded(NOISE, "PPM")
FRAME = JPEG.index(b"\xff\xc0")

BAD: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\xff",
    "zeros": b"\0" * 4096,
    "text": b"hello, this is no image\n" * 40,
    "html": b"\n<!DOCTYPE html><html><body>404</body></html>",
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "pdf": b"%PDF-1.7\n" + b"x" * 100,
    "zip": b"PK\x03\x04" + b"x" * 100,
    "heic": b"\0\0\0\x18ftypheic" + b"x" * 100,
    "avif": b"\0\0\0\x18ftypavif" + b"x" * 100,
    "photoshop": b"8BPS\0\x01" + b"x" * 100,
    "git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "pickle": b"\x80\x04\x95\x05\0\0\0\0\0\0\0\x8c\x01a\x94.",
    "elf": b"\x7fELF" + b"\0" * 100,
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "icon": encoded(NOISE, "ICO"),
    "targa": encoded(NOISE, "TGA"),
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + b"x" * 100,
    "jpeg: only its first bytes": JPEG[:3],
    "jpeg: header only": JPEG[: FRAME + 4],
    "jpeg: half": JPEG[: len(JPEG) // 2],
    "jpeg: no end": JPEG[:-40],
    "jpeg: no tables": JPEG[:2] + JPEG[FRAME:],
    "jpeg: zero width": changed(JPEG, FRAME + 7, b"\0\0"),
    "jpeg: 12 bits": changed(JPEG, FRAME + 4, b"\x0c"),
    "jpeg: five components": changed(JPEG, FRAME + 9, b"\x05"),
    "jpeg: huge": changed(JPEG, FRAME + 5, b"\xff\xff\xff\xff"),
    "png: signature only": PNG[:8],
    "png: half": PNG[: len(PNG) // 2],
    "png: no end of data": PNG[:-60],
    "png: bad checksum": changed(PNG, 29, b"\0\0\0\0"),
    "png: corrupt data": changed(PNG, 60, b"\0" * 40),
    "png: no data": png(4, 4),
    "png: too little data": png(4, 4, data=b"\0" * 20),
    "png: zero size": png(0, 0),
    "png: depth 7": png(4, 4, depth=7),
    "png: huge": png(2**31 - 1, 2**31 - 1),
    "png: bomb": png(30_000, 30_000, data=b"\0" * 90_000),
    "png: unknown filter": png(4, 4, data=b"\x09" * 52),
    "gif: header only": GIF[:10],
    "gif: half": GIF[: len(GIF) // 2],
    "gif: no frame": GIF[:13] + b";",
    "gif: bomb in a frame": changed(GIF, GIF.index(b",", 13 + 768) + 5, b"\xff\xff\xff\xff"),
    "bmp: header only": BMP[:20],
    "bmp: half": BMP[: len(BMP) // 2],
    "bmp: huge": changed(BMP, 18, struct.pack("<ii", 2**30, 2**30)),
    "bmp: negative width": changed(BMP, 18, struct.pack("<i", -64)),
    "bmp: 7 bits a pixel": changed(BMP, 28, b"\x07"),
    "tiff: header only": TIFF[:8],
    "tiff: half": TIFF[: len(TIFF) // 2],
    "tiff: directory beyond the end": changed(TIFF, 4, b"\xff\xff\xff\x7f"),
    "tiff: corrupt lzw": changed(LZW, 30, b"\xff" * 400),
    "tiff: float beyond 1": float_tiff(0, 255),
    "tiff: not a number": float_tiff(0, np.nan),
    "tiff: negative": encoded(np.array([[-1, 5]], dtype=np.int32), "TIFF"),
    "tiff: beyond 16 bits": encoded(np.array([[0, 70_000]], dtype=np.int32), "TIFF"),
    "webp: header only": WEBP[:12],
    "webp: half": WEBP[: len(WEBP) // 2],
    "webp: corrupt": changed(WEBP, 20, b"\xff" * 200),
    "ppm: header only": b"P6 4 4 255\n",
    "ppm: half": PPM[: len(PPM) // 2],
    "ppm: no numbers": b"P6 four four 255\n" + b"\0" * 48,
    "ppm: huge": b"P6 100000 100000 255\n" + b"\0" * 48,
    "ppm: zero range": b"P5 4 4 0\n" + b"\0" * 16,
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_refused_with_a_reason(kind: str) -> None:
    """No other exception, no warning, and a reason of one printable line that is not empty."""
    with pytest.raises(BadImage) as caught:
        decode_image(BAD[kind], f"{kind}.jpg")
    assert caught.value.name == f"{kind}.jpg"
    assert caught.value.reason
    assert caught.value.reason.isprintable()


def test_there_are_many_kinds_of_bad_images() -> None:
    """The promise is forty."""
    assert len(BAD) >= 40


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "an empty file"),
        ("zeros", "a file of zeros"),
        ("html", "a text such as SVG or HTML"),
        ("heic", "a HEIF, AVIF or video file"),
        ("git-lfs pointer", "git lfs pull"),
        ("jpeg: half", "truncated"),
        ("png: bomb", "30000 x 30000 pixels are more than"),
    ],
)
def test_reasons_help(kind: str, reason: str) -> None:
    """The commonest mistakes are called by their names."""
    with pytest.raises(BadImage, match=reason):
        decode_image(BAD[kind], "x")


@pytest.mark.parametrize("kind", ["png: bomb", "png: huge", "jpeg: huge", "bmp: huge", "ppm: huge"])
def test_bombs_are_refused_from_the_header(kind: str) -> None:
    """In 5 MB and, by the best of three to be fair to a busy machine, in 5 ms."""
    seconds = []
    tracemalloc.start()
    for _ in range(3):
        start = time.perf_counter()
        with pytest.raises(BadImage):
            decode_image(BAD[kind], "x")
        seconds.append(time.perf_counter() - start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert min(seconds) < 0.005
    assert peak < 5e6


SEEDS = (JPEG, PNG, GIF, BMP, TIFF, LZW, WEBP, PPM, encoded(NOISE[:, :, 0], "PNG"))


@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=6),
    keep=st.floats(0.02, 1),
)
@example(seed=PNG, edits=[], keep=1.0)
def test_mutated_files_decode_or_are_refused(
    seed: bytes, edits: list[tuple[float, bytes]], keep: float
) -> None:
    """Bytes changed, inserted over and cut off: never another exception or a warning."""
    data = seed
    for place, by in edits:
        data = changed(data, int(place**3 * len(data)), by)  # mostly in the header
    data = data[: int(keep * len(data))]
    try:
        decoded = decode_image(data, "x")
    except BadImage:
        return
    assert decoded.dtype == np.uint8
    assert decoded.shape[2] == 3


@given(st.sampled_from([data[:16] for data in SEEDS]), st.binary(max_size=200))
def test_junk_behind_a_signature_is_refused_or_decoded(signature: bytes, junk: bytes) -> None:
    """Each format's reader meets arbitrary bytes."""
    try:
        decode_image(signature + junk, "x")
    except BadImage:
        return


def a_folder(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def an_endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_dead_link(path: Path) -> None:
    path.symlink_to(path.parent / "gone.jpg")


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def a_file_beyond_all_sizes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: it takes no room


def nothing(path: Path) -> None:
    """Leave the path free."""


@pytest.mark.parametrize(
    "make",
    [
        a_folder,
        a_pipe,
        an_endless_device,
        a_dead_link,
        a_link_to_itself,
        a_file_beyond_all_sizes,
        nothing,
    ],
)
@pytest.mark.parametrize("read", [read_image_file, read_file_size])
def test_what_is_no_regular_file_is_refused(
    make: Callable[[Path], None], read: Callable[[str, str], object], tmp_path: Path
) -> None:
    """And at once: nothing waits for a pipe, reads a device for ever or fills the memory."""
    path = tmp_path / "x.jpg"
    make(path)
    with pytest.raises(BadImage, match=r"cat/x\.jpg: ."):
        read(str(path), "cat/x.jpg")


@pytest.mark.parametrize("kind", ["empty", "html", "png: bomb", "jpeg: header only", "bmp: huge"])
def test_the_header_alone_shows_much(kind: str, tmp_path: Path) -> None:
    """Foreign, cut-off and oversized files are found without decoding."""
    (tmp_path / "x").write_bytes(BAD[kind])
    with pytest.raises(BadImage):
        read_file_size(str(tmp_path / "x"), "x")


def test_a_tiff_with_a_tile_beyond_the_limit_is_refused() -> None:
    """Between our limit and twice its own, Pillow's `open` warns, and refuses nothing."""
    data = TIFF
    for tag in (256, 257):  # width and height
        data = changed(
            data, data.index(struct.pack("<HHI", tag, 4, 1)) + 8, struct.pack("<I", 9700)
        )
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(data))
    with pytest.raises(BadImage, match="9700 x 9700 pixels"):
        decode_image(data, "x")
