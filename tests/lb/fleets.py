"""Replicas in a given state, for policies to choose from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random

from lb.http.endpoint import Endpoint
from lb.policies import POLICIES, Policy
from lb.policies.affinity import key_of
from lb.replicas.fleet import Fleet, Flight
from lb.replicas.replica import EngineGauges, Replica, Request
from lb.routing.router import Admission, Router

POLL_S = 1.0


def make_replica(index: int = 0, *models: str, capacity: float = 1.0) -> Replica:
    """A healthy replica that serves `models` (default: "m")."""
    replica = Replica(Endpoint("10.0.0.1", 8000 + index, f"10.0.0.1:{8000 + index}"), capacity)
    replica.mark_healthy({model: {"id": model} for model in models or ("m",)})
    return replica


def make_replicas(count: int) -> list[Replica]:
    return [make_replica(index) for index in range(count)]


def with_capacities(capacities: Iterable[float]) -> list[Replica]:
    return [make_replica(index, capacity=each) for index, each in enumerate(capacities)]


def make_policy(name: str, seed: int = 1) -> Policy:
    return POLICIES[name].make(Random(seed), POLL_S)


def make_router(fleet: Fleet, name: str, seed: int = 1, in_flight: int = 10**6) -> Router:
    """A router that knows no other bound than `in_flight` on each replica."""
    return Router(fleet, make_policy(name, seed), Admission(in_flight, in_flight_total=10**9))


def request(model: str = "m", prompt_tokens: int = 100, key: int | None = None) -> Request:
    return Request(model, prompt_tokens, key)


def poll(
    replica: Replica, waiting: float, at_s: float, running: float = 0.0, generated: float = 0.0
) -> None:
    """A poll during which no request of ours ends."""
    replica.observe(EngineGauges(waiting, running, generated), replica.in_flight, at_s)


def keep_busy(
    fleet: Fleet, router: Router, rng: Random, requests: int, in_flight: int, now_s: float = 0.0
) -> Counter[Replica]:
    """Send `requests` with a key each, so that `in_flight` go on at a time; end them all.

    Whoever ends is drawn at random. Returns how many each replica got.
    """
    chosen: Counter[Replica] = Counter()
    flights: list[Flight] = []
    for number in range(requests):
        if len(flights) == in_flight:
            flights.pop(rng.randrange(in_flight)).end()
        arrival = request(key=key_of(b"%d" % number))
        choice = router.choose(arrival, now_s)
        assert choice is not None
        chosen[choice.replica] += 1
        flights.append(fleet.begin(choice.replica, arrival))
    for flight in flights:
        flight.end()
    return chosen


def choose_in_turn(
    fleet: Fleet, replicas: Sequence[Replica], policy: Policy, requests: Sequence[Request]
) -> list[Replica]:
    """Whom `policy` chooses of `replicas` for requests that all go on."""
    chosen = []
    for each in requests:
        replica = policy(replicas, each, 0.0).replica
        fleet.begin(replica, each)
        chosen.append(replica)
    return chosen
