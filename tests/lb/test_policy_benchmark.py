"""What one decision costs."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.lb.fleets import make_policy, make_replicas, poll, request


@pytest.mark.parametrize("count", [2, 64])
def test_queue_aware_decision(benchmark: BenchmarkFixture, count: int) -> None:
    replicas = make_replicas(count)
    for index, replica in enumerate(replicas):
        replica.in_flight = replica.unanswered = count - index
        poll(replica, waiting=0, at_s=0)
    chosen = benchmark(make_policy("queue-aware"), replicas, request(at_s=1))
    assert chosen is replicas[-1]
