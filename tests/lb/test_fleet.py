"""In-flight accounting: exact while requests run, zero when they are over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lb.replicas.fleet import Fleet
from lb.replicas.replica import Replica
from tests.lb.fleets import make_replica, make_replicas, poll, request


def counts(replica: Replica) -> tuple[int, int]:
    return replica.in_flight, replica.prompt_tokens


def test_a_prompt_is_outstanding_until_the_first_byte() -> None:
    replica = make_replica()
    flight = Fleet([replica]).begin(replica, request(prompt_tokens=70))
    assert counts(replica) == (1, 70)
    flight.answered()
    flight.answered()
    assert counts(replica) == (1, 0)
    flight.end()
    assert counts(replica) == (0, 0)


def test_a_request_that_ends_twice_is_uncounted_once() -> None:
    replica = make_replica()
    fleet = Fleet([replica])
    first, _second = (fleet.begin(replica, request(prompt_tokens=70)) for _ in range(2))
    first.end()
    first.end()
    assert counts(replica) == (1, 70)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1000), st.booleans())))
def test_counts_return_to_zero_whatever_runs_at_once(
    plan: list[tuple[int, int, bool]],
) -> None:
    replicas = make_replicas(3)
    fleet = Fleet(replicas)
    flights = []
    for index, prompt_tokens, answered in plan:
        flight = fleet.begin(replicas[index], request(prompt_tokens=prompt_tokens))
        flights.append(flight)
        if answered:
            flight.answered()
    assert sum(replica.in_flight for replica in replicas) == len(plan)
    assert sum(replica.prompt_tokens for replica in replicas) == sum(
        prompt_tokens for _, prompt_tokens, answered in plan if not answered
    )
    for flight in flights:
        flight.end()
    assert [counts(replica) for replica in replicas] == [(0, 0)] * 3


def test_metrics_age_counts_from_the_last_poll_that_had_them() -> None:
    replica = make_replica()
    assert replica.metrics_age_s(now_s=5) is None
    poll(replica, waiting=0, at_s=2)
    assert replica.metrics_age_s(now_s=5) == 3
    replica.observe(None, 0, 4)
    assert replica.metrics_age_s(now_s=5) is None
