"""Policies that keep together what shares a prefix or a session."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.policies.affinity import home, key_of
from lb.replicas.fleet import Fleet
from tests.lb.fleets import make_policy, make_replica, make_replicas, request, with_capacities

seeds = st.integers(0, 2**32)
keys = st.integers(0, 2**32 - 1)
counts = st.integers(1, 8)
many = [key_of(b"%d" % number) for number in range(4000)]


@given(st.sampled_from(["session", "prefix-aware"]), counts, keys, seeds)
def test_the_same_key_goes_to_the_same_replica_on_every_balancer(
    name: str, count: int, key: int, seed: int
) -> None:
    one, other = make_replicas(count), make_replicas(count)
    here = make_policy(name, seed)(one, request(key=key), 0.0)
    there = make_policy(name, seed + 1)(other[::-1], request(key=key), 0.0)
    assert here.replica.name == there.replica.name
    assert here.reason == there.reason == "home"


@given(st.integers(2, 8), st.data())
def test_only_keys_of_a_replica_that_leaves_move_and_they_spread(
    count: int, data: st.DataObject
) -> None:
    replicas = make_replicas(count)
    gone = data.draw(st.sampled_from(replicas))
    rest = [replica for replica in replicas if replica is not gone]
    moved: Counter[str] = Counter()
    for key in many[:1000]:
        before, after = replicas[home(replicas, key)], rest[home(rest, key)]
        assert after is before or before is gone
        moved[after.name] += before is gone
    assert max(moved.values()) < 2 * 1000 / count / (count - 1) + 20


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6))
def test_keys_are_at_home_in_proportion_to_capacity(weights: list[int]) -> None:
    replicas = with_capacities(weights)
    homes = Counter(home(replicas, key) for key in many)
    for index, replica in enumerate(replicas):
        expected = len(many) * replica.capacity / sum(weights)
        assert homes[index] == pytest.approx(expected, rel=0.2, abs=40)


@given(st.integers(2, 8), keys, st.integers(0, 1000), seeds)
def test_a_session_stays_however_busy_its_home_is(
    count: int, key: int, in_flight: int, seed: int
) -> None:
    replicas = make_replicas(count)
    policy = make_policy("session", seed)
    at_home = policy(replicas, request(key=key), 0.0)
    at_home.replica.in_flight = in_flight
    assert policy(replicas, request(key=key), 0.0) == at_home


@given(
    st.lists(st.floats(0.5, 4), min_size=1, max_size=6),
    st.lists(st.tuples(keys, st.integers(0, 4000)), max_size=80),
    seeds,
)
def test_prefix_aware_never_puts_more_work_on_a_home_than_the_bound(
    weights: list[float], arrivals: list[tuple[int, int]], seed: int
) -> None:
    """Work counts prompts that wait and 512 tokens for each request, per capacity."""
    replicas = with_capacities(weights)
    fleet, policy = Fleet(replicas), make_policy("prefix-aware", seed)
    for key, prompt_tokens in arrivals:
        arrival = request(prompt_tokens=prompt_tokens, key=key % 3)  # popular ones
        works = {
            one: (one.prompt_tokens + 512 * one.in_flight + prompt_tokens + 512) for one in replicas
        }
        mean = sum(works.values()) / sum(weights)
        replica, reason = policy(replicas, arrival, 0.0)
        if reason == "home":
            assert works[replica] / replica.capacity <= 1.2501 * mean
        else:
            assert works[replica] / replica.capacity == min(
                work / one.capacity for one, work in works.items()
            )
        fleet.begin(replica, arrival)


def test_prefix_aware_lets_a_home_be_the_busier_the_more_there_is_to_save() -> None:
    replicas, policy = make_replicas(4), make_policy("prefix-aware")
    replicas[home(replicas, 7)].in_flight = 1
    assert policy(replicas, request(prompt_tokens=4000, key=7), 0.0).reason == "home"
    assert policy(replicas, request(prompt_tokens=10, key=7), 0.0).reason == "overflow"


@given(counts, seeds)
def test_without_a_key_load_decides(count: int, seed: int) -> None:
    for name in ("session", "prefix-aware"):
        idle, *busy = replicas = [make_replica(), *make_replicas(count)[1:]]
        for replica in busy:
            replica.in_flight = 5
        assert make_policy(name, seed)(replicas, request(), 0.0) == (idle, "no-key")
