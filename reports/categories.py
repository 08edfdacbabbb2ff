"""The Categories page of the report: tests that fail, sorted by the gate that did not hold."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.analysis.gates import Gate


@dataclass(frozen=True, slots=True)
class Category:
    """A heading and the regular expression that a whole message matches."""

    name: str
    pattern: str


_NAMES = {
    Gate.DEAD_REPLICA: "Dead replica",
    Gate.INVALID: "Invalid: the instrument failed, not the system",
    Gate.SLO_MISSED: "SLO missed",
    Gate.WORSE: "Worse",
    Gate.NOT_BETTER: "Not better, where better was expected",
    Gate.INCONCLUSIVE: "Inconclusive: more blocks are needed",
    Gate.NOISE: "An arm differs from itself (A/A)",
}


def _pattern(gate: Gate) -> str:
    # pytest puts the exception's class first. Of several gates, one a line, the first
    # one decides.
    return rf"^(?:[\w.]+: )?{re.escape(gate)}: [\s\S]*$"


# The last one takes what the others leave.
CATEGORIES = (
    *(Category(name, _pattern(gate)) for gate, name in _NAMES.items()),
    Category("Other errors", r"^[\s\S]*$"),
)
