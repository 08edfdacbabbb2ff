"""A reason, and when to believe it."""

from __future__ import annotations

import math
from dataclasses import dataclass

# What the cluster tries again by itself may still come right in so many seconds.
AT_ONCE = 0.0
SOON = 30.0
# A node may come, or a pod that is ending may leave its place.
LATER = 90.0
NEVER = math.inf


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is not ready, in one line.

    It is given up once it has been so for `patience_s` seconds.
    """

    text: str
    patience_s: float = AT_ONCE


def one_line(text: object, limit: int = 300) -> str:
    """What the cluster or a program said, in one line of bounded length."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
