"""When a replica that fails is left alone, and when it is tried again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.replicas.breaker import (
    ENOUGH,
    FAILURES,
    FIRST_OPEN_S,
    LONGEST_OPEN_S,
    WINDOW,
    Breaker,
    State,
)


def opened(at_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(breaker.sent(at_s), at_s)
    return breaker


def tell(breaker: Breaker, outcomes: str) -> bool:
    """Send a request for each letter, F for one that fails. Whether it is open then."""
    for outcome in outcomes:
        number = breaker.sent(0.0)
        (breaker.failed if outcome == "F" else breaker.succeeded)(number, 0.0)
    return breaker.open


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    assert not tell(Breaker(), 10 * "FFSSS")
    assert tell(Breaker(), "FFF")


def test_it_opens_when_half_of_enough_outcomes_are_failures() -> None:
    assert not tell(Breaker(), "FFSFSFSFS")
    assert tell(Breaker(), "FFSFSFSFSF")
    assert not tell(Breaker(), 10 * "SSF")


def test_only_the_latest_outcomes_count() -> None:
    assert not tell(Breaker(), 1000 * "S" + 9 * "FS")
    assert tell(Breaker(), 1000 * "S" + 9 * "FS" + "F")


def test_after_a_while_one_request_at_a_time_is_a_trial() -> None:
    breaker = opened(at_s=5.0)
    assert not breaker.allows(5.0 + 0.99 * FIRST_OPEN_S)
    assert breaker.allows(5.0 + FIRST_OPEN_S)
    breaker.sent(5.0 + FIRST_OPEN_S)
    assert not breaker.allows(5.0 + FIRST_OPEN_S)


def test_a_trial_that_succeeds_closes_it_and_it_knows_when() -> None:
    breaker = opened()
    assert breaker.closed_s == -math.inf
    breaker.succeeded(breaker.sent(2.0), 3.0)
    assert not breaker.open
    assert breaker.closed_s == 3.0
    breaker.sent(3.0)
    assert breaker.allows(3.0)


def test_it_shows_its_state() -> None:
    breaker = Breaker()
    assert breaker.state(0.0) is State.CLOSED
    breaker = opened()
    assert breaker.state(0.5 * FIRST_OPEN_S) is State.OPEN
    assert breaker.state(FIRST_OPEN_S) is State.HALF_OPEN
    breaker.sent(FIRST_OPEN_S)
    assert breaker.state(FIRST_OPEN_S) is State.HALF_OPEN


def test_what_it_saw_before_it_opened_is_forgotten_when_it_closes() -> None:
    breaker = opened()
    breaker.succeeded(breaker.sent(2.0), 2.0)
    assert not tell(breaker, (FAILURES - 1) * "F")


def test_a_trial_that_fails_doubles_the_wait_up_to_a_bound() -> None:
    breaker, now_s, waits = opened(), 0.0, []
    for _ in range(8):
        started_s = now_s
        while not breaker.allows(now_s):
            now_s += 0.25
        waits.append(now_s - started_s)
        breaker.failed(breaker.sent(now_s), now_s)
    assert waits == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30])
    assert waits[-1] == LONGEST_OPEN_S


def test_answers_to_requests_from_before_it_opened_neither_close_nor_prolong_it() -> None:
    breaker = Breaker()
    early = [breaker.sent(0.0) for _ in range(20)]
    tell(breaker, "FFF")
    for number in early[:10]:
        breaker.succeeded(number, 0.9)
    for number in early[10:]:
        breaker.failed(number, 0.9)
    assert breaker.open
    assert not breaker.allows(0.9)
    assert breaker.allows(FIRST_OPEN_S)


def test_where_all_replicas_fail_requests_that_it_did_not_allow_can_close_it() -> None:
    breaker = opened()
    not_allowed = breaker.sent(0.1)
    breaker.failed(breaker.sent(0.1), 0.2)
    assert breaker.allows(FIRST_OPEN_S)  # a failure does not prolong the wait
    breaker.succeeded(not_allowed, 0.3)
    assert not breaker.open


def test_a_trial_whose_client_left_makes_room_for_another() -> None:
    breaker = opened()
    stale = breaker.sent(0.0)
    trial = breaker.sent(FIRST_OPEN_S)
    breaker.abandoned(stale)
    assert not breaker.allows(FIRST_OPEN_S)
    breaker.abandoned(trial)
    assert breaker.allows(FIRST_OPEN_S)


@given(st.lists(st.booleans(), min_size=WINDOW, max_size=100))
def test_it_is_open_when_the_window_says_so_for_the_first_time(failures: list[bool]) -> None:
    breaker = Breaker()
    seen: list[bool] = []
    for failure in failures:
        assert tell(breaker, "F" if failure else "S") == breaker.open
        seen = [*seen, failure][-WINDOW:]
        in_a_row = seen[-FAILURES:] == [True] * FAILURES
        often = len(seen) >= ENOUGH and sum(seen) >= len(seen) / 2
        assert breaker.open == (failure and (in_a_row or often))
        if breaker.open:
            break
