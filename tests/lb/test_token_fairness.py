"""Tenants that wait get equal shares of tokens: a virtual token counter."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb.routing.queues import FairQueue

# Of the prompts and answers in these tests.
MOST_PROMPT, MOST_ANSWER = 40, 60
TENANTS = (b"a", b"b", b"c", b"d")

seeds = st.integers(0, 2**32)
places = st.integers(1, 6)


@dataclass
class Server:
    """Serves as many requests at a time as it has `places`, a token of an answer at a time.

    `served` is the service of each tenant. The queue remembers few tenants.
    """

    places: int
    queue: FairQueue[tuple[bytes, int, int]] = field(
        default_factory=lambda: FairQueue(10**4, 10**4)
    )
    running: list[tuple[bytes, int]] = field(default_factory=list)
    served: Counter[bytes] = field(default_factory=Counter)
    begun: list[bytes] = field(default_factory=list)

    def send(self, tenant: bytes, prompt: int, answer: int) -> None:
        if len(self.queue) or len(self.running) == self.places:
            assert self.queue.put(tenant, (tenant, prompt, answer))
        else:
            self._begin(tenant, prompt, answer)

    def generate(self, rng: Random) -> None:
        """One request has its next token; whoever waits takes the place of one that ends."""
        if not self.running:
            return
        tenant, left = self.running.pop(rng.randrange(len(self.running)))
        self.queue.serve(tenant, 1)
        self.served[tenant] += 1
        if left > 1:
            self.running.append((tenant, left - 1))
        elif (item := self.queue.take()) is not None:
            self._begin(*item)
        assert len(self.running) == self.places or not len(self.queue)  # work-conserving

    def _begin(self, tenant: bytes, prompt: int, answer: int) -> None:
        self.queue.begin(tenant, prompt)
        self.served[tenant] += prompt
        self.begun.append(tenant)
        self.running.append((tenant, answer))

    @property
    def bound(self) -> int:
        return 2 * (MOST_PROMPT + self.places * MOST_ANSWER)


@given(places, seeds)
def test_two_tenants_that_always_wait_never_differ_by_more_than_the_bound(
    count: int, seed: int
) -> None:
    """Whatever they send: one long answers, the other short ones; others come and go."""
    rng, server = Random(seed), Server(count)
    for tenant in TENANTS[2:] * 3:  # before, others are served
        server.send(tenant, rng.randint(0, MOST_PROMPT), rng.randint(1, MOST_ANSWER))
    for _ in range(rng.randint(0, 200)):
        server.generate(rng)
    lengths = {b"a": (1, MOST_ANSWER), b"b": (MOST_PROMPT, 1)}
    for _ in range(60):
        for tenant, (prompt, answer) in lengths.items():
            server.send(tenant, rng.randint(0, prompt), rng.randint(1, answer))
    lead = []
    for _ in range(800):
        if rng.random() < 0.03:
            server.send(rng.choice(TENANTS[2:]), rng.randint(0, 40), rng.randint(1, 60))
        server.generate(rng)
        if not all(server.queue._tenants.get(tenant) for tenant in lengths):
            break
        lead.append(server.served[b"a"] - server.served[b"b"])
    assert max(lead, default=0) - min(lead, default=0) <= server.bound


def test_turns_alone_would_not_keep_that_bound() -> None:
    turns: FairQueue[int] = FairQueue(10**4, 10**4)
    for _ in range(100):
        turns.put(b"a", MOST_ANSWER)
        turns.put(b"b", 1)
    served: Counter[int] = Counter()
    while (answer := turns.take()) is not None:
        served[answer] += answer
    assert served[MOST_ANSWER] - served[1] > Server(1).bound


@given(places, seeds)
def test_nobody_starves_and_who_comes_back_has_saved_up_nothing(count: int, seed: int) -> None:
    """From when it waits, a tenant gets no more and no less ahead of others than the bound."""
    rng, server = Random(seed), Server(count)
    for _ in range(30):
        for tenant in TENANTS[:3]:
            server.send(tenant, rng.randint(0, MOST_PROMPT), rng.randint(1, MOST_ANSWER))
    for _ in range(rng.randint(0, 600)):
        server.generate(rng)
    before = server.served.copy()
    for _ in range(30):
        server.send(b"d", rng.randint(0, MOST_PROMPT), rng.randint(1, MOST_ANSWER))
    for _ in range(600):
        server.generate(rng)
    got = {tenant: server.served[tenant] - before[tenant] for tenant in TENANTS}
    assert all(server.queue._tenants.get(tenant) for tenant in TENANTS)
    assert max(got.values()) - min(got.values()) <= server.bound
    assert min(got.values()) > 0


@given(st.lists(st.sampled_from(TENANTS), min_size=1, max_size=60), st.integers(1, 50))
def test_when_all_requests_are_alike_tenants_take_turns(arrivals: list[bytes], cost: int) -> None:
    turns: FairQueue[tuple[bytes, int]] = FairQueue(1000, 1000)
    tokens: FairQueue[tuple[bytes, int]] = FairQueue(1000, 1000)
    for number, tenant in enumerate(arrivals):
        assert turns.put(tenant, (tenant, number))
        assert tokens.put(tenant, (tenant, number))
    while (item := tokens.take()) is not None:
        tokens.begin(item[0], cost)
        assert item == turns.take()
    assert turns.take() is None


@given(places, seeds)
def test_within_a_tenant_it_is_first_in_first_out(count: int, seed: int) -> None:
    rng = Random(seed)
    queue: FairQueue[tuple[bytes, int]] = FairQueue(1000, 1000)
    taken: dict[bytes, list[int]] = defaultdict(list)
    for number in range(100):
        tenant = rng.choice(TENANTS)
        queue.put(tenant, (tenant, number))
        queue.serve(rng.choice(TENANTS), rng.randrange(100))
        if number % 3 == 0 and (item := queue.take()) is not None:
            queue.begin(item[0], rng.randrange(100))
            taken[item[0]].append(item[1])
    assert all(numbers == sorted(numbers) for numbers in taken.values())


@given(st.integers(1, 10), st.integers(1, 100), seeds)
def test_tenants_that_are_gone_are_forgotten(most: int, tenants: int, seed: int) -> None:
    rng = Random(seed)
    queue: FairQueue[bytes] = FairQueue(most, most)
    for number in range(tenants):
        queue.begin(b"%d" % number, rng.randrange(100))
        queue.serve(b"%d" % rng.randrange(number + 1), rng.randrange(1000))
        assert len(queue._served) <= 2 * most


@settings(max_examples=20)
@given(places, seeds)
def test_what_is_forgotten_makes_no_difference(count: int, seed: int) -> None:
    """As long as no more tenants than may wait have had more than the least served one."""
    remembering, forgetful = Server(count), Server(count, FairQueue(60, 60))
    for server in (remembering, forgetful):
        rng = Random(seed)
        for number in range(300):
            if len(server.queue) < 60:
                tenant = b"%d" % rng.randint(number // 4, number)
                server.send(tenant, rng.randint(1, MOST_PROMPT), rng.randint(1, MOST_ANSWER))
            for _ in range(rng.randrange(80)):
                server.generate(rng)
    assert len(forgetful.queue._served) < len(remembering.queue._served)
    assert forgetful.begun == remembering.begun


@pytest.mark.parametrize("waits", [True, False])
def test_an_idle_tenant_is_lifted_to_the_least_served_that_waits_or_was_served_last(
    waits: bool,
) -> None:
    queue: FairQueue[bytes] = FairQueue(10, 10)
    queue.begin(b"busy", 1000)
    for tenant in (*[b"busy"] * waits, b"idle", b"idle", b"busy"):
        queue.put(tenant, tenant)
    turns = []
    while (served := queue.take()) is not None:
        turns.append(served)
        queue.begin(served, 1)
    assert turns == [b"busy", b"idle", b"busy", b"idle"][not waits :]
