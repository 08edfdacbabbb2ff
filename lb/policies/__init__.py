"""Policies: which of the replicas gets a request.

A policy is a pure function `choose(replicas, request)` of what is known of the
replicas; it changes nothing. `replicas` are the healthy ones that serve the model,
never empty, in the order of configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from lb.policies import queue_aware, queue_depth, round_robin
from lb.replicas import Replica, Request

Policy = Callable[[Sequence[Replica], Request], Replica]

# A poll is jittered and may be lost: a reading counts until the third one is missing.
_POLLS_UNTIL_STALE = 3


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """A policy as the command line offers it; `make` takes randomness and poll interval."""

    summary: str
    default_port: int
    make: Callable[[Random, float], Policy]


def _queue_aware(rng: Random, poll_interval_s: float) -> Policy:
    max_age_s = _POLLS_UNTIL_STALE * poll_interval_s
    return partial(queue_aware.choose, rng=rng, max_age_s=max_age_s)


POLICIES: Mapping[str, PolicyEntry] = {
    "round-robin": PolicyEntry(
        "each model's replicas in turn", 8080, lambda _rng, _interval_s: round_robin.choose
    ),
    "queue-aware": PolicyEntry(
        "least outstanding work, corrected by polled queues", 8081, _queue_aware
    ),
    "queue-depth": PolicyEntry(
        "shortest polled queue, first on ties", 8082, lambda _rng, _interval_s: queue_depth.choose
    ),
}
