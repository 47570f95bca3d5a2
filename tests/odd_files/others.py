"""PNG, GIF, BMP, TIFF, WebP and PPM in their rarer forms."""

import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from odd_files import forms as form
from odd_files.forms import encoded
from odd_files.odd import (
    ALPHA,
    COLOUR,
    GREY,
    HEIGHT,
    PICTURE,
    RNG,
    WIDE,
    WIDTH,
    OddFile,
    on_white,
    pillows,
    rgb,
)

LOSSLESS = ("PNG", "BMP", "TIFF", "PPM", "WEBP")


def lossless(picture: Image.Image | np.ndarray, kind: str) -> bytes:
    """A file of one of the formats of `LOSSLESS` that loses nothing."""
    return encoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {}))


def pngs() -> Iterator[OddFile]:
    """Every depth and colour type, interlaced or not; all made here, and arithmetic the referee."""
    for interlaced in (False, True):
        rows = form.adam7 if interlaced else form.unfiltered
        kind = "interlaced PNG" if interlaced else "PNG"
        four = np.dstack([COLOUR, ALPHA])
        two = np.dstack([GREY, ALPHA])
        wide_four = four.astype(np.uint16) * 257
        for detail, depth, colour, samples, expected in (
            ("grey", 8, 0, GREY, rgb(GREY)),
            ("colour", 8, 2, COLOUR, COLOUR),
            ("grey with alpha", 8, 4, two, on_white(rgb(GREY), ALPHA)),
            ("colour with alpha", 8, 6, four, on_white(COLOUR, ALPHA)),
            ("16-bit grey", 16, 0, WIDE[:, :, 0], rgb(WIDE[:, :, 0] >> 8)),
            ("16-bit colour", 16, 2, WIDE, WIDE >> 8),
            ("16-bit colour with alpha", 16, 6, wide_four, on_white(COLOUR, ALPHA)),
        ):
            data = form.png(WIDTH, HEIGHT, depth, colour, rows(samples), interlaced=interlaced)
            yield OddFile(kind, detail, data, expected, off_by=1 if "alpha" in detail else 0)
    for depth in (1, 2, 4, 8):
        values = RNG.integers(0, 2**depth, (HEIGHT, 32), dtype=np.uint8)
        bits = np.unpackbits(values[:, :, None], axis=2)[:, :, 8 - depth :]  # [rows, columns, bits]
        packed = np.packbits(bits.reshape(HEIGHT, -1), axis=1)
        grey = form.png(32, HEIGHT, depth, 0, form.unfiltered(packed))
        yield OddFile(
            "grey PNG of few bits", f"{depth}", grey, rgb(values * (255 // (2**depth - 1)))
        )
        colours = RNG.integers(0, 256, (2**depth, 3), dtype=np.uint8)
        table = form.chunk(b"PLTE", colours.tobytes())
        palette = form.png(32, HEIGHT, depth, 3, form.unfiltered(packed), before=table)
        yield OddFile("palette PNG", f"{depth} bits", palette, colours[values])
        alphas = RNG.integers(0, 256, 2**depth, dtype=np.uint8)
        several = table + form.chunk(b"tRNS", alphas.tobytes())
        data = form.png(32, HEIGHT, depth, 3, form.unfiltered(packed), before=several)
        expected = on_white(colours[values], alphas[values])
        yield OddFile("palette with many alphas", f"{depth} bits", data, expected, off_by=1)
        one = table + form.chunk(b"tRNS", b"\0")
        data = form.png(32, HEIGHT, depth, 3, form.unfiltered(packed), before=one)
        expected = np.where((values == 0)[:, :, None], 255, colours[values]).astype(np.uint8)
        yield OddFile("palette with one alpha", f"{depth} bits", data, expected)
    for detail, name, body in (
        ("gamma", b"gAMA", struct.pack(">I", 45455)),
        ("physical size", b"pHYs", struct.pack(">IIB", 0, 0, 1)),
        ("background", b"bKGD", bytes(6)),
        ("unknown", b"abCd", b"whatever"),
        ("text", b"tEXt", b"Comment\0hello"),
        ("profile that is none", b"iCCP", b"name\0\0" + b"nonsense"),
    ):
        extra = form.chunk(name, body)
        data = form.png(WIDTH, HEIGHT, 8, 2, form.unfiltered(COLOUR), before=extra)
        refusable = "profile" in detail
        yield OddFile("PNG with other chunks", detail, data, COLOUR, or_refused=refusable)


def transparent() -> Iterator[OddFile]:
    """Transparency in every way to say it, on white."""
    grey_alpha = Image.fromarray(np.dstack([GREY, ALPHA]))
    colour_alpha = Image.fromarray(np.dstack([COLOUR, ALPHA]))
    for kind in ("PNG", "TIFF"):
        data = encoded(grey_alpha, kind)
        yield OddFile("grey with alpha", kind, data, on_white(rgb(GREY), ALPHA), off_by=1)
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        data = encoded(colour_alpha, kind, **options)
        yield OddFile("colour with alpha", kind, data, on_white(COLOUR, ALPHA), off_by=1)
    two = np.where(GREY[:, :, None] > 120, (9, 9, 9), (180, 60, 30)).astype(np.uint8)
    white = np.where(GREY[:, :, None] > 120, 255, two).astype(np.uint8)
    palette = Image.fromarray(two).quantize(4)
    column = int(np.argmax(GREY[0] > 120)) if (GREY[0] > 120).any() else 0
    row = int(np.argmax(GREY[:, column] > 120))
    for kind in ("PNG", "GIF"):
        key = palette.getpixel((column, row))
        yield OddFile(
            "one transparent colour", kind, encoded(palette, kind, transparency=key), white
        )
    data = encoded(Image.fromarray(two), "PNG", transparency=(9, 9, 9))
    yield OddFile("one transparent colour", "PNG, RGB", data, white)
    hidden = np.dstack([np.zeros_like(COLOUR), np.zeros_like(ALPHA)])
    for kind in ("PNG", "TIFF"):
        data = encoded(hidden, kind)
        yield OddFile("all transparent", kind, data, np.full_like(COLOUR, 255))
    half = Image.fromarray(COLOUR).convert("PA")
    yield OddFile(
        "palette and alpha", "TIFF", encoded(half, "TIFF"), pillows(encoded(half, "TIFF"))
    )


def tiffs() -> Iterator[OddFile]:
    """Compressions, byte orders, tiles, planes, and values of other widths."""
    for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma", "jpeg"):
        data = encoded(PICTURE, "TIFF", compression=name)
        expected = pillows(data) if name == "jpeg" else COLOUR
        yield OddFile("compressed TIFF", name, data, expected, ending=".tif")
    bits = Image.fromarray(GREY > 128)
    for name in ("raw", "group3", "group4", "tiff_lzw"):
        data = encoded(bits, "TIFF", compression=name)
        yield OddFile("TIFF of one bit", name, data, rgb((GREY > 128) * 255))
    area = HEIGHT * WIDTH
    plain = {256: [WIDTH], 257: [HEIGHT], 259: [1], 273: [8], 277: [1], 278: [HEIGHT]}
    for order in "<>":
        wide = WIDE[:, :, 0].astype(f"{order}u2")
        grey16 = {**plain, 258: [16], 262: [1], 279: [2 * area]}
        data = form.tiff(grey16, wide.tobytes(), order)
        yield OddFile("16-bit TIFF", f"grey, order {order}", data, rgb(wide >> 8))
        colour = {**plain, 258: [8] * 3, 262: [2], 277: [3], 279: [3 * area]}
        data = form.tiff(colour, COLOUR.tobytes(), order)
        yield OddFile("TIFF byte order", order, data, COLOUR)
        for white, invert in ((1, False), (0, True)):
            grey = {**plain, 258: [8], 262: [white], 279: [area]}
            data = form.tiff(grey, GREY.tobytes(), order)
            expected = rgb(255 - GREY if invert else GREY)
            yield OddFile("TIFF of grey", f"0 is {'white' if invert else 'black'}", data, expected)
        places = [8 + area * layer for layer in range(3)]
        planes = {**colour, 273: places, 279: [area] * 3, 284: [2]}
        layers = COLOUR.transpose(2, 0, 1).tobytes()
        yield OddFile("TIFF in planes", order, form.tiff(planes, layers, order), COLOUR)
        planes |= {273: places[:2], 279: [area] * 2}
        data = form.tiff(planes, layers, order)
        yield OddFile("TIFF with a part missing", "a plane", data, reason="do not cover")
    twelve = {**plain, 256: [2], 257: [1], 258: [12], 262: [1], 278: [1], 279: [3]}
    data = form.tiff(twelve, b"\x00\x0f\xff\x00")
    yield OddFile("12-bit TIFF", "0 and 4095", data, rgb(np.array([[0, 255]])))
    strips = {**plain, 258: [8], 262: [1], 278: [5], 279: [WIDTH * 5] * 4 + [WIDTH]}
    places = [8 + WIDTH * 5 * number for number in range(5)]
    yield OddFile(
        "TIFF in strips", "", form.tiff({**strips, 273: places}, GREY.tobytes()), rgb(GREY)
    )
    short = {**strips, 273: places[:4], 279: [WIDTH * 5] * 4}
    data = form.tiff(short, GREY.tobytes())
    yield OddFile("TIFF with a part missing", "a strip", data, reason="do not cover")
    canvas = np.zeros((32, 48), np.uint8)
    canvas[:HEIGHT, :WIDTH] = GREY
    tiles = [canvas[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16, 32)]
    places = [8 + 256 * number for number in range(6)]
    tiled = {256: [WIDTH + 16], 257: [HEIGHT], 258: [8], 259: [1], 262: [1], 277: [1]}
    tiled |= {322: [16], 323: [16], 324: places, 325: [256] * 6}
    expected = rgb(canvas[:HEIGHT, : WIDTH + 16])
    yield OddFile("TIFF in tiles", "", form.tiff(tiled, b"".join(tiles)), expected)
    tiled |= {324: places[:4], 325: [256] * 4}
    data = form.tiff(tiled, b"".join(tiles))
    yield OddFile("TIFF with a part missing", "tiles", data, reason="do not cover")
    level = (RNG.integers(0, 65536, (HEIGHT, WIDTH))).astype(np.int32)
    yield OddFile("32-bit TIFF", "0 to 65535", encoded(level, "TIFF"), rgb(level >> 8))
    for detail, value in (("below 0", -1), ("beyond 65535", 70_000)):
        level[3, 4] = value
        yield OddFile("32-bit TIFF", detail, encoded(level, "TIFF"), reason="not 0 to 65535")
    share = (GREY / 255).astype(np.float32)
    yield OddFile("TIFF of floats", "0 to 1", encoded(share, "TIFF"), rgb(GREY))
    for detail, value in (("below 0", -0.5), ("beyond 1", 255.0), ("not a number", np.nan)):
        share[3, 4] = value
        yield OddFile("TIFF of floats", detail, encoded(share, "TIFF"), reason="not 0 to 1")
    cmyk = encoded(PICTURE.convert("CMYK"), "TIFF")
    yield OddFile("CMYK TIFF", "", cmyk, pillows(cmyk))


def small_formats() -> Iterator[OddFile]:
    """BMP, GIF and PPM in their rarer forms, made here; arithmetic is the referee."""
    table = RNG.integers(0, 256, (4, 4), dtype=np.uint8)
    colours = table[:, 2::-1]  # blue comes first
    index = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], dtype=np.uint8)
    up, down = index[::-1].tobytes(), index.tobytes()
    palette = table.tobytes()
    yield OddFile("BMP", "from the bottom", form.bmp(4, 2, 8, 0, up, palette), colours[index])
    yield OddFile("BMP", "from the top", form.bmp(4, -2, 8, 0, down, palette), colours[index])
    runs = bytes([2, 1, 2, 2, 0, 0, 3, 0, 1, 3, 0, 1])
    expected = colours[np.array([[0, 0, 0, 3], [1, 1, 2, 2]])]
    yield OddFile("BMP with runs", "", form.bmp(4, 2, 8, 1, runs, palette), expected)
    data = form.bmp(4, 2, 8, 1, runs[:4], palette)
    yield OddFile("BMP with runs", "cut", data, reason="not enough image data")
    half = np.array([0x7C00, 0x03E0], "<u2").tobytes()
    expected = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)
    yield OddFile("BMP of 16 bits", "5, 5, 5", form.bmp(2, 1, 16, 0, half, b""), expected)
    for bits in (1, 4, 24, 32):
        pictures = {1: Image.fromarray(GREY > 99), 4: PICTURE.quantize(9), 24: PICTURE}
        picture = pictures.get(bits, PICTURE.convert("RGBA"))
        data = encoded(picture, "BMP")
        yield OddFile("BMP depth", f"{bits}", data, np.asarray(picture.convert("RGB")))
    for detail, place, by in (("7 bits", 28, b"\x07"), ("width 0", 18, bytes(4))):
        whole = encoded(PICTURE, "BMP")
        data = whole[:place] + by + whole[place + len(by) :]
        yield OddFile("BMP header that cannot be", detail, data, reason="cannot be decoded")
    four = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    data = form.gif(2, 2, (0, 0, 2, 2), [1, 2, 3, 0])
    yield OddFile("GIF", "whole", data, four[np.array([[1, 2], [3, 0]])])
    expected = four[np.array([[0, 0, 0], [0, 1, 2], [0, 3, 3]])]
    data = form.gif(3, 3, (1, 1, 2, 2), [1, 2, 3, 3])
    yield OddFile("GIF with a smaller frame", "", data, expected)
    for count in (0, 1, 3):
        data = form.gif(2, 2, (0, 0, 2, 2), [1, 2, 3][:count])
        yield OddFile("GIF that ends early", f"{count} of 4 pixels", data, reason="truncated")
    yield OddFile("GIF without a frame", "", data[:25] + b";", reason="cannot be decoded")
    for interlace in (0, 1):
        data = encoded(Image.fromarray(GREY), "GIF", interlace=interlace)
        yield OddFile("interlaced GIF", f"{interlace}", data, rgb(GREY))
    for most in (1, 15, 200, 255):
        values = RNG.integers(0, most + 1, (3, 4))
        scaled = np.rint(values * 255 / most)
        body = b" ".join(b"%d" % value for value in values.ravel())
        data = b"P2\n# made here\n4 3\n%d\n" % most + body + b"\n"
        yield OddFile("plain PGM", f"0 to {most}", data, rgb(scaled), off_by=1)
        data = b"P5 4 3 %d\n" % most + values.astype(np.uint8).tobytes()
        yield OddFile("PGM", f"0 to {most}", data, rgb(scaled), off_by=1)
    yield OddFile("plain PBM", "", b"P1 3 1\n1 0 1\n", rgb(np.array([[0, 255, 0]])))
    yield OddFile("PBM", "", b"P4 3 1\n\xa0", rgb(np.array([[0, 255, 0]])))
    wide = WIDE[:, :, 0].astype(">u2")
    data = b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + wide.tobytes()
    yield OddFile("16-bit PGM", "", data, rgb(wide >> 8))
    data = b"P6 %d %d 65535\n" % (WIDTH, HEIGHT) + WIDE.astype(">u2").tobytes()
    yield OddFile("16-bit PPM", "", data, WIDE >> 8, off_by=1)
    for detail, data in {
        "no numbers": b"P6 four four 255\n" + bytes(48),
        "no range": b"P5 4 4 0\n" + bytes(16),
        "value beyond the range": b"P2 2 1 9\n3 12\n",
        "too few": b"P2 3 1 9\n3 2\n",
    }.items():
        yield OddFile("PPM that cannot be", detail, data, reason="cannot be decoded")


def animations() -> Iterator[OddFile]:
    """Of several pictures, the first."""
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "blue", "lime")]
    first = np.broadcast_to(np.array([255, 0, 0], np.uint8), (7, 9, 3))
    for count in (1, 2):
        more = {"save_all": True, "append_images": frames[1 : 1 + count]}
        for kind in ("GIF", "PNG", "WEBP", "TIFF"):
            options = {} if kind == "TIFF" else {"duration": 20}
            options |= {"lossless": True} if kind == "WEBP" else {}
            data = encoded(frames[0], kind, **more, **options)
            yield OddFile(f"several pictures, {kind}", f"{count + 1}", data, first)


def tiny() -> Iterator[OddFile]:
    """From one pixel on."""
    for width, height in ((1, 1), (1, 2), (2, 1), (1, 300), (300, 1), (3, 5)):
        picture = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for kind in LOSSLESS:
            data = lossless(picture, kind)
            yield OddFile("tiny or thin", f"{kind} of {width} x {height}", data, picture)
        data = encoded(picture, "JPEG")
        yield OddFile("tiny or thin", f"JPEG of {width} x {height}", data, pillows(data))


def misnamed() -> Iterator[OddFile]:
    """Every format under another's ending: the bytes say what it is."""
    for kind in LOSSLESS:
        for ending in (".jpg", ".PNG", ".gif", ".webp", ".tif"):
            if ending[1:3].upper() != kind[:2]:
                data = lossless(PICTURE, kind)
                yield OddFile("wrong ending", f"{kind}{ending}", data, COLOUR, ending=ending)


def damaged() -> Iterator[OddFile]:
    """Whole in length, wrong in between, where the format has a way to notice."""
    png = encoded(PICTURE, "PNG")
    data = png.index(b"IDAT")
    for detail, place, by in (
        ("header's checksum", 29, b"\0\0\0\0"),
        ("compressed data", data + 40, bytes(40)),
        ("length of the data", data - 4, b"\0\0\0\x09"),
        ("no picture", 16, bytes(8)),
        ("filter of no kind", 24, b"\x07"),
    ):
        changed = png[:place] + by + png[place + len(by) :]
        yield OddFile("damaged PNG", detail, changed, reason="cannot be decoded")
    for detail, rows in (("too little", bytes(99)), ("none", b""), ("filter 9", b"\x09" * 2000)):
        data = form.png(WIDTH, HEIGHT, 8, 2, rows)
        yield OddFile("PNG with wrong rows", detail, data, reason="cannot be decoded")
    last = png[:-16] + bytes(4) + png[-12:]  # the compressed data have a checksum of their own
    yield OddFile("PNG with a wrong checksum", "data", last, COLOUR, or_refused=True)
    webp = encoded(PICTURE, "WEBP", lossless=True)
    yield OddFile("damaged WebP", "", webp[:20] + b"\xff" * 200 + webp[220:], reason="cannot")
    lzw = encoded(PICTURE, "TIFF", compression="tiff_lzw")
    yield OddFile("damaged TIFF", "LZW", lzw[:30] + b"\xff" * 400 + lzw[430:], reason="cannot")
    far = encoded(PICTURE, "TIFF")
    far = far[:4] + b"\xff\xff\xff\x7f" + far[8:]
    yield OddFile("damaged TIFF", "directory beyond the end", far, reason="cannot be decoded")
