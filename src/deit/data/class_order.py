"""The order of classes that come as single labels, without a list: by name, numbers by value."""

from collections.abc import Iterable


def sorted_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, sorted; by value where all are numbers.

    >>> sorted_classes(["10", "9", "10"]), sorted_classes(["10", "9", "cat"])
    (('9', '10'), ('10', '9', 'cat'))
    """
    once = set(names)
    return tuple(sorted(once, key=int) if all(map(is_number, once)) else sorted(once))


def is_number(text: str) -> bool:
    """Whether text is a whole number as it is usually written, from 0, of up to 18 digits.

    >>> is_number("12"), is_number("0"), is_number("007"), is_number("-1")
    (True, True, False, False)
    """
    plain = text.isascii() and text.isdigit() and len(text) <= 18
    return plain and (text == "0" or not text.startswith("0"))
