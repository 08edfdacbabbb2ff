"""When a replica that fails is left alone, and when it is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.breaker import FAILURES, FIRST_OPEN_S, LONGEST_OPEN_S, Breaker


def opened(at_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(at_s)
    return breaker


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    breaker = Breaker()
    for _ in range(10):
        for _ in range(FAILURES - 1):
            breaker.failed(0.0)
        assert breaker.allows(0.0)
        breaker.succeeded()
    assert not opened().allows(0.0)


def test_after_a_while_one_request_at_a_time_is_a_trial() -> None:
    breaker = opened(at_s=5.0)
    assert not breaker.allows(5.0 + 0.99 * FIRST_OPEN_S)
    assert breaker.allows(5.0 + FIRST_OPEN_S)
    breaker.sent()
    assert not breaker.allows(5.0 + FIRST_OPEN_S)


def test_a_trial_that_succeeds_closes_it() -> None:
    breaker = opened()
    breaker.sent()
    breaker.succeeded()
    assert breaker.closed
    breaker.sent()
    assert breaker.allows(0.0)


def test_a_trial_that_fails_doubles_the_wait_up_to_a_bound() -> None:
    breaker, now_s, waits = opened(), 0.0, []
    for _ in range(8):
        started_s = now_s
        while not breaker.allows(now_s):
            now_s += 0.25
        waits.append(now_s - started_s)
        breaker.sent()
        breaker.failed(now_s)
    assert waits == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30])
    assert waits[-1] == LONGEST_OPEN_S


def test_failures_of_requests_sent_before_it_opened_do_not_prolong_it() -> None:
    breaker = opened(at_s=0.0)
    for _ in range(20):
        breaker.failed(0.9)
    assert breaker.allows(FIRST_OPEN_S)


def test_a_trial_whose_client_left_makes_room_for_another() -> None:
    breaker = opened()
    breaker.sent()
    breaker.abandoned()
    assert breaker.allows(FIRST_OPEN_S)


@given(st.lists(st.sampled_from(["sent", "succeeded", "failed", "abandoned"]), max_size=60))
def test_whatever_happens_it_allows_a_trial_in_the_end(events: list[str]) -> None:
    breaker, now_s = Breaker(), 0.0
    for event in events:
        now_s += 0.1
        if event == "sent":
            if breaker.allows(now_s):
                breaker.sent()
        elif event == "failed":
            breaker.failed(now_s)
        else:
            getattr(breaker, event)()
    breaker.abandoned()
    assert breaker.allows(now_s + LONGEST_OPEN_S)
