"""Many images with captions on one picture, as `deit data preview` writes it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

_LEAST_SIZE = 96  # smaller images are enlarged by a whole factor, pixel by pixel
_MOST_SIZE = 224  # larger ones are shrunk
_MARGIN = 8
_FONT_SIZE = 12
_LINE = 16


def image_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], captions: Sequence[str], columns: int
) -> Image.Image:
    """Images in rows, each with its caption below, on white.

    Args:
        images: RGB images of any sizes; each keeps its proportions.
        captions: one for each image; a line feed begins a new line, a line that is too long for its
            column ends in "…".
        columns: how many images stand side by side.

    Returns:
        an RGB image.

    Raises:
        ValueError: for no images, no columns, or as many captions as there are no images.
    """
    if len(images) == 0 or columns < 1:
        raise ValueError(f"{len(images)} images in {columns} columns make no sheet")
    font = _font()
    pictures = [_fit(image) for image in images]
    width = max(max(picture.width for picture in pictures), _LEAST_SIZE)
    height = max(picture.height for picture in pictures)
    texts = [[_shorten(line, font, width) for line in caption.split("\n")] for caption in captions]
    cell = (width + _MARGIN, height + _LINE * max(map(len, texts)) + 2 * _MARGIN)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * cell[0] + _MARGIN, rows * cell[1] + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (picture, lines) in enumerate(zip(pictures, texts, strict=True)):
        left = _MARGIN + place % columns * cell[0]
        top = _MARGIN + place // columns * cell[1]
        sheet.paste(picture, (left + (width - picture.width) // 2, top + height - picture.height))
        for number, line in enumerate(lines):
            draw.text((left, top + height + 4 + number * _LINE), line, fill="#1c1e21", font=font)
    return sheet


def _fit(image: UInt8[np.ndarray, "_ _ 3"]) -> Image.Image:
    picture = Image.fromarray(image)
    longest = max(picture.size)
    if longest > _MOST_SIZE:
        picture.thumbnail((_MOST_SIZE, _MOST_SIZE))
        return picture
    factor = max(_LEAST_SIZE // longest, 1)
    return picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )


def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along and which knows most alphabets."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), _FONT_SIZE)


def _shorten(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    unknown = "\N{REPLACEMENT CHARACTER}"
    line = "".join(letter if letter.isprintable() else unknown for letter in line[:200])
    if font.getlength(line) <= width:
        return line
    kept = next(
        (n for n in range(len(line) - 1, 0, -1) if font.getlength(line[:n] + "…") <= width), 0
    )
    return line[:kept] + "…"
