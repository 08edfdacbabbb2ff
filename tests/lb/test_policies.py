"""What each policy promises, as properties."""

from __future__ import annotations

import math
from collections import Counter
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.apierror import ApiError
from lb.fleet import Fleet
from lb.policies import POLICIES
from lb.policies.affinity import key_of
from lb.replicas import Replica
from lb.router import Router
from lb.settings import Admission
from tests.lb.fleets import make_policy, make_replica, make_replicas, poll, request

counts = st.integers(1, 8)
seeds = st.integers(0, 2**32)
names = st.sampled_from(sorted(POLICIES))


@st.composite
def replicas_in_any_state(draw: st.DrawFn) -> list[Replica]:
    replicas = []
    for index in range(draw(counts)):
        replica = make_replica(index, *draw(st.sets(st.sampled_from("mn"), min_size=1)))
        replica.capacity = draw(st.floats(0.1, 10))
        replica.in_flight = draw(st.integers(0, 100))
        replica.unanswered = draw(st.integers(0, replica.in_flight))
        replica.prompt_tokens = draw(st.integers(0, 10_000)) if replica.unanswered else 0
        if draw(st.booleans()):
            poll(replica, draw(st.integers(0, 1000)), at_s=draw(st.floats(-10, 0)))
        replica.healthy = draw(st.booleans())
        replicas.append(replica)
    return replicas


# Every policy


@given(names, replicas_in_any_state(), st.sampled_from("mn"), seeds)
def test_only_a_healthy_replica_that_serves_the_model_is_chosen(
    name: str, replicas: list[Replica], model: str, seed: int
) -> None:
    router = Router(Fleet(replicas), make_policy(name, seed), Admission(in_flight=1000))
    able = [replica for replica in replicas if replica.healthy and model in replica.models]
    if able:
        chosen = router.choose(request(model), 0.0)
        assert chosen is not None
        assert chosen in able
        assert router.choose_other(request(model), chosen, 0.0) in [*able, None]
        assert router.choose_other(request(model), chosen, 0.0) is not chosen
    else:
        with pytest.raises(ApiError):
            router.choose(request(model), 0.0)


@given(names, replicas_in_any_state(), seeds)
def test_choosing_changes_nothing_about_the_replicas(
    name: str, replicas: list[Replica], seed: int
) -> None:
    def state() -> list[dict[str, object]]:
        return [deepcopy(vars(replica)) for replica in replicas]

    before = state()
    make_policy(name, seed)(replicas, request())
    assert state() == before


# queue-depth does starve replicas: that is what the bench shows.
@given(st.sampled_from(sorted(POLICIES.keys() - {"queue-depth"})), st.integers(2, 6), seeds)
def test_no_replica_starves(name: str, count: int, seed: int) -> None:
    replicas = make_replicas(count)
    fleet, choose = Fleet(replicas), make_policy(name, seed)
    chosen: Counter[Replica] = Counter()
    for number in range(200 * count):
        arrival = request(at_s=number / 100, key=number)
        replica = choose(replicas, arrival)
        chosen[replica] += 1
        fleet.begin(replica, arrival).end()
    assert min(chosen[replica] for replica in replicas) > 0.5 * 200


@given(
    st.sampled_from(["random", "least-outstanding", "power-of-two", "queue-aware", "prefix-aware"]),
    st.integers(2, 5),
    seeds,
)
def test_load_is_in_proportion_to_capacity(name: str, factor: int, seed: int) -> None:
    small, large = make_replica(0), make_replica(1, capacity=factor)
    fleet, choose = Fleet([small, large]), make_policy(name, seed)
    for number in range(200 * (factor + 1)):
        arrival = request(key=number)
        fleet.begin(choose([small, large], arrival), arrival)
    assert large.in_flight / small.in_flight == pytest.approx(factor, rel=0.4)


# round-robin


@given(counts, st.lists(st.sampled_from("mn"), max_size=60))
def test_round_robin_is_fair_to_each_model_however_models_interleave(
    count: int, models: list[str]
) -> None:
    replicas = [make_replica(index, "m", "n") for index in range(count)]
    fleet, choose = Fleet(replicas), make_policy("round-robin")
    chosen: dict[str, list[Replica]] = {"m": [], "n": []}
    for model in models:
        replica = choose(replicas, request(model))
        fleet.begin(replica, request(model))
        chosen[model].append(replica)
    for picks in chosen.values():
        assert picks == [replicas[turn % count] for turn in range(len(picks))]


@given(st.lists(st.sets(st.integers(0, 4), min_size=1), max_size=60))
def test_round_robin_gives_nobody_a_second_turn_before_all_present_had_one(
    memberships: list[set[int]],
) -> None:
    replicas = make_replicas(5)
    fleet, choose = Fleet(replicas), make_policy("round-robin")
    history: list[tuple[set[int], int]] = []
    for present in memberships:
        replica = choose([replicas[index] for index in sorted(present)], request())
        fleet.begin(replica, request())
        history.append((present, replicas.index(replica)))
    for end, (_, chosen) in enumerate(history):
        earlier = [start for start in range(end) if history[start][1] == chosen]
        if earlier:
            between = history[earlier[-1] + 1 : end + 1]
            always_present = set.intersection(*(present for present, _ in between))
            assert always_present <= {index for _, index in between}


# queue-depth: the widespread rule, with its flaw


@given(st.lists(st.none() | st.integers(0, 50), min_size=1, max_size=8))
def test_queue_depth_takes_the_lowest_polled_queue_and_the_first_on_ties(
    waiting: list[int | None],
) -> None:
    replicas = make_replicas(len(waiting))
    for replica, depth in zip(replicas, waiting, strict=True):
        if depth is not None:
            poll(replica, depth, at_s=0)
    polled = [depth for depth in waiting if depth is not None]
    expected = waiting.index(min(polled)) if polled else 0
    assert make_policy("queue-depth")(replicas, request()) is replicas[expected]


@given(st.lists(st.integers(0, 9), min_size=2, max_size=8), st.integers(1, 100))
def test_queue_depth_sends_a_burst_between_two_polls_to_one_replica(
    waiting: list[int], burst: int
) -> None:
    replicas = make_replicas(len(waiting))
    fleet, choose = Fleet(replicas), make_policy("queue-depth")
    for replica, depth in zip(replicas, waiting, strict=True):
        poll(replica, depth, at_s=0)
    chosen = set()
    for _ in range(burst):
        replica = choose(replicas, request())
        fleet.begin(replica, request())
        chosen.add(replica)
    assert len(chosen) == 1


# least-outstanding, power-of-two


@given(replicas_in_any_state(), seeds)
def test_least_outstanding_takes_the_fewest_per_capacity(
    replicas: list[Replica], seed: int
) -> None:
    def load(replica: Replica) -> float:
        return (replica.in_flight + 1) / replica.capacity

    chosen = make_policy("least-outstanding", seed)(replicas, request())
    assert load(chosen) == min(map(load, replicas))


@given(st.lists(st.integers(0, 50), min_size=3, max_size=8, unique=True), seeds)
def test_power_of_two_never_takes_the_most_loaded(loads: list[int], seed: int) -> None:
    replicas = make_replicas(len(loads))
    for replica, load in zip(replicas, loads, strict=True):
        replica.in_flight = load
    choose = make_policy("power-of-two", seed)
    chosen = {choose(replicas, request()).in_flight for _ in range(50)}
    assert max(loads) not in chosen
    assert len(chosen) > 1


# session, prefix-aware


keys = st.integers(0, 2**32 - 1)


@given(st.sampled_from(["session", "prefix-aware"]), counts, keys, seeds)
def test_the_same_key_goes_to_the_same_replica_on_every_balancer(
    name: str, count: int, key: int, seed: int
) -> None:
    one, other = make_replicas(count), make_replicas(count)
    arrival = request(key=key)
    here = make_policy(name, seed)(one, arrival)
    there = make_policy(name, seed + 1)(other[::-1], arrival)
    assert here.name == there.name


@given(st.integers(2, 8), st.data())
def test_only_keys_of_a_replica_that_leaves_move(count: int, data: st.DataObject) -> None:
    replicas = make_replicas(count)
    gone = data.draw(st.sampled_from(replicas))
    rest = [replica for replica in replicas if replica is not gone]
    choose = make_policy("session")
    for key in range(0, 2**32, 2**26):
        before = choose(replicas, request(key=key))
        after = choose(rest, request(key=key))
        assert after is before or before is gone


def test_keys_are_spread_evenly_over_replicas() -> None:
    replicas = make_replicas(8)
    choose = make_policy("session")
    homes = Counter(choose(replicas, request(key=key_of(b"%d" % n))) for n in range(8000))
    assert max(homes.values()) < 1.15 * 1000
    assert min(homes.values()) > 0.85 * 1000


@given(st.integers(1, 8), st.lists(keys, max_size=80), seeds)
def test_prefix_aware_never_loads_a_replica_far_above_the_mean(
    count: int, arrivals: list[int], seed: int
) -> None:
    replicas = make_replicas(count)
    fleet, choose = Fleet(replicas), make_policy("prefix-aware", seed)
    for number, key in enumerate(arrivals, start=1):
        arrival = request(key=key % 3)  # popular ones
        fleet.begin(choose(replicas, arrival), arrival)
        assert max(one.in_flight for one in replicas) <= math.ceil(1.25 * number / count)


@given(counts, seeds)
def test_without_a_key_load_decides(count: int, seed: int) -> None:
    for name in ("session", "prefix-aware"):
        replicas = make_replicas(count)
        for replica in replicas[1:]:
            replica.in_flight = 5
        assert make_policy(name, seed)(replicas, request()) is replicas[0]


# queue-aware


@given(counts, st.integers(0, 100), st.integers(0, 10_000), seeds)
def test_queue_aware_spreads_simultaneous_arrivals_over_idle_replicas(
    count: int, arrivals: int, prompt_tokens: int, seed: int
) -> None:
    replicas = make_replicas(count)
    _arrive(replicas, [prompt_tokens] * arrivals, seed)
    loads = [replica.in_flight for replica in replicas]
    assert max(loads) - min(loads) <= 1


@given(counts, st.lists(st.integers(0, 5000), max_size=60), seeds)
def test_queue_aware_keeps_outstanding_work_within_one_request(
    count: int, prompts: list[int], seed: int
) -> None:
    replicas = make_replicas(count)
    _arrive(replicas, prompts, seed)
    work = [replica.prompt_tokens + 512 * replica.in_flight for replica in replicas]
    assert max(work) - min(work) <= max(prompts, default=0) + 512


@given(st.integers(2, 6), seeds)
def test_queue_aware_loads_replicas_in_proportion_to_their_capacity(factor: int, seed: int) -> None:
    small, large = make_replica(0), make_replica(1, capacity=factor)
    _arrive([small, large], [100] * 10 * (factor + 1), seed)
    assert abs(large.in_flight - factor * small.in_flight) <= factor


@given(st.integers(1, 100), seeds)
def test_queue_aware_avoids_a_queue_that_others_have_filled(waiting: int, seed: int) -> None:
    replicas = make_replicas(2)
    poll(replicas[0], waiting, at_s=0)
    assert make_policy("queue-aware", seed)(replicas, request(at_s=1)) is replicas[1]


@given(st.integers(1, 50), seeds)
def test_queue_aware_does_not_count_its_own_requests_twice(outstanding: int, seed: int) -> None:
    one, two = replicas = make_replicas(2)
    fleet = Fleet(replicas)
    for _ in range(outstanding):
        fleet.begin(one, request())
        fleet.begin(two, request())
    fleet.begin(two, request())
    poll(one, waiting=outstanding, at_s=0)
    assert make_policy("queue-aware", seed)(replicas, request()) is one


@given(st.integers(1, 50), seeds)
def test_queue_aware_takes_answered_requests_for_its_own_until_the_next_poll(
    outstanding: int, seed: int
) -> None:
    one, two = replicas = make_replicas(2)
    fleet = Fleet(replicas)
    flights = [fleet.begin(one, request()) for _ in range(outstanding)]
    poll(one, waiting=outstanding, at_s=0)
    for flight in flights:
        flight.end()
    fleet.begin(two, request())
    assert make_policy("queue-aware", seed)(replicas, request()) is one


@given(st.integers(1, 1000), st.floats(3.1, 1e6), seeds)
def test_queue_aware_ignores_metrics_that_are_older_than_three_polls(
    waiting: int, age_s: float, seed: int
) -> None:
    one, two = replicas = make_replicas(2)
    poll(one, waiting, at_s=0)
    Fleet(replicas).begin(two, request())
    assert make_policy("queue-aware", seed)(replicas, request(at_s=age_s)) is one


@given(st.integers(1, 1000), st.integers(1, 6), seeds)
def test_queue_aware_returns_to_a_replica_whose_gauge_is_frozen(
    waiting: int, others: int, seed: int
) -> None:
    """Polls go on, but the engine is idle and repeats what it said when it last ran."""
    frozen, *rest = replicas = make_replicas(1 + others)
    choose = make_policy("queue-aware", seed)
    chosen: Counter[Replica] = Counter()
    for second in range(60):
        poll(frozen, waiting, at_s=second, generated=700)
        for replica in rest:
            poll(replica, 0, at_s=second, generated=100 * second)
        for tenth in range(10):
            chosen[choose(replicas, request(at_s=second + tenth / 10))] += 1
    assert chosen[frozen] > 0.3 * chosen.total() / len(replicas)


@given(st.integers(1, 1000), seeds)
def test_queue_aware_believes_a_constant_queue_of_an_engine_that_works(
    waiting: int, seed: int
) -> None:
    busy, idle = replicas = make_replicas(2)
    choose = make_policy("queue-aware", seed)
    for second in range(10):
        poll(busy, waiting, at_s=second, generated=100 * second)
        assert choose(replicas, request(at_s=second)) is idle


def test_queue_aware_without_metrics_falls_back_to_least_outstanding() -> None:
    one, two = replicas = make_replicas(2)
    for replica in replicas:
        replica.observe(None, 0, 0.0)
    Fleet(replicas).begin(one, request())
    assert make_policy("queue-aware")(replicas, request()) is two


def test_queue_aware_breaks_ties_at_random_and_repeatably() -> None:
    replicas = make_replicas(4)

    def choices(seed: int) -> list[Replica]:
        choose = make_policy("queue-aware", seed)
        return [choose(replicas, request()) for _ in range(100)]

    assert choices(1) == choices(1) != choices(2)
    assert set(choices(1)) == set(replicas)


def _arrive(replicas: list[Replica], prompts: list[int], seed: int) -> None:
    """Requests that arrive at one instant, none of which is answered yet."""
    fleet, choose = Fleet(replicas), make_policy("queue-aware", seed)
    for prompt_tokens in prompts:
        arrival = request(prompt_tokens=prompt_tokens)
        fleet.begin(choose(replicas, arrival), arrival)
