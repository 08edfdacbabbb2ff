"""How many requests may be tried again: retries must not multiply an overload.

Each request earns a share of a retry, up to a reserve, as in Finagle and Envoy.
"""

from __future__ import annotations

SHARE = 0.2
RESERVE = 10.0


class RetryBudget:
    """Starts with a full reserve, so that the first failures of a quiet day are covered."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = RESERVE

    def earn(self) -> None:
        """A request came in."""
        if self._left < RESERVE:
            self._left = min(RESERVE, self._left + SHARE)

    def spend(self) -> bool:
        """Take one retry out, if there is one."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
