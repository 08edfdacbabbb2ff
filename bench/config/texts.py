"""The values of options from their texts. Each raises ValueError for a text that has none."""

from __future__ import annotations

import math


def names(text: str) -> tuple[str, ...]:
    """The names in a list with commas, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def several_names(text: str) -> tuple[str, ...]:
    """Two names or more with commas between; they may be the same."""
    found = tuple(name.strip() for name in text.split(","))
    if len(found) < 2 or not all(found):
        raise ValueError
    return found


def process_count(text: str) -> int | None:
    """A number from 1; None for `auto`."""
    if text != "auto" and not (text.isdecimal() and int(text)):
        raise ValueError
    return None if text == "auto" else int(text)


def count(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or not int(text):
        raise ValueError
    return int(text)


def port_number(text: str) -> int:
    """A TCP port."""
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise ValueError
    return int(text)


def seconds_from_0(text: str) -> float:
    """Seconds, 0 or more."""
    if not 0 <= float(text) < math.inf:
        raise ValueError
    return float(text)


def seconds(text: str) -> float:
    """Seconds, more than 0."""
    if not 0 < float(text) < math.inf:
        raise ValueError
    return float(text)
