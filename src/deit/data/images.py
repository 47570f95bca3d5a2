"""The bytes of an image file to uint8 RGB, or a `BadImage` that says why not.

Every way into the library decodes here, so that training, evaluation, the command line and a server
see the same pixels. What is decided:

* formats: JPEG, PNG, GIF, BMP, TIFF, WebP, PPM, recognised by their first bytes, never by name;
* the size is read from the header, and one above the limit is refused before any pixel is
  decoded (`deit.data.limits`; `data.max_pixels` of a recipe);
* truncated or damaged files are refused, never half decoded, as far as the format can tell;
* the EXIF orientation is applied; colour profiles are ignored, as in torchvision and timm;
* transparency is composited on white (dropping it, as ``convert("RGB")`` does, shows whatever
  colour lies hidden under the transparent pixels, often black);
* grey of 16 bits keeps its upper 8, as Pillow does for 16-bit colour (its own conversion of 16-bit
  grey turns nearly all of it white); 32-bit integers are taken as 16-bit and floats as 0 to 1, and
  values outside are refused;
* of an animation or several pages, the first;
* JPEGs are decoded at full size, not by the faster reduced transform, which changes pixels; by
  simplejpeg where nothing is unusual, by Pillow where anything is: both are libjpeg-turbo.
"""

import contextlib
import io
import os
import stat
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from deit.data.limits import MAX_FILE_BYTES, MAX_PIXELS, MAX_SIDE, OVER_LIMIT
from deit.data.names import printable
from deit.errors import UserError

FORMATS = "JPEG, PNG, GIF, BMP, TIFF, WebP or PPM"

Pixels = UInt8[np.ndarray, "height width 3"]


class BadImage(Exception):  # noqa: N818 (it is said of the image)
    """An image that cannot be used.

    Attributes:
        name: which one: its name in the source, or its path.
        reason: why, in a few words, safe to print.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # both are in `args`, so it can be pickled
        self.name = name
        self.reason = printable(reason)

    def __str__(self) -> str:
        return f"{printable(self.name)}: {self.reason}"


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The pixels of an image file, upright, as RGB of 8 bits.

    Args:
        data: the whole file.
        name: how the image is called in errors.
        max_pixels: refuse more pixels than this, judging by the header.

    Raises:
        BadImage: whatever is wrong with the image, and whatever Pillow raises about it.
        UserError: when Pillow is set to pass truncated images off as whole.

    >>> decode_image(b"P5 2 1 255 " + bytes([0, 200]), "grey.pgm").tolist()
    [[[0, 0, 0], [200, 200, 200]]]
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UserError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is switched on",
            "False: half-decoded images are never used as if they were whole",
            "remove the line that sets it, and leave truncated images out",
        )
    with _blaming(name):
        pixels = _decode_plain_jpeg(data, name, max_pixels)
        if pixels is not None:
            return pixels
        image, quiet = _open(io.BytesIO(data), name, max_pixels)
        with quiet():
            image.load()
        return _turned(_to_rgb(image, name), _orientation(image))


def read_image_file(path: str, name: str) -> bytes:
    """The bytes of an image file.

    Raises:
        BadImage: when it cannot be read, or is no regular file of sensible size.
    """
    with _blaming(name), _regular_file(path, name) as file:
        return file.read()


def read_file_size(path: str, name: str, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width of the upright image in a file, from the header: no pixel is decoded.

    Raises:
        BadImage: for what the header shows; damage to the pixels is not seen.
    """
    with _blaming(name), _regular_file(path, name) as file:
        return _upright_size(file, name, max_pixels)


def decode_size(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """As `read_file_size`, of a file's bytes.

    Raises:
        BadImage: for what the header shows; damage to the pixels is not seen.

    >>> decode_size(b"P5 2 1 255 ", "grey.pgm")
    (1, 2)
    """
    with _blaming(name):
        return _upright_size(io.BytesIO(data), name, max_pixels)


def open_header(data: bytes, name: str) -> tuple[ImageFile.ImageFile, int]:
    """An image opened but not decoded, however large, and its EXIF orientation, 1 to 8.

    Raises:
        BadImage: when the header cannot be read.

    >>> image, orientation = open_header(b"P5 2 1 255 ", "grey.pgm")
    >>> image.format, image.size, orientation
    ('PPM', (2, 1), 1)
    """
    with _blaming(name):
        image, _ = _open(io.BytesIO(data), name, sys.maxsize)
        return image, _orientation(image)


def _upright_size(
    file: io.BytesIO | io.BufferedReader, name: str, max_pixels: int
) -> tuple[int, int]:
    image, _ = _open(file, name, max_pixels)
    width, height = image.size
    return (width, height) if _orientation(image) >= 5 else (height, width)


@contextlib.contextmanager
def _regular_file(path: str, name: str) -> Iterator[io.BufferedReader]:
    """An open file that ends: devices and pipes are refused instead of read for ever."""
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BadImage(name, "not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise BadImage(name, f"a file of {status.st_size:,} bytes is too large")
        yield file


def _open_without_waiting(path: str, flags: int) -> int:
    """Opening a pipe would wait for its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG whose EXIF block is left alone while it is opened.

    Pillow looks in there for a resolution and warns about any damage it meets; `_orientation` reads
    the one entry that matters. Opened directly, not by ``Image.open``, the first picture of a
    multi-picture file is a plain JPEG.
    """

    def getexif(self) -> Image.Exif:
        return Image.Exif()


def _decode_plain_jpeg(data: bytes, name: str, max_pixels: int) -> Pixels | None:
    """A JPEG like most, by libjpeg-turbo without Pillow around it: equal pixels, 0.6 of the time.

    None for everything else, on which Pillow shall judge: other formats and colour spaces, more
    pixels than allowed, and any damage, down to what libjpeg would only warn of.

    Raises:
        BadImage: for one that lacks a part and has an end all the same, which Pillow paints grey.
    """
    if not data.startswith(_JPEG):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray", "RGB") or height * width > max_pixels:
            return None
        if height * width > 512 * len(data) and not any(start in data for start in _ARITHMETIC):
            raise BadImage(name, f"{len(data):,} bytes are too few for {width} x {height} pixels")
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:
        if "premature end of data segment" in str(error):
            raise BadImage(name, "cannot be decoded: a part of its data is missing") from error
        return None
    return _turned(pixels, _orientation(_Jpeg(io.BytesIO(data)))) if _has_exif(data) else pixels


def _has_exif(data: bytes) -> bool:
    """Whether there is such a segment before the pixels of a JPEG, or something else that is odd.

    A search of the whole file would take a twentieth of the time of decoding.
    """
    place = 2
    while data[place : place + 2] != b"\xff\xda":
        segment = data[place : place + 8]
        if len(segment) < 8 or segment[0] != 0xFF or segment[4:] == b"Exif":
            return True
        place += 2 + int.from_bytes(segment[2:4], "big")
    return False


_ARITHMETIC = (b"\xff\xc9", b"\xff\xca")
"""What begins the frame of a JPEG that may take less than one bit for 64 pixels: no Huffman code
has less."""

_PLANAR = 284
"""TIFF's PlanarConfiguration; 2: the values of each channel lie together."""

_BAND = 2**20
"""Pixels that are converted at a time: conversions need 20 bytes for each besides the result."""

_JPEG = b"\xff\xd8\xff"

_READERS: tuple[tuple[tuple[bytes, ...], type[ImageFile.ImageFile]], ...] = (
    ((_JPEG,), _Jpeg),
    ((b"\x89PNG\r\n\x1a\n",), PngImagePlugin.PngImageFile),
    ((b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
    ((b"BM",), BmpImagePlugin.BmpImageFile),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImagePlugin.TiffImageFile),
    ((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), PpmImagePlugin.PpmImageFile),
)

_NO_IMAGES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the image: run `git lfs pull`"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"8BPS", "a Photoshop document"),
    (b"<", "a text such as SVG or HTML"),
)


def _open(
    file: io.BytesIO | io.BufferedReader, name: str, max_pixels: int
) -> tuple[ImageFile.ImageFile, Callable[[], contextlib.AbstractContextManager[None]]]:
    """An opened, not yet decoded image of admissible size, and what to wrap its decoding in."""
    reader = _reader(file.read(64), name)
    file.seek(0)
    # Constructed directly: `Image.open` would warn of large images before their size can be asked.
    with contextlib.nullcontext() if reader is _Jpeg else _without_warnings():
        image = reader(file)
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage(name, f"{width} x {height} {OVER_LIMIT} {max_pixels:,}")
    if max(width, height) > MAX_SIDE:
        raise BadImage(name, f"{width} x {height} pixels; a side has {MAX_SIDE:,} at most")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_covered(image, name)
        return image, _without_warnings
    return image, contextlib.nullcontext


def _check_covered(image: TiffImagePlugin.TiffImageFile, name: str) -> None:
    """Raise for a TIFF whose strips or tiles leave a part out, which Pillow would make black."""
    width, height = image.size
    layers = len(image.getbands()) if image.tag_v2.get(_PLANAR) == 2 else 1
    boxes = (tile.extents for tile in image.tile if tile.extents is not None)
    areas = ((right - left) * (low - top) for left, top, right, low in boxes)
    if sum(areas) < width * height * layers:
        raise BadImage(name, "its strips or tiles do not cover it")


def _reader(start: bytes, name: str) -> type[ImageFile.ImageFile]:
    """What reads a file that starts like this."""
    for beginnings, reader in _READERS:
        if start.startswith(beginnings):
            return reader
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    raise BadImage(name, f"{_guess(start)}; {FORMATS} are read")


def _guess(start: bytes) -> str:
    """What a file is that is no image."""
    if not start:
        return "an empty file"
    if not any(start):
        return "a file of zeros"
    if start[4:8] == b"ftyp":
        return "a HEIF, AVIF or video file"
    for beginning, description in _NO_IMAGES:
        if start.lstrip().startswith(beginning):
            return description
    return "not an image"


@contextlib.contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Turn whatever Pillow or the file system raises into a `BadImage`."""
    try:
        yield
    except BadImage:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise BadImage(name, f"cannot be read: {error.strerror}") from error
        problem = str(error)[:200] or type(error).__name__
        raise BadImage(name, f"cannot be decoded: {problem}") from error


_warnings_lock = threading.Lock()


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep Pillow's remarks on damaged metadata from the terminal, and from ``-W error``.

    The list of filters belongs to the whole process: one thread at a time.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _to_rgb(image: ImageFile.ImageFile, name: str) -> Pixels:
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image) >> (_bits(image) - 8))
    if image.mode == "I":
        return _grey(_checked(np.asarray(image), 65535, name) >> 8)
    if image.mode == "F":
        return _grey(np.rint(_checked(np.asarray(image), 1, name) * 255))
    width, height = image.size
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = image if rows >= height else image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = np.asarray(_flattened(band))
    return pixels


def _flattened(image: Image.Image) -> Image.Image:
    """The picture without its transparency, in RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:  # the common case: no copy
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")


def _bits(image: ImageFile.ImageFile) -> int:
    """How many of 16 bits a grey value uses: TIFF has 12-bit images."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0])
    return 16


def _checked(values: np.ndarray, highest: int, name: str) -> np.ndarray:
    if not (values.min() >= 0 and values.max() <= highest):  # NaN fails both
        found = f"{values.min()} to {values.max()}"
        raise BadImage(name, f"grey values from {found}, not 0 to {highest}")
    return values


def _grey(values: np.ndarray) -> Pixels:
    return np.repeat(values.astype(np.uint8)[:, :, None], 3, axis=2)


def _orientation(image: ImageFile.ImageFile) -> int:
    """EXIF's orientation, 1 to 8; 1 (upright) when there is none or it is damaged.

    Pillow turns a TIFF itself when it is loaded.
    """
    exif = image.info.get("exif")
    if not isinstance(exif, bytes) or isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    with contextlib.suppress(struct.error):
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, place)
            if tag == 0x0112 and kind == 3 and 1 <= value <= 8:
                return int(value)
    return 1


def _turned(pixels: Pixels, orientation: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """The upright picture (EXIF 2.32, Orientation: where the file's row 0 and column 0 belong)."""
    if orientation >= 5:  # rows and columns are exchanged
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
