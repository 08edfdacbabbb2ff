"""Why a scenario test does not pass: the words in its message and the report's categories.

A failing test's message starts with one of these prefixes, and the report sorts by
them. Both sides read them from here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Failure(StrEnum):
    """The prefix of a failing test's message, one for each kind of failure."""

    SLO_MISSED = "SLO missed"
    WORSE = "worse"
    NOT_BETTER = "not better"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"
    DEAD_REPLICA = "dead replica"

    def message(self, text: str) -> str:
        """The message of a test that fails for this reason."""
        return f"{self}: {text}"


@dataclass(frozen=True, slots=True)
class Category:
    """A heading of the report's Categories page; `pattern` matches whole messages."""

    name: str
    pattern: str


_NAMES = {
    Failure.DEAD_REPLICA: "Dead replica",
    Failure.INVALID: "Invalid: the instrument failed, not the system",
    Failure.SLO_MISSED: "SLO missed",
    Failure.WORSE: "Worse than the baseline",
    Failure.NOT_BETTER: "Not better, where better was expected",
    Failure.INCONCLUSIVE: "Inconclusive: more blocks are needed",
}


def _pattern(failure: Failure) -> str:
    # pytest may put the exception's class first. A message that only quotes another one
    # further down does not belong to that category.
    return rf"^(?:[\w.]+: )?{re.escape(failure)}: [\s\S]*$"


# The last one takes what the others leave.
CATEGORIES = (
    *(Category(name, _pattern(failure)) for failure, name in _NAMES.items()),
    Category("Other errors", r"^[\s\S]*$"),
)
