"""Image files to RGB: the pixels are Pillow's, or follow from arithmetic where Pillow errs."""

import io
import pickle
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image, ImageFile, ImageOps

from deit.data.images import BadImage, decode_image, read_file_size, read_image_file
from deit.errors import UserError

RNG = np.random.default_rng(7)
COLOUR = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(entries: dict[int, int], data: bytes) -> bytes:
    """A TIFF with any directory, of 32-bit values, and any data from byte 8 on."""
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    directory = struct.pack("<H", len(entries)) + rows + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "GIF", "JPEG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_pillows(kind: str, mode: str) -> None:
    """For images that need no decision, decoding is Pillow's `convert("RGB")`."""
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(COLOUR).convert(mode), kind, **options)
    decoded = decode_image(data, "x")
    assert decoded.flags.writeable
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, pixels(Image.open(io.BytesIO(data))))


@given(npst.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_lossless_files_give_back_their_pixels(image: np.ndarray) -> None:
    """Any size from 1 x 1 on, any colours."""
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(image), "PNG"), "x"), image)


@pytest.mark.parametrize("options", [{"quality": 90}, {"progressive": True}, {"subsampling": 0}])
def test_jpegs_are_decoded_at_full_size(options: dict[str, object]) -> None:
    """No reduced transform, whatever the JPEG's own form."""
    big = Image.fromarray(COLOUR).resize((501, 377), Image.Resampling.BICUBIC)
    data = encoded(big, "JPEG", **options)
    np.testing.assert_array_equal(decode_image(data, "x"), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind: str, orientation: int, tmp_path: Path) -> None:
    """All eight of EXIF, as Pillow's `exif_transpose` does; the size from the header agrees."""
    image = Image.fromarray(COLOUR)
    exif = image.getexif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif)
    expected = pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode_image(data, "x"), expected)
    (tmp_path / "x").write_bytes(data)
    assert read_file_size(str(tmp_path / "x"), "x") == expected.shape[:2]


@given(st.binary(max_size=60), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""]))
def test_damaged_exif_costs_nothing(junk: bytes, header: bytes) -> None:
    """It is metadata: the picture is whole, and nothing is printed or raised about it."""
    data = encoded(Image.fromarray(COLOUR[:2, :3]), "JPEG", exif=b"Exif\0\0" + header + junk)
    assert decode_image(data, "x").shape in {(2, 3, 3), (3, 2, 3)}


def test_transparency_is_composited_on_white() -> None:
    """For every way to say it, as a float calculation gives it to within rounding."""
    alpha = RNG.integers(0, 256, COLOUR.shape[:2], dtype=np.uint8)
    rgba = Image.fromarray(np.dstack([COLOUR, alpha]))
    share = alpha[:, :, None] / 255
    decoded = decode_image(encoded(rgba, "PNG"), "x").astype(float)
    assert np.abs(decoded - (share * COLOUR + (1 - share) * 255)).max() <= 1
    grey = COLOUR[:, :, 0]
    decoded = decode_image(encoded(Image.fromarray(np.dstack([grey, alpha])), "PNG"), "x")
    expected = share * grey[:, :, None] + (1 - share) * 255
    assert np.abs(decoded - expected).max() <= 1


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_becomes_white(mode: str) -> None:
    """Palette, grey and colour images can name one colour (or palette entry) as transparent."""
    image = Image.new("RGB", (4, 2), (10, 10, 10))
    image.paste((200, 200, 200), (2, 0, 4, 2))
    converted = image.quantize(4) if mode == "P" else image.convert(mode)
    key = converted.getpixel((0, 0))
    decoded = decode_image(encoded(converted, "PNG", transparency=key), "x")
    assert (decoded[:, :2] == 255).all()
    assert (decoded[:, 2:] == 200).all()


def test_cmyk_is_read_as_pillow_reads_it() -> None:
    """Inverted as Adobe writes it, in JPEG; upright in TIFF."""
    cmyk = Image.fromarray(COLOUR).resize((32, 32)).convert("CMYK")
    for kind in ("JPEG", "TIFF"):
        data = encoded(cmyk, kind)
        np.testing.assert_array_equal(decode_image(data, "x"), pixels(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_grey_of_16_bits_keeps_its_brightness(kind: str) -> None:
    """Pillow's own conversion clips everything above 255 to white."""
    wide = RNG.integers(0, 2**16, (5, 6), dtype=np.uint16)
    wide[0, :2] = 0, 2**16 - 1
    decoded = decode_image(encoded(Image.fromarray(wide), kind), "x")
    np.testing.assert_array_equal(decoded, np.repeat(wide[:, :, None] // 256, 3, axis=2))


def test_grey_and_colour_of_16_bits_agree() -> None:
    """A PPM of 16-bit colour, which Pillow scales, and the same values as grey: to a level."""
    values = np.array([0, 100, 2048, 40_000, 65_535], dtype=">u2")
    colour = b"P6 5 1 65535\n" + np.repeat(values, 3).tobytes()
    grey = b"P5 5 1 65535\n" + values.tobytes()
    difference = decode_image(colour, "x").astype(int) - decode_image(grey, "x")
    assert np.abs(difference).max() <= 1


def test_grey_of_12_bits_uses_the_whole_range() -> None:
    """TIFF packs two values of 12 bits into three bytes: here 0 and 4095."""
    entries = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    assert decode_image(tiff(entries, b"\x00\x0f\xff\x00"), "x")[0, :, 0].tolist() == [0, 255]


def test_float_grey_is_0_to_1() -> None:
    """0, a half and 1 become black, middle grey and white."""
    values = np.array([[0, 0.5, 1]], dtype=np.float32)
    decoded = decode_image(encoded(Image.fromarray(values), "TIFF"), "x")
    assert decoded[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_pictures_the_first_is_taken(kind: str) -> None:
    """Animations and pages."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    options = {} if kind == "TIFF" else {"duration": 10}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    decoded = decode_image(data, "x").reshape(-1, 3)
    np.testing.assert_allclose(decoded, [[255, 0, 0]] * 64, atol=2)  # WebP is lossy


def test_of_a_multi_picture_jpeg_the_first_is_taken() -> None:
    """Phones write them; their plain JPEG comes first."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    np.testing.assert_array_equal(decode_image(data, "x"), pixels(Image.open(io.BytesIO(data))))


def test_the_format_is_told_by_the_bytes() -> None:
    """A PNG called .jpg is read."""
    data = encoded(Image.fromarray(COLOUR), "PNG")
    np.testing.assert_array_equal(decode_image(data, "photo.jpg"), COLOUR)


def test_metadata_that_pillow_warns_of_is_no_matter() -> None:
    """Warnings are errors in this suite: none may leave, and no filter may be left changed."""
    entries = {256: 2, 257: 1, 258: 8, 259: 1, 262: 1, 270: 0, 273: 8, 277: 1, 278: 1, 279: 2}
    data = tiff(entries, bytes([3, 7]))
    place = data.index(struct.pack("<HH", 270, 4))  # make it a text that lies beyond the file
    data = data[: place + 2] + struct.pack("<HII", 2, 500, 2**30) + data[place + 12 :]
    with pytest.warns(UserWarning, match="Tag data larger than file"):
        Image.open(io.BytesIO(data)).load()
    before = list(warnings.filters)
    assert decode_image(data, "x")[0, :, 0].tolist() == [3, 7]
    assert list(warnings.filters) == before


def test_the_size_limit_counts_pixels() -> None:
    """One more than allowed is refused."""
    data = encoded(Image.fromarray(COLOUR), "PNG")
    assert decode_image(data, "x", max_pixels=13 * 17).shape == (13, 17, 3)
    with pytest.raises(BadImage, match="17 x 13 pixels are more than 220"):
        decode_image(data, "x", max_pixels=220)


def test_half_decoded_images_cannot_be_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch belongs to the whole process; many scripts set it."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UserError, match="LOAD_TRUNCATED_IMAGES"):
        decode_image(encoded(Image.fromarray(COLOUR), "JPEG"), "x")


def test_bad_images_travel_between_processes() -> None:
    """Loader workers pickle them."""
    bad = pickle.loads(pickle.dumps(BadImage("caf\udce9.png", "line\nbreak")))
    assert (bad.name, bad.reason) == ("caf\udce9.png", "line\\nbreak")
    assert str(bad).encode() == b"caf\\xe9.png: line\\nbreak"


def test_files_are_read_whole(tmp_path: Path) -> None:
    """`read_image_file` is `Path.read_bytes` for ordinary files."""
    (tmp_path / "x").write_bytes(b"abc" * 1000)
    assert read_image_file(str(tmp_path / "x"), "x") == b"abc" * 1000


def test_real_photographs_are_decoded_as_pillow_does(shared_data: Path) -> None:
    """ImageNet validation files, damaged EXIF blocks and all."""
    import tarfile

    with tarfile.open(shared_data / "imagenet-val-1300.tar") as archive:
        members = [member for member in archive if member.name.endswith(".JPEG")][:40]
        files = [archive.extractfile(member).read() for member in members]  # type: ignore[union-attr]
    for data in files:
        with warnings.catch_warnings(action="ignore"):
            expected = pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        np.testing.assert_array_equal(decode_image(data, "x"), expected)
