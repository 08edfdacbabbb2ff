"""Policies: which of the replicas gets a request.

A policy is a function `choose(replicas, request, now_s)` without side effects. `replicas` are
those that can take the request, at least one, in the order of configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Literal

from lb.policies import (
    least_outstanding,
    power_of_two,
    prefix_aware,
    queue_aware,
    queue_depth,
    random_choice,
    round_robin,
    session,
)
from lb.policies.choice import Choice
from lb.replicas.replica import Replica, Request

Policy = Callable[[Sequence[Replica], Request, float], Choice]

# A poll may be late or lost: a reading counts until three polls are missing.
_POLLS_UNTIL_STALE = 3


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """A policy as the command line offers it.

    `make` gets a source of random numbers and the poll interval, in seconds. Requests with
    the same `key`, a prefix of the prompt or a session, are sent to the same replica. With
    `cached` it counts what replicas have cached of a prompt.
    """

    summary: str
    default_port: int
    make: Callable[[Random, float], Policy]
    key: Literal["prefix", "session"] | None = None
    cached: bool = False


def _polled(choose: Callable[..., Choice]) -> Callable[[Random, float], Policy]:
    return lambda rng, interval_s: partial(
        choose, rng=rng, max_age_s=_POLLS_UNTIL_STALE * interval_s
    )


def _random(choose: Callable[..., Choice]) -> Callable[[Random, float], Policy]:
    return lambda rng, _interval_s: partial(choose, rng=rng)


def _fixed(choose: Policy) -> Callable[[Random, float], Policy]:
    return lambda _rng, _interval_s: choose


POLICIES: Mapping[str, PolicyEntry] = {
    "round-robin": PolicyEntry("each replica in turn", 8080, _fixed(round_robin.choose)),
    "queue-aware": PolicyEntry(
        "least outstanding work, that of others as polled", 8091, _polled(queue_aware.choose)
    ),
    "cache-aware": PolicyEntry(
        "least outstanding work, without what is cached of prompts",
        8081,
        _polled(queue_aware.choose),
        cached=True,
    ),
    "queue-depth": PolicyEntry(
        "shortest polled queue, first on ties", 8082, _polled(queue_depth.choose)
    ),
    "random": PolicyEntry("any replica", 8083, _random(random_choice.choose)),
    "least-outstanding": PolicyEntry(
        "fewest requests in flight", 8084, _random(least_outstanding.choose)
    ),
    "power-of-two": PolicyEntry(
        "the less loaded of two at random", 8085, _random(power_of_two.choose)
    ),
    "prefix-aware": PolicyEntry(
        "where the prompt's beginning is cached, within bounds of load",
        8086,
        _polled(prefix_aware.choose),
        key="prefix",
    ),
    "session": PolicyEntry(
        "the same replica for the same session (x-session-id, or user)",
        8087,
        _random(session.choose),
        key="session",
    ),
}
