"""What takes a replica for one that refuses what others accept, and when it is asked again."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.policies import POLICIES
from lb.replicas.fleet import Fleet
from lb.replicas.outliers import MOST_SUSPICIOUS, SUSPICIOUS, Acceptance, Advice, is_refusal
from tests.lb.fleets import make_replicas, make_router, request

SERVICE = ("m", b"/v1/completions")


@pytest.mark.parametrize(
    ("refused", "of", "found"), [(1, 1, True), (2, 3, True), (1, 2, True), (1, 3, False)]
)
def test_it_takes_refusals_of_more_than_every_third(refused: int, of: int, found: bool) -> None:
    acceptance = Acceptance()
    advice = {
        acceptance.answered(SERVICE, number % of < refused, 0.0, trial=False)
        for number in range(120)
    }
    assert (Advice.COMPARE in advice) == found


def test_what_was_refused_now_and_then_is_forgotten() -> None:
    acceptance = Acceptance()
    acceptance.answered(SERVICE, True, 0.0, trial=False)
    for _ in range(2):
        acceptance.answered(SERVICE, False, 0.0, trial=False)
    assert not acceptance.services


def test_a_clients_fault_as_a_trial_does_not_bring_a_replica_back() -> None:
    acceptance = Acceptance()
    acceptance.answered(SERVICE, True, 0.0, trial=False)
    acceptance.suspend(SERVICE, 0.0)
    assert acceptance.compared(SERVICE, False, 0.0)
    assert acceptance.sent(SERVICE, 1.0)
    assert acceptance.answered(SERVICE, True, 1.0, trial=True) is Advice.COMPARE
    acceptance.suspend(SERVICE, 1.0)
    assert not acceptance.compared(SERVICE, True, 1.0)
    assert not acceptance.allows(SERVICE, 1.9)
    assert acceptance.sent(SERVICE, 2.0)


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b'{"error": {"message": "no"}}',
        b'{\n  "error": "no"}',
        b'{ "object" : "error", "message": "no"}',
        b'{"type":"error","error":{}}',
        b'{"detail":"Not Found"}',
        b'data:{"error":"no"}\n\n',
        b"event: error\r\ndata: no\r\n\r\n",
        b"error: {}\n\n",
        b"data: [DONE]\n\n",
        b"\n<!doctype html>",
        b'data: {"choices": [{"index": 0, "finish_reason": "abort"}]}\n\n',
        b'{"id": "1", "choices": [{"text": "", "finish_reason":"error"}]}',
    ],
)
def test_a_200_of_no_answer_is_a_refusal(beginning: bytes) -> None:
    assert is_refusal(200, beginning)


@pytest.mark.parametrize(
    "beginning",
    [
        b"{}",
        b'{"error": null, "id": "1"}',
        b'{"id": "1", "object": "response", "error": null}',
        b'data: {"choices": [{"delta": {"content": "\\"finish_reason\\": \\"abort\\""}}]}\n\n',
        b'data: {"choices": [{"index": 0, "finish_reason": "stop"}]}\n\n',
        b": ping\n\n",
        b"WEBVTT",
        b"\xff\xfb",
    ],
)
def test_an_answer_is_no_refusal(beginning: bytes) -> None:
    assert not is_refusal(200, beginning)
    assert not is_refusal(500, beginning)
    assert is_refusal(404, beginning)


def test_who_is_cleared_is_compared_more_seldom_for_a_while() -> None:
    acceptance = Acceptance()
    rows = []
    for _ in range(5):
        row = 1
        while acceptance.answered(SERVICE, True, 0.0, trial=False) is Advice.PASS:
            row += 1
        rows.append(row)
        acceptance.suspend(SERVICE, 0.0)
        assert not acceptance.allows(SERVICE, 0.0)
        assert not acceptance.compared(SERVICE, True, 0.0)
        assert acceptance.allows(SERVICE, 0.0)
    assert rows == [SUSPICIOUS, 2 * SUSPICIOUS, 4 * SUSPICIOUS, MOST_SUSPICIOUS, MOST_SUSPICIOUS]


answers = st.lists(
    st.tuples(
        st.floats(0, 40),  # s since the one before
        st.booleans(),  # whether it refuses
        st.sampled_from(["accepts", "refuses", "fails", "cannot be asked"]),  # another one
    )
)


@given(answers)
def test_whatever_is_answered_it_gets_requests_again(events: list[tuple[float, bool, str]]) -> None:
    acceptance, now_s = Acceptance(), 0.0
    for gap_s, refused, other in events:
        now_s += gap_s
        trial = acceptance.sent(SERVICE, now_s)
        advice = acceptance.answered(SERVICE, refused, now_s, trial=trial)
        if not refused:
            assert advice is Advice.PASS
        elif advice is Advice.COMPARE:
            acceptance.suspend(SERVICE, now_s)
            if other == "cannot be asked":
                acceptance.postponed(SERVICE, now_s)
            elif other == "fails":
                acceptance.undecided(SERVICE, now_s)
            else:
                ejected = acceptance.compared(SERVICE, other == "refuses", now_s)
                assert ejected == (other == "accepts")
        elif trial:
            raise AssertionError("a trial that is refused has to be compared")
        assert acceptance.allows(SERVICE, now_s + 30.0)
        assert acceptance.allows(("another", b"/v1/completions"), now_s)


@pytest.mark.parametrize("name", POLICIES)
def test_a_replica_that_is_ejected_gets_nothing_but_a_trial(name: str) -> None:
    bad, *_ = replicas = make_replicas(3)
    fleet = Fleet(replicas)
    router = make_router(fleet, name)
    service = request().service
    bad.acceptance.answered(service, True, 0.0, trial=False)
    bad.acceptance.suspend(service, 0.0)
    assert bad.acceptance.compared(service, False, 0.0)
    rng = Random(1)
    for _ in range(50):
        choice = router.choose(request(key=rng.randrange(2**32)), 0.9)
        assert choice is not None
        assert choice.replica is not bad
    assert bad.acceptance.sent(service, 1.0)
    assert not bad.acceptance.allows(service, 1.0)
