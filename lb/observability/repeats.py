"""Keeps the log readable in an outage, when every request has the same thing to say."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_INTERVAL_S = 10.0
# Different messages that are remembered.
_MOST = 1000


class Repeats(logging.Filter):
    """Holds a message back that was logged within `interval_s`.

    The next one that gets through says how many were held back. What is counted exactly
    is in the metrics.
    """

    def __init__(
        self, interval_s: float = _INTERVAL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._clock = clock
        self._logged_s: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message, now_s = record.getMessage(), self._clock()
        logged_s = self._logged_s.get(message)
        if logged_s is not None and now_s < logged_s + self._interval_s:
            self._held_back[message] = self._held_back.get(message, 0) + 1
            return False
        if len(self._logged_s) >= _MOST:
            self._logged_s.clear()
            self._held_back.clear()
        self._logged_s[message] = now_s
        if held_back := self._held_back.pop(message, 0):
            record.msg, record.args = f"{message} (and {held_back} times before)", ()
        return True
