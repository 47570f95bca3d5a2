"""One HTML file that needs nothing but itself: the templates, how numbers read, and the writing.

Names of classes and files come from other people's folders: every value is escaped, and the page
forbids itself scripts and outside resources besides.
"""

import functools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from deit.errors import UserError

NONE = "–"
"""What stands where there is no value."""


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Fill a template and write it, whole or not at all.

    Args:
        path: the HTML file.
        template: a file in ``templates``.
        values: what the template names.

    Raises:
        UserError: when the place cannot be written.
    """
    text = _templates().get_template(template).render(values)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(text.encode("utf-8", errors="replace"))
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error}", "a writable place", "choose another"
        ) from error
    return path


def percent(share: float | None, digits: int = 2) -> str:
    """A share from 0 to 1 as per cent.

    >>> percent(0.97222, 1)
    '97.2\\xa0%'
    """
    if share is None or not math.isfinite(share):
        return NONE
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def points(difference: float | None, digits: int = 2) -> str:
    """A difference of shares in percentage points, with its sign.

    >>> points(-0.0125), points(0.0)
    ('−1.25', '0.00')
    """
    if difference is None or not math.isfinite(difference):
        return NONE
    text = f"{100 * difference:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def number(value: float | None, digits: int = 0) -> str:
    """A number with its thousands apart.

    >>> number(1281167)
    '1\\u202f281\\u202f167'
    """
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:,.{digits}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def duration(seconds: float | None) -> str:
    """Seconds in the two units that say most.

    >>> duration(0.84), duration(75), duration(4000), duration(200_000)
    ('0.8 s', '1 min 15 s', '1 h 7 min', '2 d 8 h')
    """
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h"


def flat_items(plain: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested dictionaries as rows of dotted key and value."""
    rows: list[tuple[str, str]] = []
    for key, value in plain.items():
        if isinstance(value, Mapping):
            rows += flat_items(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", NONE if value is None else str(value)))
    return rows


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("deit.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter_ in (percent, points, number, duration, flat_items):
        environment.filters[filter_.__name__] = filter_
    return environment
