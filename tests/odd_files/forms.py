"""Image files written byte by byte, in forms that Pillow reads but does not write."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image


def encoded(picture: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    """An image file as Pillow writes it."""
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file, with its checksum."""
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def png(
    width: int,
    height: int,
    depth: int,
    colour: int,
    rows: bytes,
    *,
    interlaced: bool = False,
    before: bytes = b"",
) -> bytes:
    """A PNG with any header, any filtered rows, and any chunks before them.

    `colour` is 0 for grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
    """
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + data + chunk(b"IEND", b"")


def unfiltered(samples: np.ndarray) -> bytes:
    """The rows of a PNG: each begins with 0 for "no filter"; samples in the byte order of PNG."""
    return b"".join(
        b"\0" + row.astype(samples.dtype.newbyteorder(">")).tobytes() for row in samples
    )


def adam7(samples: np.ndarray) -> bytes:
    """The rows of an interlaced PNG: seven passes, each a picture of every so many pixels."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    parts = [samples[top::down, left::right] for top, left, down, right in [*passes, (1, 0, 2, 1)]]
    return b"".join(unfiltered(part) for part in parts if part.size)


def tiff(entries: dict[int, Sequence[int]], data: bytes, order: str = "<") -> bytes:
    """A TIFF of any directory, of 32-bit values, and any data, which begin at byte 8."""
    rows, values = b"", b""
    start = 8 + len(data) + 2 + 12 * len(entries) + 4  # of the values that do not fit into a row
    for tag in sorted(entries):
        numbers = struct.pack(f"{order}{len(entries[tag])}I", *entries[tag])
        rows += struct.pack(f"{order}HHI", tag, 4, len(entries[tag]))
        rows += numbers if len(numbers) == 4 else struct.pack(f"{order}I", start + len(values))
        values += b"" if len(numbers) == 4 else numbers
    signature = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(data))
    directory = struct.pack(f"{order}H", len(entries)) + rows + bytes(4)
    return signature + data + directory + values


def exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """An EXIF block with one entry; of kind 3, as it should be, or 4, which is wider."""
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *([orientation, 0][: 5 - kind]))
    entry = struct.pack(f"{order}HHI", 0x0112, kind, 1) + value
    signature = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    return b"Exif\0\0" + signature + struct.pack(f"{order}H", 1) + entry + bytes(4)


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment, right behind its start."""
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def _huffman_table(kind: int, symbols: bytes) -> bytes:
    """A table in which every symbol, at most 15 of them, has a code of four bits: its place."""
    counts = bytes([0, 0, 0, len(symbols)] + [0] * 12)
    return b"\xff\xc4" + struct.pack(">HB", 19 + len(symbols), kind) + counts + symbols


def _scan(bits: str) -> bytes:
    padded = bits + "1" * (-len(bits) % 8)
    values = bytes(int(padded[start : start + 8], 2) for start in range(0, len(padded), 8))
    return values.replace(b"\xff", b"\xff\0")


def lossless_jpeg(grey: np.ndarray) -> bytes:
    """Grey of 8 bits by the lossless process of ITU T.81, annex H: each pixel less its left one."""
    height, width = grey.shape
    left = np.roll(grey.astype(int), 1, axis=1)
    left[1:, 0], left[0, 0] = grey[:-1, 0], 128
    bits = ""
    for difference in (grey - left).ravel().tolist():
        size = abs(difference).bit_length()
        extra = difference if difference >= 0 else difference + (1 << size) - 1
        bits += f"{size:04b}" + (f"{extra:0{size}b}" if size else "")
    frame = b"\xff\xc3" + struct.pack(">HBHHB3B", 11, 8, height, width, 1, 1, 0x11, 0)
    start = b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 1, 0, 1, 0, 0)
    table = _huffman_table(0, bytes(range(9)))
    return b"\xff\xd8" + frame + table + start + _scan(bits) + b"\xff\xd9"


def jpeg_of_12_bits() -> bytes:
    """One block of 8 x 8 middle grey, extended sequential, 12 bits."""
    quantisation = b"\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1] * 64)
    frame = b"\xff\xc1" + struct.pack(">HBHHB3B", 11, 12, 8, 8, 1, 1, 0x11, 0)
    tables = _huffman_table(0x00, bytes(range(12))) + _huffman_table(0x10, b"\0")
    start = b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 1, 0x00, 0, 63, 0)
    return b"\xff\xd8" + quantisation + frame + tables + start + _scan("00000000") + b"\xff\xd9"


def bmp(width: int, height: int, bits: int, compression: int, body: bytes, table: bytes) -> bytes:
    """A Windows bitmap with any header, its palette or masks, and its pixels."""
    start = 54 + len(table)
    colours = len(table) // 4 if bits <= 8 else 0
    return (
        b"BM"
        + struct.pack("<IHHI", start + len(body), 0, 0, start)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, colours, 0)
        + table
        + body
    )


def gif(width: int, height: int, frame: tuple[int, int, int, int], pixels: Sequence[int]) -> bytes:
    """A GIF of four colours whose frame (left, top, width, height) may be smaller than its screen.

    Each pixel is preceded by a clear code, so that codes keep three bits.
    """
    codes = [code for pixel in pixels for code in (4, pixel)]
    bits = "".join(f"{code:03b}"[::-1] for code in [*codes, 5])
    bits += "0" * (-len(bits) % 8)
    data = bytes(int(bits[start : start + 8][::-1], 2) for start in range(0, len(bits), 8))
    blocks = [data[start : start + 255] for start in range(0, len(data), 255)]
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x91, 0, 0)
        + bytes.fromhex("000000 ff0000 00ff00 0000ff")
        + struct.pack("<BHHHHBB", 0x2C, *frame, 0, 2)
        + b"".join(bytes([len(block)]) + block for block in blocks)
        + b"\0;"
    )
