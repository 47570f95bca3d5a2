"""JPEGs decoded without Pillow around libjpeg-turbo: its pixels, and its judgement of damage."""

import io
import random

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from deit.data import images
from deit.data.images import BadImage, decode_image

PHOTOGRAPH = Image.fromarray(load_sample_image("china.jpg")).crop((120, 60, 217, 143))


def encoded(picture: Image.Image = PHOTOGRAPH, **settings: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", **settings)
    return file.getvalue()


def turned_sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PLAIN = {
    "4:2:0": encoded(quality=90),
    "4:2:2": encoded(subsampling="4:2:2"),
    "4:4:4": encoded(subsampling="4:4:4", quality=100),
    "progressive": encoded(progressive=True),
    "restart markers": encoded(restart_marker_blocks=3),
    "RGB": encoded(keep_rgb=True),
    "grey": encoded(PHOTOGRAPH.convert("L")),
    "sideways": encoded(exif=turned_sideways()),
    "with something behind": encoded() + b"and more",
}


def by_pillow(data: bytes) -> np.ndarray | str:
    """What the rest of the module makes of it, without the shorter way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_decode_plain_jpeg", lambda data, name, max_pixels: None)
        return outcome(data)


def outcome(data: bytes) -> np.ndarray | str:
    """The pixels, or the reason why there are none."""
    try:
        return decode_image(data, "it.jpg")
    except BadImage as problem:
        return str(problem)


@pytest.mark.parametrize("kind", PLAIN)
def test_usual_jpegs_take_the_shorter_way_to_pillows_pixels(kind: str) -> None:
    """Every way of encoding that cameras and the web use, byte for byte."""
    data = PLAIN[kind]
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert images._decode_plain_jpeg(data, "it.jpg", images.MAX_PIXELS) is not None
    if kind == "sideways":
        expected = np.rot90(expected, -1)
    np.testing.assert_array_equal(decode_image(data, "it.jpg"), expected)


def test_cmyk_and_large_images_are_left_to_pillow() -> None:
    """Colours that simplejpeg would convert in its own way; sizes that are to be refused."""
    cmyk = encoded(PHOTOGRAPH.convert("CMYK"))
    assert images._decode_plain_jpeg(cmyk, "it.jpg", images.MAX_PIXELS) is None
    assert decode_image(cmyk, "it.jpg").shape == (83, 97, 3)
    with pytest.raises(BadImage, match="97 x 83 pixels are more than 8,000"):
        decode_image(PLAIN["4:2:0"], "it.jpg", max_pixels=8000)


def test_damaged_jpegs_have_the_same_fate_either_way() -> None:
    """Changed, lost and added bytes, half of them in the headers: equal pixels or one reason.

    But for a part that is missing within the data: Pillow paints it grey, and has to be overruled.
    """
    rng = random.Random(0)
    fates = {"pixels": 0, "refused": 0, "overruled": 0}
    for data in PLAIN.values():
        for _ in range(60):
            mutant = bytearray(data)
            place = rng.randrange(len(data) if rng.random() < 0.5 else 650)
            match rng.randrange(4):
                case 0:
                    mutant[place] ^= 1 << rng.randrange(8)
                case 1:
                    del mutant[place:]
                case 2:
                    del mutant[place : place + rng.randrange(1, 20)]
                case 3:
                    mutant[place:place] = rng.randbytes(rng.randrange(1, 9))
            ours, pillows = outcome(bytes(mutant)), by_pillow(bytes(mutant))
            if isinstance(ours, str) and "a part of its data is missing" in ours:
                fates["overruled"] += 1
                continue
            np.testing.assert_array_equal(ours, pillows)
            fates["refused" if isinstance(ours, str) else "pixels"] += 1
    assert min(fates["refused"], fates["pixels"]) > 100
    assert fates["overruled"] < 50
