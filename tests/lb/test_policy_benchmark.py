"""What one decision costs."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lb.policies import POLICIES
from tests.lb.fleets import make_policy, make_replicas, poll, request


@pytest.mark.parametrize("count", [2, 64, 1000])
@pytest.mark.parametrize("name", sorted(POLICIES))
def test_decision(benchmark: BenchmarkFixture, name: str, count: int) -> None:
    replicas = make_replicas(count)
    for index, replica in enumerate(replicas):
        replica.in_flight = replica.unanswered = count - index
        poll(replica, waiting=0, at_s=0)
    assert benchmark(make_policy(name), replicas, request(at_s=1, key=7)) in replicas
