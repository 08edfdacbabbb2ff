"""Least outstanding work, with answers as long as they may be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.replicas.board import Board
from lb.replicas.fleet import Fleet
from lb.replicas.replica import Request
from lb.routing.request_parser import answer_tokens
from tests.lb.fleets import make_policy, make_replicas

lengths = st.integers(0, 512)


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 0),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": None, "max_completion_tokens": 8}, 8),
        ({"max_output_tokens": 9}, 9),
        ({"max_tokens": 10**9}, 512),
        ({"max_tokens": -1}, 0),
        ({"max_tokens": "7"}, 0),
    ],
)
def test_an_answer_is_as_long_as_the_request_allows(fields: dict[str, Any], tokens: int) -> None:
    assert answer_tokens(fields) == tokens


@given(st.lists(st.tuples(st.integers(0, 2000), lengths, st.booleans()), max_size=40))
def test_answers_are_work_until_the_request_ends_on_every_worker(
    sent: list[tuple[int, int, bool]],
) -> None:
    board = Board(rows=2)
    fleet, other = (Fleet(make_replicas(1), board=board, index=index) for index in range(2))
    (replica,) = fleet.replicas
    flights = []
    for prompt_tokens, answer, ends in sent:
        flights.append(
            (fleet.begin(replica, Request("m", prompt_tokens, answer_tokens=answer)), answer)
        )
        flights[-1][0].answered()
        if ends:
            flights.pop(0)[0].end()
        assert replica.prompt_tokens == sum(answer for _, answer in flights)
        other.refresh(1e9 + len(flights))
    for flight, _ in flights:
        flight.end()
    other.refresh(2e9)
    assert {one.prompt_tokens for one in (*fleet.replicas, *other.replicas)} == {0}


@given(st.lists(st.tuples(st.integers(0, 2000), lengths), max_size=40), st.integers(0, 2**32))
def test_no_two_replicas_are_further_apart_than_one_request(
    arrivals: list[tuple[int, int]], seed: int
) -> None:
    replicas = make_replicas(3)
    fleet, policy = Fleet(replicas), make_policy("length-aware", seed)
    for prompt_tokens, answer in arrivals:
        request = Request("m", prompt_tokens, answer_tokens=answer)
        fleet.begin(policy(replicas, request, 0.0).replica, request)
    work = [replica.prompt_tokens + 512 * replica.in_flight for replica in replicas]
    assert max(work) - min(work) <= max((sum(each) for each in arrivals), default=0) + 512
