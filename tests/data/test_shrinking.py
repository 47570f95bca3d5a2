"""An image in a prepared store is Pillow's resize of it, or the image itself."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.v2 import functional as torchvision

from deit.data.classes import ClassList
from deit.data.dataset import ArraySource
from deit.data.images import BadImage, decode_image
from deit.data.preprocess import Preprocess
from deit.data.shrinking import ShrinkConfig, encode_pixels, resize_shorter, shrink_image
from deit.data.sources import open_data
from deit.errors import UserError
from photo_folder import write_photos


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(37, 50), (50, 37), (40, 40), (33, 300)])
def test_resizing_is_torchvisions(height: int, width: int) -> None:
    """Shorter side to 32, antialiased bicubic: as ``Resize(32)`` does it on PIL images."""
    pixels = noise(height, width)
    expected = torchvision.resize(Image.fromarray(pixels), [32], Image.Resampling.BICUBIC)
    resized = resize_shorter(pixels, 32)
    assert resized is not None
    assert (resized == np.asarray(expected)).all()


@pytest.mark.parametrize(("height", "width"), [(32, 50), (50, 32), (1, 500), (20, 20)])
def test_small_images_are_never_enlarged(height: int, width: int) -> None:
    assert resize_shorter(noise(height, width), 32) is None


def test_evaluation_of_a_lossless_store_is_that_of_the_original() -> None:
    """Where the store has the size to which the evaluation transform resizes: 28 / 0.875 = 32."""
    preprocess = Preprocess(image_size=28, crop_pct=0.875)
    pixels = noise(77, 101)
    data, ending = encode_pixels(resize_shorter(pixels, 32), ShrinkConfig(encoding="png"))
    assert ending == ".png"
    stored = decode_image(data, "stored")
    assert (preprocess.apply(stored) == preprocess.apply(pixels)).all()


def test_small_files_are_kept_byte_for_byte(tmp_path: Path) -> None:
    """Turned ones as well: the store is read as the original is."""
    write_photos(tmp_path, {"train/cat": 3, "train/dog": 3, "val/cat": 1})
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(noise(30, 20)).save(tmp_path / "train/cat/0.jpg", exif=turned)
    source = open_data(str(tmp_path)).train
    index = list(source.names).index("train/cat/0.jpg")
    data, ending, num_bytes, _ = shrink_image(source, index, ShrinkConfig(size=64))
    assert data == (tmp_path / "train/cat/0.jpg").read_bytes()
    assert (ending, num_bytes) == (".jpg", len(data))


def test_small_images_without_a_file_keep_every_pixel() -> None:
    """As PNG, whatever the format of those that are resized."""
    source = ArraySource(noise(8, 8)[None], np.zeros(1, dtype=np.int64), ClassList(("a",)), ["0"])
    data, ending, num_bytes, _ = shrink_image(source, 0, ShrinkConfig(encoding="jpeg"))
    assert (decode_image(data, "0") == source.read(0)).all()
    assert (ending, num_bytes) == (".png", None)


@pytest.mark.parametrize(("encoding", "kind"), [("jpeg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_resized_images_are_encoded_as_asked(encoding: str, kind: str) -> None:
    """And JPEG keeps colours at full resolution."""
    data, _ = encode_pixels(noise(20, 30), ShrinkConfig(encoding=encoding))
    picture = Image.open(io.BytesIO(data))
    assert picture.format == kind
    if kind == "JPEG":
        assert {layer[1:3] for layer in picture.layer} == {(1, 1)}


def test_quality_is_what_was_asked_for() -> None:
    """Less of it is less bytes; 95 is the default."""
    sizes = [len(encode_pixels(noise(40, 40), ShrinkConfig(quality=q))[0]) for q in (50, 95)]
    assert sizes[0] < sizes[1] == len(encode_pixels(noise(40, 40), ShrinkConfig())[0])


def test_an_image_too_long_for_its_format_becomes_png() -> None:
    """WebP ends at 16,383 pixels."""
    data, ending = encode_pixels(noise(1, 16_384), ShrinkConfig(encoding="webp"))
    assert ending == ".png"
    assert decode_image(data, "long").shape == (1, 16_384, 3)


def test_a_bad_image_is_found_though_it_would_only_be_copied(tmp_path: Path) -> None:
    write_photos(tmp_path, {"train/cat": 3, "train/dog": 3, "val/cat": 1})
    whole = (tmp_path / "train/cat/1.jpg").read_bytes()
    (tmp_path / "train/cat/1.jpg").write_bytes(whole[: len(whole) // 2])
    source = open_data(str(tmp_path)).train
    with pytest.raises(BadImage, match=r"cat/1\.jpg"):
        shrink_image(source, list(source.names).index("train/cat/1.jpg"), ShrinkConfig())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": 0}, "--size 0"),
        ({"quality": 0}, "--quality 0"),
        ({"quality": 101}, "--quality 101"),
        ({"quality": 90, "encoding": "png"}, "--quality 90 with --format png"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        ShrinkConfig(**fields)
    assert caught.value.given == said
