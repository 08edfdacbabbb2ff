"""Who waits, and whose turn it is."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lb.routing.queues import FairQueue
from lb.routing.router import RESERVE, SHARE, RetryBudget

tenants = st.sampled_from([b"a", b"b", b"c"])


def drained(queue: FairQueue[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    taken = []
    while (first := queue.first()) is not None:
        taken.append(first)
        assert queue.take() == first
    assert queue.take() is None
    return taken


@given(st.lists(tenants, max_size=50))
def test_each_tenant_is_served_in_order_and_in_turn(arrivals: list[bytes]) -> None:
    queue: FairQueue[tuple[bytes, int]] = FairQueue(1000, 1000)
    for number, tenant in enumerate(arrivals):
        assert queue.put(tenant, (tenant, number))
    assert len(queue) == len(arrivals)
    taken = drained(queue)
    assert sorted(taken, key=lambda item: item[1]) == list(
        zip(arrivals, range(len(arrivals)), strict=True)
    )
    for tenant in set(arrivals):
        numbers = [number for name, number in taken if name == tenant]
        assert numbers == sorted(numbers)
    # While all wait, nobody is served twice before everybody has been served once.
    rounds = min(Counter(arrivals).values(), default=0)
    size = len(set(arrivals))
    for turn in range(rounds):
        assert len({name for name, _ in taken[turn * size : (turn + 1) * size]}) == size


@given(st.lists(tenants, max_size=50), st.integers(0, 10), st.integers(0, 10))
def test_it_is_bounded_in_all_and_for_each_tenant(
    arrivals: list[bytes], most: int, most_per_tenant: int
) -> None:
    queue: FairQueue[tuple[bytes, int]] = FairQueue(most, most_per_tenant)
    accepted = [name for n, name in enumerate(arrivals) if queue.put(name, (name, n))]
    assert len(queue) == len(accepted) <= most
    assert max(Counter(accepted).values(), default=0) <= most_per_tenant


@given(st.lists(tenants, min_size=1, max_size=30), st.data())
def test_whoever_leaves_is_not_called(arrivals: list[bytes], data: st.DataObject) -> None:
    queue: FairQueue[tuple[bytes, int]] = FairQueue(1000, 1000)
    items = [(name, number) for number, name in enumerate(arrivals)]
    for item in items:
        queue.put(item[0], item)
    gone = data.draw(st.sets(st.sampled_from(items)))
    for item in gone:
        queue.remove(item[0], item)
        queue.remove(item[0], item)
    assert len(queue) == len(items) - len(gone)
    assert set(drained(queue)) == set(items) - gone


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_retries_are_a_share_of_requests_beyond_a_reserve(requests: int, tries: int) -> None:
    budget = RetryBudget()
    for _ in range(requests):
        budget.earn()
    assert sum(budget.spend() for _ in range(tries)) <= RESERVE
    spent = 0
    for _ in range(requests):
        budget.earn()
        spent += budget.spend()
    assert spent <= RESERVE + SHARE * requests
