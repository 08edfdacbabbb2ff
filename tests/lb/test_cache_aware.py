"""Least outstanding work, without what replicas have cached of prompts."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.replicas.cached import BLOCK_TOKENS, CachedBlocks
from lb.replicas.fleet import Fleet
from lb.replicas.replica import EngineGauges, Request
from lb.routing.request_parser import prompt_blocks
from tests.lb.fleets import make_policy, make_replica, make_replicas, with_capacities
from tests.lb.scripted import ScriptedReplica, balancer

seeds = st.integers(0, 2**32)
# Prompts as chains of blocks: some begin alike, and none has a block without those before it.
chains = st.lists(st.integers(0, 1), max_size=6).map(
    lambda bits: [hash(tuple(bits[: end + 1])) for end in range(len(bits))]
)


FORM = (
    b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nsaid before\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n%b\r\n--x--\r\n'
    % (b"y" * 5000)
)


def body(**fields: object) -> bytes:
    return json.dumps({"model": "m", **fields, "max_tokens": 7}).encode()


def chat(*messages: str) -> bytes:
    return body(messages=[{"role": "user", "content": message} for message in messages])


def shared(one: bytes, other: bytes) -> int:
    """Blocks at the beginning that are the same."""
    pairs = zip(prompt_blocks("m", one), prompt_blocks("m", other), strict=False)
    return [a == b for a, b in (*pairs, (0, 1))].index(False)


def arrival(blocks: list[int], more_tokens: int = 50) -> Request:
    return Request("m", BLOCK_TOKENS * len(blocks) + more_tokens, blocks=blocks)


# Blocks of prompts


def in_common(one: bytes, other: bytes, field: bytes) -> int:
    """Whole blocks of the text from `field` on that both bodies have in common."""
    texts = (text[text.index(field) :] for text in (one, other))
    return [a == b for a, b in zip(*texts, strict=False)].index(False) // 1024


@given(st.integers(0, 4000), st.integers(1, 4000), st.integers(1, 4000))
def test_prompts_share_whole_blocks_of_what_they_begin_with(
    same: int, more: int, other: int
) -> None:
    one = body(prompt="x" * same + "y" * more)
    another = body(prompt="x" * same + "z" * other)
    assert shared(one, another) == in_common(one, another, b'"prompt"')


def test_a_turn_shares_what_the_turns_before_it_said() -> None:
    said = ["word " * 300, "more " * 200, "last " * 100]
    before, turn = chat(*said[:2]), chat(*said)
    assert shared(before, turn) == in_common(before, turn, b'"messages"') == 2


@pytest.mark.parametrize(
    "without",
    [b"{}", chat("short"), body(input="x" * 5000), FORM],
)
def test_a_request_without_a_long_prompt_has_no_blocks(without: bytes) -> None:
    assert len(prompt_blocks("m", without)) == 0


def test_models_share_nothing_and_fields_before_the_prompt_do_not_matter() -> None:
    one, other = body(seed=1, prompt="x" * 4000), body(seed=222, prompt="x" * 4000)
    assert shared(one, other) >= 1
    assert not set(prompt_blocks("m", one)) & set(prompt_blocks("n", one))


def test_no_more_than_the_beginning_of_a_prompt_is_read() -> None:
    assert len(prompt_blocks("m", body(prompt="x" * 10**6))) == 32


# What is cached


@given(st.lists(chains, max_size=20), chains, st.integers(0, 20))
def test_what_was_sent_last_is_cached_as_far_as_it_fits(
    sent: list[list[int]], last: list[int], most: int
) -> None:
    cached = CachedBlocks(most)
    for blocks in (*sent, last):
        cached.add(blocks)
        assert len(cached) <= most
    # Of what does not fit the end is missing: without its beginning it would be of no use.
    assert cached.matching(last) == min(len(last), most)
    assert cached.matching([-1, *last]) == 0


@given(st.lists(st.tuples(st.integers(0, 3), chains, st.booleans()), max_size=30))
def test_work_is_counted_without_what_is_cached_and_none_is_left_at_the_end(
    sent: list[tuple[int, list[int], bool]],
) -> None:
    replicas = make_replicas(4)
    fleet, flights = Fleet(replicas), []
    for index, blocks, ends in sent:
        replica = replicas[index]
        before, matching = replica.prompt_tokens, replica.cached.matching(blocks)
        flights.append(fleet.begin(replica, arrival(blocks)))
        new = 50 + BLOCK_TOKENS * (len(blocks) - matching)
        assert replica.prompt_tokens - before == new >= 0
        if ends:
            flights.pop(0).end()
    for flight in flights:
        flight.end()
    assert {replica.prompt_tokens for replica in replicas} == {0}


def test_nothing_is_cached_where_the_engine_may_be_another_one() -> None:
    here, there = make_replica(), make_replica()
    for replica in (here, there):
        replica.cached.add([1, 2])
    here.mark_unhealthy("does not answer")
    there.apply(here.facts())
    assert here.cached.matching([1]) == there.cached.matching([1]) == 0


@given(st.lists(chains, max_size=20), st.integers(0, 6 * BLOCK_TOKENS), st.booleans())
def test_no_more_counts_as_cached_than_the_engine_keeps(
    sent: list[list[int]], tokens: int, worker: bool
) -> None:
    replica, other = make_replica(), make_replica()
    for blocks in sent:
        replica.cached.add(blocks)
    other.observe(EngineGauges(0, 0, 0, cached_tokens=tokens), 0, 0.0)
    other.mark_healthy({"m": {}})
    if worker:
        replica.apply(other.facts())
    else:
        replica.observe(EngineGauges(0, 0, 0, cached_tokens=tokens), 0, 0.0)
    assert len(replica.cached) <= tokens // BLOCK_TOKENS
    replica.cached.add(range(10))
    assert replica.cached.matching(range(10)) == tokens // BLOCK_TOKENS


# The choice


@given(
    st.lists(st.floats(0.5, 4), min_size=1, max_size=5),
    st.lists(st.tuples(chains, st.integers(0, 2000)), max_size=40),
    seeds,
)
def test_the_replica_with_the_least_work_is_chosen_counting_only_what_is_not_cached(
    capacities: list[float], arrivals: list[tuple[list[int], int]], seed: int
) -> None:
    replicas = with_capacities(capacities)
    fleet, policy = Fleet(replicas), make_policy("cache-aware", seed)
    for blocks, more in arrivals:
        request = arrival(blocks, more)
        work = {
            one: (
                one.prompt_tokens
                + 512 * (one.in_flight + 1)
                + request.prompt_tokens
                - BLOCK_TOKENS * one.cached.matching(blocks)
            )
            / one.capacity
            for one in replicas
        }
        chosen = policy(replicas, request, 0.0).replica
        assert work[chosen] == min(work.values())
        fleet.begin(chosen, request)


@given(st.lists(st.integers(0, 3000), max_size=40), seeds)
def test_where_nothing_is_shared_it_chooses_as_queue_aware_does(
    prompts: list[int], seed: int
) -> None:
    fleets = [(Fleet(make_replicas(3)), name) for name in ("cache-aware", "queue-aware")]
    chosen = []
    for fleet, name in fleets:
        policy = make_policy(name, seed)
        names = []
        for number, tokens in enumerate(prompts):
            blocks = [hash((number, end)) for end in range(tokens // BLOCK_TOKENS)]
            request = Request("m", tokens, blocks=blocks if name == "cache-aware" else ())
            replica = policy(fleet.replicas, request, 0.0).replica
            fleet.begin(replica, request)
            names.append(replica.name)
        chosen.append(names)
    assert chosen[0] == chosen[1]


def test_load_decides_when_it_differs_by_more_than_the_cache_saves() -> None:
    home, other = replicas = make_replicas(2)
    policy, blocks = make_policy("cache-aware"), list(range(5))
    home.cached.add(blocks)  # saves more than two requests cost, and less than three
    chosen = []
    for home.in_flight in range(4):
        chosen.append(policy(replicas, arrival(blocks), 0.0).replica)
    assert chosen == [home, home, home, other]


@pytest.mark.anyio
async def test_prompts_that_begin_alike_go_to_one_replica_others_to_all() -> None:
    async with (
        ScriptedReplica() as one,
        ScriptedReplica() as two,
        balancer(one.url, two.url, policy="cache-aware") as lb,
    ):
        alike: Counter[str] = Counter()
        unlike: Counter[str] = Counter()
        for number in range(20):
            for begins, counts in (("", alike), (f"{number} ", unlike)):
                text = f"{begins}{'word ' * 500}{number}"
                answer = await lb.post(messages=[{"role": "user", "content": text}])
                counts[answer.headers["x-lb-replica"]] += 1
    assert len(alike) == 1
    assert len(unlike) == 2
