"""What an outage leaves in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from lb.observability.logs import RepeatFilter


def logged(events: Iterable[tuple[float, str]], interval_s: float = 10.0) -> list[str]:
    happened = list(events)
    # The clock is read once for each message.
    repeats = RepeatFilter(interval_s, iter([at_s for at_s, _ in happened]).__next__)
    lines = []
    for _, message in happened:
        record = logging.LogRecord("lb", logging.WARNING, "", 0, "replica %s", (message,), None)
        if repeats.filter(record):
            lines.append(record.getMessage())
    return lines


def test_a_repeated_message_is_counted_until_its_time_has_come() -> None:
    events = [(0.0, "a"), (1.0, "a"), (2.0, "b"), (9.9, "a"), (10.0, "a"), (11.0, "a")]
    assert logged(events) == ["replica a", "replica b", "replica a (and 2 times before)"]


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from("abc"))).map(sorted))
def test_every_message_gets_through_and_none_twice_within_the_interval(
    events: list[tuple[float, str]],
) -> None:
    lines = logged(events)
    for name in "abc":
        times = [at for at, message in events if message == name]
        assert any(line.startswith(f"replica {name}") for line in lines) == bool(times)
        groups, last = 0, float("-inf")
        for at in times:
            if at >= last + 10:
                groups, last = groups + 1, at
        assert sum(line.startswith(f"replica {name}") for line in lines) == groups
