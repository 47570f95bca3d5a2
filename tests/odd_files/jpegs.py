"""JPEG in all its forms, and the orientations of EXIF in all formats."""

import base64
import struct
from collections.abc import Iterator

import numpy as np
import simplejpeg

from odd_files import forms as form
from odd_files.forms import encoded
from odd_files.odd import COLOUR, GREY, PICTURE, RNG, OddFile, as_pillow, pillows, rgb, upright


def turned() -> Iterator[OddFile]:
    """All eight orientations, in both byte orders, and blocks that say nothing that holds."""
    jpeg = encoded(PICTURE, "JPEG", quality=95)
    shown = pillows(jpeg)
    for number in range(1, 9):
        for order in "<>":
            block = form.exif(number, order)
            detail = f"{number}, order {order}"
            turned_jpeg = form.with_segment(jpeg, 0xE1, block)
            yield OddFile("EXIF in JPEG", detail, turned_jpeg, upright(shown, number))
            data = encoded(PICTURE, "PNG", exif=block)
            yield OddFile("EXIF in PNG", detail, data, upright(COLOUR, number))
            data = encoded(PICTURE, "WEBP", lossless=True, exif=block)
            yield OddFile("EXIF in WebP", detail, data, upright(COLOUR, number))
    whole = form.exif(6)
    damaged = {
        "orientation 0": form.exif(0),
        "orientation 9": form.exif(9),
        "a wide number": form.exif(6, kind=4),
        "cut in the entry": whole[:20],
        "cut in the header": whole[:9],
        "no header": b"Exif\0\0",
        "neither byte order": whole.replace(b"II", b"XX"),
        "directory beyond the end": whole[:10] + b"\xff\xff\xff\x7f" + whole[14:],
        "more entries than there are": whole[:14] + b"\xff\xff" + bytes(12),
        "noise": b"Exif\0\0II*\0" + bytes(range(1, 60)),
    }
    for detail, block in damaged.items():
        data = form.with_segment(jpeg, 0xE1, block)
        yield OddFile("damaged EXIF", f"JPEG, {detail}", data, shown)
        data = encoded(PICTURE, "PNG", exif=block)
        yield OddFile("damaged EXIF", f"PNG, {detail}", data, COLOUR)
        data = encoded(PICTURE, "WEBP", lossless=True, exif=block)
        yield OddFile("damaged EXIF", f"WebP, {detail}", data, COLOUR)


def jpegs() -> Iterator[OddFile]:
    """JPEG in all its forms; Pillow is the referee."""
    for subsampling in ("444", "422", "420", "440", "411", "Gray"):
        for quality in (40, 95):
            data = simplejpeg.encode_jpeg(COLOUR, quality, colorsubsampling=subsampling)
            yield as_pillow("JPEG sampling", f"{subsampling}, quality {quality}", data)
    for progressive in (False, True):
        for quality in (1, 30, 100):
            options = {"quality": quality, "progressive": progressive, "optimize": True}
            kind = "progressive JPEG" if progressive else "JPEG quality"
            yield as_pillow(kind, f"{quality}", encoded(PICTURE, "JPEG", **options))
    for blocks in (1, 2, 3, 5):
        for sampling in (0, 1, 2):
            options = {"restart_marker_blocks": blocks, "subsampling": sampling}
            data = encoded(PICTURE, "JPEG", **options)
            yield as_pillow("restart markers", f"every {blocks}, sampling {sampling}", data)
    for side in (1, 7, 8, 9, 15, 16, 17, 33):
        for other in (1, 8, 17):
            picture = PICTURE.resize((side, other))
            yield as_pillow("JPEG block edges", f"{side} x {other}", encoded(picture, "JPEG"))
    plain = encoded(PICTURE, "JPEG")
    red_green_blue = encoded(PICTURE, "JPEG", keep_rgb=True)
    yield as_pillow("RGB JPEG", "", red_green_blue)
    cmyk = encoded(PICTURE.convert("CMYK"), "JPEG")
    adobe = cmyk.index(b"Adobe")
    yield as_pillow("CMYK JPEG", "Adobe", cmyk)
    yield as_pillow("YCCK JPEG", "Adobe", cmyk[: adobe + 11] + b"\x02" + cmyk[adobe + 12 :])
    ramp = np.mgrid[0:12, 0:16]
    known = np.stack([ramp[1] * 16, ramp[0] * 20, ramp[0] * ramp[1]], -1).astype(np.uint8)
    shown = pillows(encoded(known, "JPEG", quality=60))  # arithmetic coding loses nothing more
    for detail, text in ARITHMETIC.items():
        yield OddFile("arithmetic JPEG", detail, base64.b85decode(text), shown)
    yield OddFile("lossless JPEG", "grey", form.lossless_jpeg(GREY), rgb(GREY))
    yield OddFile("12-bit JPEG", "", form.jpeg_of_12_bits(), reason="12-bit")
    pictures = [PICTURE, PICTURE.rotate(180)]
    data = encoded(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    yield OddFile("MPO", "", data, pillows(plain))
    for detail, more in {
        "zeros": bytes(500),
        "text": b"\nuploaded by a browser\n",
        "noise": RNG.bytes(300),
        "another": encoded(PICTURE.rotate(180), "JPEG"),
        "a PNG": encoded(PICTURE, "PNG"),
        "a zip archive": b"PK\x03\x04" + bytes(90),
    }.items():
        kind = "two images joined" if detail in ("another", "a PNG") else "trailing garbage"
        yield OddFile(kind, f"JPEG and {detail}", plain + more, pillows(plain))
        yield OddFile(kind, f"PNG and {detail}", encoded(PICTURE, "PNG") + more, COLOUR)
    for detail, marker, body in (
        ("comment", 0xFE, b"hello"),
        ("empty application block", 0xE5, b""),
        ("long block", 0xE7, bytes(60_000)),
        ("colour profile that is none", 0xE2, b"ICC_PROFILE\0\x01\x01nonsense"),
        ("Adobe block cut short", 0xEE, b"Adob"),
    ):
        data = form.with_segment(plain, marker, body)
        yield as_pillow("JPEG with other segments", detail, data)
    for detail, percents in {"sequential": (70, 80, 90), "progressive": (50, 60, 90)}.items():
        whole = encoded(PICTURE, "JPEG", quality=95, progressive=detail == "progressive")
        for percent in percents:
            closed = whole[: len(whole) * percent // 100] + b"\xff\xd9"
            where = f"{detail}, at {percent} %"
            yield OddFile("JPEG cut and closed again", where, closed, reason="part of its data is")
    start = plain.index(b"\xff\xc0")
    claim = plain[: start + 5] + struct.pack(">HH", 8000, 8000) + plain[start + 9 :]
    yield OddFile("JPEG of too few bytes", "8000 x 8000", claim, reason="too few for 8000 x 8000")
    yield as_pillow("fill bytes", "", plain[:start] + b"\xff\xff\xff" + plain[start:])
    for detail, place, by in (
        ("zero width", 7, b"\0\0"),
        ("zero height", 5, b"\0\0"),
        ("five components", 9, b"\x05"),
        ("12 bits", 4, b"\x0c"),
    ):
        data = plain[: start + place] + by + plain[start + place + len(by) :]
        yield OddFile("JPEG header that cannot be", detail, data, reason="cannot be decoded")


ARITHMETIC = {
    "sequential": "|JeWA07C!`2?`4e2n`Dg3l0tq4-+626A}^=CmbFZATB8}FfJ)AEHgSvJ~K8(H!LkcS3yQhPEu1"
    "+GCo>iT2Nq0QBqI;+W<oW4h{|z5fdgA6(&zLEj3S1Pft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%z"
    "Pft%zPft%z|H%Lm2mlNK5CZ`s00I#K0}%oL%m4}i5D*0c5D^9c+5ij#0RRFK0}%}i0RI4X(n)icaQXOSJ`$9ryU#r4"
    "+#qkm)TLlS?NiXoBiA(l*#",
    "progressive": "|JeWA07C!`2?`4e2n`Dg3l0tq4-+626A}^=CmbFZATB8}FfJ)AEHgSvJ~K8(H!LkcS3yQhPEu1"
    "+GCo>iT2Nq0QBqI;+W<oW4h{|z5fdgA6(&zLEj3S1Pft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%z"
    "Pft%zPft%z|H=Rn2mlNK5CZ`s00I#K0}%oL%m4-e5CIVX+5ij#0RRFJ0}ucJ0siam%A8fm|I7dc5C#9*00;pA009L8"
    "9*xr3Bzp6}|I7dc5e5I+00;pC0RcY&6>60K%m4%t1^?Or2mt~C0Y3o`v>^Y?00a;P|Jncu0RaF8KLWu2%m4%s1^?Or"
    "2mt{A0Y4$rM>vcB+5ij#0RRF30{{R35JdmX00a>Q|Jncu0RsU6KM=)$|I7dc5e5I+00;pB0RcY{c~Jk%00a;P|Jncu"
    "0RaF3KM<-#kvjj`",
}
"""Of 16 x 12 pixels, written by libjpeg-turbo 2.1.5 at quality 60 with `arith_code` set: Pillow
cannot write them."""
