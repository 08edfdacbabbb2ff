"""What one decision costs: the policy alone, and with all that the router looks at."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lb.policies import POLICIES
from lb.replicas.fleet import Fleet
from lb.replicas.replica import Replica
from tests.lb.fleets import make_policy, make_replicas, make_router, poll, request

pytestmark = [pytest.mark.slow, pytest.mark.serial]

counts = pytest.mark.parametrize("count", [2, 64, 1000])
names = pytest.mark.parametrize("name", sorted(POLICIES))


def busy_replicas(count: int) -> list[Replica]:
    replicas = make_replicas(count)
    for index, replica in enumerate(replicas):
        replica.in_flight = count - index
        replica.prompt_tokens = 100 * (count - index)
        poll(replica, waiting=0, at_s=0, running=count)
    return replicas


@counts
@names
def test_policy(benchmark: BenchmarkFixture, name: str, count: int) -> None:
    replicas = busy_replicas(count)
    choice = benchmark(make_policy(name), replicas, request(key=7), 1.0)
    assert choice.replica in replicas


@counts
@names
def test_router(benchmark: BenchmarkFixture, name: str, count: int) -> None:
    replicas = busy_replicas(count)
    router = make_router(Fleet(replicas), name)
    choice = benchmark(router.choose, request(key=7), 1.0)
    assert choice.replica in replicas
