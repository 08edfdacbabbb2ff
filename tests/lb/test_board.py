"""What workers tell each other through shared memory."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from lb.http.endpoint import Endpoint
from lb.replicas.board import Board
from lb.replicas.fleet import Fleet
from lb.replicas.replica import Replica
from tests.lb.fleets import request

ENDPOINTS = [Endpoint("10.0.0.1", port, f"10.0.0.1:{port}") for port in range(1, 4)]


def fleet_on(board: Board, index: int | None) -> Fleet:
    fleet = Fleet(board=board, index=index)
    for endpoint in ENDPOINTS:
        column = board.claim(endpoint.authority)
        assert column is not None
        fleet.add(Replica(endpoint, column=column))
    return fleet


def counts(fleet: Fleet) -> list[tuple[int, int]]:
    return [(one.in_flight, one.prompt_tokens) for one in fleet.replicas]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 999), st.sampled_from("sae"))
    )
)
def test_every_process_sees_the_sum_of_all(plan: list[tuple[int, int, int, str]]) -> None:
    board = Board(rows=3, columns=8)
    workers = [fleet_on(board, index) for index in range(3)]
    control = fleet_on(board, None)
    expected = [(0, 0)] * 3
    for step, (worker, index, tokens, fate) in enumerate(plan):
        fleet = workers[worker]
        flight = fleet.begin(fleet.replicas[index], request(prompt_tokens=tokens))
        in_flight, prompt_tokens = expected[index]
        if fate == "s":
            expected[index] = in_flight + 1, prompt_tokens + tokens
        elif fate == "a":
            flight.answered()
            expected[index] = in_flight + 1, prompt_tokens
        else:
            flight.end()
        for one in (*workers, control):
            one.refresh(now_s=float(step))
            assert counts(one) == expected
            assert one.in_flight == sum(count for count, _ in expected)


def test_counts_of_another_process_are_seen_and_end_with_its_row() -> None:
    board = Board(rows=2)
    here = fleet_on(board, 0)
    child = os.fork()
    if not child:
        there = fleet_on(board, 1)
        there.begin(there.replicas[1], request(prompt_tokens=7))
        os._exit(0)
    os.waitpid(child, 0)
    here.refresh(now_s=1.0)
    assert counts(here) == [(0, 0), (1, 7), (0, 0)]
    board.row(1)
    here.refresh(now_s=2.0)
    assert counts(here) == [(0, 0)] * 3


@given(st.lists(st.tuples(st.booleans(), st.text("abcd", min_size=1, max_size=2))))
def test_a_column_is_one_replicas_until_it_is_released(steps: list[tuple[bool, str]]) -> None:
    board = Board(rows=1, columns=4)
    taken: dict[str, int] = {}
    for release, name in steps:
        if release:
            if name in taken:
                board.release(taken.pop(name))
            continue
        column = board.claim(name)
        if name in taken:
            assert column == taken[name]
        elif len(taken) == 4:
            assert column is None
        else:
            assert column is not None
            assert column not in taken.values()
            taken[name] = column
