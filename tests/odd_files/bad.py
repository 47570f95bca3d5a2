"""Files that are cut off, that are no images, and that claim more than they hold."""

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from odd_files import forms as form
from odd_files.forms import encoded
from odd_files.odd import COLOUR, GREY, HEIGHT, PICTURE, RNG, WIDE, WIDTH, OddFile, pillows


def whole_files() -> dict[str, bytes]:
    """Files of every format, one picture in each."""
    grey, palette = Image.fromarray(GREY), PICTURE.quantize(16)
    return {
        "jpeg": encoded(PICTURE, "JPEG"),
        "jpeg progressive": encoded(PICTURE, "JPEG", progressive=True, quality=95),
        "jpeg grey": encoded(grey, "JPEG"),
        "jpeg cmyk": encoded(PICTURE.convert("CMYK"), "JPEG"),
        "png": encoded(PICTURE, "PNG"),
        "png palette": encoded(palette, "PNG"),
        "png 16-bit": form.png(WIDTH, HEIGHT, 16, 2, form.unfiltered(WIDE)),
        "gif": encoded(palette, "GIF"),
        "bmp": encoded(PICTURE, "BMP"),
        "bmp palette": encoded(palette, "BMP"),
        "tiff": encoded(PICTURE, "TIFF"),
        "tiff lzw": encoded(PICTURE, "TIFF", compression="tiff_lzw"),
        "tiff deflate": encoded(PICTURE, "TIFF", compression="tiff_adobe_deflate"),
        "webp": encoded(PICTURE, "WEBP"),
        "webp lossless": encoded(PICTURE, "WEBP", lossless=True),
        "ppm": encoded(PICTURE, "PPM"),
        "pgm": encoded(grey, "PPM"),
    }


def truncated() -> Iterator[OddFile]:
    """Beginnings of many lengths: refused, or so nearly whole that all pixels are there."""
    for form_name, data in whole_files().items():
        for percent in (3, 10, 25, 40, 50, 60, 75, 85, 90, 95, 99):
            cut = data[: len(data) * percent // 100]
            if percent <= 60:
                yield OddFile("truncated", f"{form_name} to {percent} %", cut)
            else:
                whole = WIDE >> 8 if "16-bit" in form_name else pillows(data)
                yield OddFile(
                    "nearly whole", f"{form_name} to {percent} %", cut, whole, or_refused=True
                )


def no_images() -> Iterator[OddFile]:
    """What is called .jpg and is something else."""
    yield OddFile("empty", "0 bytes", b"", reason="an empty file")
    for size in (1, 10, 512, 4096, 70_000):
        yield OddFile("zeros", f"{size} bytes", bytes(size), reason="a file of zeros")
    for detail, page in {
        "page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "page after spaces": b" \r\n\t<html>",
        "drawing": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "drawing with a declaration": b'<?xml version="1.0"?><svg/>',
    }.items():
        yield OddFile("HTML or SVG", detail, page, reason="a text such as SVG or HTML")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    yield OddFile("LFS pointer", "", pointer, reason="git lfs pull")
    yield OddFile("PDF", "", b"%PDF-1.7\n" + bytes(90), reason="a PDF document")
    yield OddFile("zip", "", b"PK\x03\x04" + bytes(90), reason="a zip archive")
    yield OddFile("Photoshop", "", b"8BPS\0\x01" + bytes(90), reason="a Photoshop document")
    for brand in (b"heic", b"avif", b"mp42"):
        yield OddFile(
            "HEIF or video", str(brand), b"\0\0\0\x18ftyp" + brand + bytes(90), reason="HEIF"
        )
    others = {
        "text": b"hello\n" * 40,
        "JSON": b'{"error": 404}',
        "gzip": b"\x1f\x8b\x08\0" + bytes(60),
        "program": b"\x7fELF\x02\x01" + bytes(60),
        "pickle": b"\x80\x04\x95\x05\0\0\0\0\0\0\0\x8c\x01a\x94.",
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
        "icon": encoded(PICTURE, "ICO", sizes=[(16, 16)]),
        "TGA": encoded(PICTURE, "TGA"),
        "noise": RNG.bytes(3000).replace(b"\xff\xd8", b".."),
    }
    for detail, data in others.items():
        yield OddFile("not an image", detail, data, reason=r"not an image; JPEG, PNG, GIF")


def bombs() -> Iterator[OddFile]:
    """A few bytes that claim far more pixels than there can be."""
    too_many, sides = (
        "pixels are more than 67,108,864",
        ((65535, 65535), (30000, 30000), (9000, 8000)),
    )
    jpeg = encoded(PICTURE, "JPEG")
    moving = {"save_all": True, "append_images": [PICTURE.rotate(180)], "duration": 9}
    webp = encoded(PICTURE, "WEBP", **moving)  # only the canvas of a moving one may be any size
    frame = jpeg.index(b"\xff\xc0") + 5
    for width, height in sides:
        size = f"{width} x {height}"
        tags = {256: [width], 257: [height], 258: [8], 259: [1], 262: [1], 273: [8], 279: [1]}
        canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
        claims = {
            "PNG": form.png(width, height, 8, 2, b""),
            "BMP": form.bmp(width, height, 24, 0, b"", b""),
            "GIF": form.gif(width, height, (0, 0, width, height), [1]),
            "TIFF": form.tiff(tags, b"\0"),
            "PPM": b"P6 %d %d 255\n" % (width, height),
            "JPEG": jpeg[:frame] + struct.pack(">HH", height, width) + jpeg[frame + 4 :],
            "WEBP": webp[:24] + canvas + webp[30:],
        }
        for name, data in claims.items():
            beyond_pillow = "|exceeds limit of 178956970" if name == "WEBP" else ""
            yield OddFile("bomb", f"{name} {size}", data, reason=too_many + beyond_pillow)
    for depth in (1, 2, 8, 16):
        data = form.png(2**31 - 1, 2**31 - 1, depth, 0, b"")
        yield OddFile("bomb", f"PNG, greatest size, {depth} bits", data, reason=too_many)
    rows = zlib.compress(bytes(9000 * 1126), 1)
    header = struct.pack(">IIBBBBB", 9000, 9000, 1, 0, 0, 0, 0)
    parts = form.chunk(b"IHDR", header) + form.chunk(b"IDAT", rows) + form.chunk(b"IEND", b"")
    whole = b"\x89PNG\r\n\x1a\n" + parts
    yield OddFile("81 megapixels of one bit", "PNG", whole, reason=f"9000 x 9000 {too_many}")
    yield OddFile("long side", "PNG", form.png(65_536, 9, 8, 0, b""), reason="a side has 65,535")
    packed = zlib.compress(bytes(64 * 2**20))
    texts = {b"zTXt": b"c\0\0", b"iCCP": b"c\0\0", b"iTXt": b"c\0\1\0\0\0"}
    for name, start in texts.items():
        bomb = form.chunk(name, start + packed)
        data = form.png(WIDTH, HEIGHT, 8, 2, form.unfiltered(COLOUR), before=bomb)
        yield OddFile("zlib bomb", name.decode(), data, reason="too large")
