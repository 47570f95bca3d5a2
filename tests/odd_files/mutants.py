"""Damaged image files without end, the same ones each time, and what decoding them costs.

    cd tests && python -m odd_files.mutants FIRST COUNT

Decodes so many mutants in a process of its own, whose memory nobody else has filled, and prints the
figures as JSON. Mutant number n is a function of n alone: its format is n modulo seven.
"""

import io
import json
import random
import resource
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from deit.data.images import BadImage, decode_image
from odd_files.forms import encoded

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")

_RNG = np.random.default_rng(11)
_SMOOTH = np.linspace(0, 255, 40 * 56 * 3).reshape(40, 56, 3)
PICTURE = (_SMOOTH * 0.7 + _RNG.integers(0, 70, _SMOOTH.shape)).astype(np.uint8)


def seeds() -> dict[str, list[bytes]]:
    """Whole files of each format, in the forms that take different ways through its decoder."""
    colour, grey = Image.fromarray(PICTURE), Image.fromarray(PICTURE).convert("L")
    palette = colour.quantize(32)
    alpha = Image.fromarray(np.dstack([PICTURE, PICTURE[:, :, 0]]))
    wide = Image.fromarray(PICTURE[:, :, 0].astype(np.uint16) * 257)
    exif = colour.getexif()
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 300, zip=True)
    moving = {"save_all": True, "append_images": [colour.rotate(90), colour.rotate(180)]}
    tiffs = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    return {
        "JPEG": [
            encoded(colour, "JPEG", exif=exif),
            encoded(colour, "JPEG", progressive=True),
            encoded(colour, "JPEG", subsampling=0, restart_marker_blocks=2),
            encoded(grey, "JPEG", optimize=True),
            encoded(colour.convert("CMYK"), "JPEG"),
        ],
        "PNG": [
            encoded(colour, "PNG", exif=exif),
            encoded(alpha, "PNG", pnginfo=text, icc_profile=b"profile" * 50),
            encoded(palette, "PNG", transparency=bytes(range(0, 256, 8))),
            encoded(wide, "PNG"),
            encoded(grey.convert("1"), "PNG"),
            encoded(colour, "PNG", duration=9, **moving),
        ],
        "GIF": [
            encoded(palette, "GIF", transparency=3),
            encoded(grey, "GIF", interlace=0),
            encoded(colour, "GIF", duration=9, **moving),
        ],
        "BMP": [encoded(image, "BMP") for image in (colour, palette, grey.convert("1"), alpha)],
        "TIFF": [
            *(encoded(colour, "TIFF", compression=name, exif=exif) for name in tiffs),
            encoded(wide, "TIFF"),
            encoded(grey.convert("1"), "TIFF", compression="group4"),
            encoded(Image.fromarray(PICTURE[:, :, 0] / np.float32(255)), "TIFF"),
            encoded(colour, "TIFF", **moving),
        ],
        "WEBP": [
            encoded(colour, "WEBP", exif=exif),
            encoded(alpha, "WEBP", lossless=True),
            encoded(alpha, "WEBP", quality=60),
            encoded(colour, "WEBP", duration=9, **moving),
        ],
        "PPM": [
            encoded(colour, "PPM"),
            encoded(wide, "PPM"),
            encoded(grey.convert("1"), "PPM"),
            b"P3 # plain\n4 3 15\n" + b" ".join(b"%d" % (number % 16) for number in range(36)),
            b"P6 8 6 65535\n" + PICTURE[:6, :16].tobytes(),
        ],
    }


def flip_bits(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """One to eight bits, anywhere."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def change_header(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """One to four of the first bytes."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        changed[draw.randrange(min(64, len(changed)))] = draw.randrange(256)
    return bytes(changed)


def splice(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """Some bytes of another file of the format over or between one's own."""
    start, stop = _range(other, draw)
    place = draw.randrange(len(data) + 1)
    behind = place + (stop - start) * draw.randrange(2)
    return data[:place] + other[start:stop] + data[behind:]


def truncate(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """The beginning only."""
    return data[: draw.randrange(len(data))]


def duplicate(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """Some bytes once more, or many times."""
    start, stop = _range(data, draw)
    return data[:start] + data[start:stop] * draw.choice((2, 2, 3, 40)) + data[stop:]


def remove(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """Some bytes less."""
    start, stop = _range(data, draw)
    return data[:start] + data[stop:]


def change_number(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """A length, size, count or offset, wherever it may be: 16 or 32 bits, of either order."""
    wide = draw.random() < 0.5
    code = draw.choice("<>") + ("I" if wide else "H")
    most = 2**32 if wide else 2**16
    size = struct.calcsize(code)
    if len(data) <= size:
        return data
    place = int(draw.random() ** 2 * (len(data) - size))  # mostly in the header
    (value,) = struct.unpack_from(code, data, place)
    small = draw.choice((value - 1, value + 1, value * 2, value // 2, 0, 1, len(data)))
    large = draw.choice((most - 1, most // 2, most // 2 - 1, 1 << draw.randrange(16, 32)))
    number = draw.choice((small, small, large)) % most
    return data[:place] + struct.pack(code, number) + data[place + size :]


MUTATIONS = (flip_bits, change_header, splice, truncate, duplicate, remove, change_number)


def _range(data: bytes, draw: random.Random) -> tuple[int, int]:
    start = draw.randrange(len(data))
    return start, min(len(data), start + draw.choice((1, 2, 4, 12, 100, 1000)))


def with_checksums(png: bytes) -> bytes:
    """A PNG with checksums that are right, so that its damage reaches what they guard."""
    parts, place = [png[:8]], 8
    while place + 8 <= len(png):
        (length,) = struct.unpack_from(">I", png, place)
        body = png[place + 4 : place + 8 + length]
        parts.append(png[place : place + 4] + body + struct.pack(">I", zlib.crc32(body)))
        place += 12 + length
    return b"".join(parts)


def mutant(number: int, whole: dict[str, list[bytes]]) -> bytes:
    """One to three changes to one of the files of a format."""
    draw = random.Random(number)
    kind = FORMATS[number % len(FORMATS)]
    data, other = draw.choice(whole[kind]), draw.choice(whole[kind])
    for _ in range(draw.choice((1, 1, 2, 3))):
        change: Callable[[bytes, bytes, random.Random], bytes] = draw.choice(MUTATIONS)
        data = change(data, other, draw) or data[:1]
    return with_checksums(data) if kind == "PNG" and draw.random() < 0.7 else data


@dataclass
class Figures:
    """What became of some mutants.

    Attributes:
        decoded, refused: how many, by format.
        lost: how many JPEGs are refused because they lack a part.
        slowest: processor seconds of the slowest, and its number.
        megabytes: by how much the process grew at most, and at which mutant.
        faults: numbers of those that did neither, or other than Pillow, with what happened.
    """

    decoded: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FORMATS, 0))
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FORMATS, 0))
    lost: int = 0
    slowest: tuple[float, int] = (0.0, -1)
    megabytes: tuple[float, int] = (0.0, -1)
    faults: dict[int, str] = field(default_factory=dict)


def measure(numbers: Sequence[int]) -> Figures:
    """Decode these mutants one after another."""
    whole, figures = seeds(), Figures()
    for files in whole.values():
        for data in files:
            decode_image(data, "whole")  # whatever is loaded on first use is loaded now
    before = peak_megabytes()
    for number in numbers:
        kind, data = FORMATS[number % len(FORMATS)], mutant(number, whole)
        start = time.process_time()
        pixels, problem, lost = answer(data)
        figures.slowest = max(figures.slowest, (time.process_time() - start, number))
        figures.megabytes = max(figures.megabytes, (peak_megabytes() - before, -number))
        (figures.refused if pixels is None else figures.decoded)[kind] += 1
        figures.lost += lost
        if kind == "JPEG" and not problem and not lost and not same_picture(pixels, pillows(data)):
            problem = "other than Pillow"
        if problem:
            figures.faults[number] = problem
    return figures


def answer(data: bytes) -> tuple[np.ndarray | None, str, bool]:
    """The pixels of a file, none when it is refused, and what is wrong with this answer if any.

    Also whether it is refused because a part of a JPEG is lost, which Pillow alone does not mind.
    """
    try:
        pixels = decode_image(data, "mutant")
    except BadImage as bad:
        said = "" if bad.reason and bad.reason.isprintable() else "no reason"
        return None, said, any(words in bad.reason for words in ("is missing", "are too few"))
    except BaseException as error:  # the very thing that is looked for
        return None, f"{type(error).__name__}: {error}", False
    fits = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size
    return pixels, "" if fits else f"{pixels.dtype} {pixels.shape}", False


def pillows(data: bytes) -> np.ndarray | None:
    """A JPEG as Pillow alone decodes it, not turned upright; None where it refuses."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except Exception:  # whatever Pillow raises, it refuses
        return None


def same_picture(ours: np.ndarray | None, theirs: np.ndarray | None) -> bool:
    """Whether two decoders agree, leaving it open which side is up."""
    if ours is None or theirs is None:
        return ours is theirs
    sides = (theirs, theirs.swapaxes(0, 1))
    return any(
        np.array_equal(ours, side[::up, ::left])
        for side in sides
        for up in (1, -1)
        for left in (1, -1)
    )


def peak_megabytes() -> float:
    """The most memory that this process has held so far.

    On Linux `getrusage` counts in what the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


if __name__ == "__main__":
    first, count = map(int, sys.argv[1:])
    print(json.dumps(asdict(measure(range(first, first + count)))))
