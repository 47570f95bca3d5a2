"""How large an image may be: what is larger is refused from its header, before it takes memory."""

from deit.errors import UserError

MAX_PIXELS = 2**26
"""8192 x 8192, unless the user says otherwise: 0.19 GiB once decoded, meanwhile 0.5 GiB, or 1 GiB
from WebP."""

MOST_PIXELS = 178_956_970
"""What `MAX_PIXELS` can be replaced by at most: Pillow refuses more."""

MAX_SIDE = 2**16 - 1
"""What JPEG and GIF can hold. Longer sides are found in damaged headers, not in photographs."""

MAX_FILE_BYTES = 2**29
"""512 MiB: what `MAX_PIXELS` need at 8 bytes a pixel."""


OVER_LIMIT = "pixels are more than"
"""Part of the reason why an image above the limit cannot be used."""


def check_max_pixels(option: str, value: int) -> None:
    """Refuse a limit that no image could keep, or that could not act.

    Raises:
        UserError: names the option.
    """
    if not 1 <= value <= MOST_PIXELS:
        raise UserError(
            f"{option} {value}",
            f"1 to {MOST_PIXELS} pixels, width times height; {MAX_PIXELS} unless given",
            "correct the number",
        )
