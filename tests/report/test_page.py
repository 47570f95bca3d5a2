import math

import pytest

from deit.errors import UserError
from deit.report.page import duration, flat_items, number, percent, points, write_page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (48 * 3600, "2 d 0 h"),
    ],
)
def test_durations_turn_over_cleanly(seconds, text):
    """No minute has 60 seconds, however the rounding falls."""
    assert duration(seconds) == text


@pytest.mark.parametrize("form", [duration, percent, points, number])
def test_what_is_not_known_is_a_dash(form):
    """None and nan are shown alike."""
    assert form(None) == form(math.nan) == "–"


def test_difference_has_its_sign():
    """A difference that rounds to nothing has none."""
    assert [points(value) for value in (0.0123, -0.0123, -0.00001)] == ["+1.23", "−1.23", "0.00"]


def test_nested_values_get_dotted_names():
    """An environment's versions are found under their own name."""
    assert flat_items({"a": {"b": 1, "c": None}, "d": "x"}) == [
        ("a.b", "1"),
        ("a.c", "–"),
        ("d", "x"),
    ]


def test_unwritable_place_is_the_users_to_mend(tmp_path):
    """The path is named."""
    with pytest.raises(UserError, match="nowhere"):
        write_page(tmp_path / "nowhere" / "x.html", "base.html.j2", title="x")
