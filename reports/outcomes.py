"""Why a scenario test does not pass: the words in its message and the report's categories.

A failing test's message starts with one of these prefixes, and the report sorts by
them. Both sides read them from here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Failure(StrEnum):
    """The prefix of an assertion message, one for each kind of failure."""

    SLO_MISSED = "SLO missed"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"
    DEAD_REPLICA = "dead replica"

    def message(self, text: str) -> str:
        """The message of a test that fails for this reason."""
        return f"{self}: {text}"


@dataclass(frozen=True, slots=True)
class Category:
    """A heading of the report's Categories page; `pattern` is a regular expression."""

    name: str
    pattern: str


# pytest may put the exception's class before the message; a message that only quotes
# another one further down does not belong to that category.
_START = r"^(?:[\w.]+: )?"

_NAMES = {
    Failure.DEAD_REPLICA: "Dead replica",
    Failure.INVALID: "Invalid: the instrument failed, not the system",
    Failure.SLO_MISSED: "SLO missed",
    Failure.WORSE: "Worse, or not better where better was expected",
    Failure.INCONCLUSIVE: "Inconclusive: more blocks are needed",
}

CATEGORIES = tuple(
    Category(name, f"{_START}{re.escape(failure)}: ") for failure, name in _NAMES.items()
)
