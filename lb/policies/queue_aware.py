"""Least outstanding work, with the work of other clients as the replicas report it.

What this balancer has in flight is known exactly and at once. Requests of others show only
in polled gauges, late and by chance, so they count as a moving mean: it shows that a replica
has less capacity left, and several balancers do not all react to the same reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from lb.policies.choice import Choice
from lb.policies.least_outstanding import least
from lb.replicas.replica import Replica, Request

# What a request still costs after its first byte, in prompt tokens. The length of the
# answer is unknown; some 100 tokens left to decode in a batch take an engine about as
# long as prefilling 500. It is large enough that the number of requests decides among
# short prompts, and small enough that one long prompt counts as several of them.
DECODE_TOKENS = 512


def choose(
    replicas: Sequence[Replica], request: Request, now_s: float, *, rng: Random, max_age_s: float
) -> Choice:
    """The replica that would have the least work per capacity with `request` on it.

    Ties are broken at random: they are frequent at light load, and several balancers must
    not choose the same replica.
    """
    return least(replicas, loads(replicas, request, now_s - max_age_s), rng)


def loads(replicas: Sequence[Replica], request: Request, oldest_s: float) -> list[float]:
    """The work on each replica per capacity, in prompt tokens, with `request` on it.

    Requests of others count like own ones after their first byte, as nothing else is known
    of them. They do not count when the gauges have not changed since `oldest_s`: a replica that
    is avoided because of an old reading would never get the request that corrects it.
    """
    cost = request.prompt_tokens + DECODE_TOKENS
    return [
        (
            replica.prompt_tokens
            + DECODE_TOKENS
            * (replica.in_flight + (replica.foreign if replica.progressed_s >= oldest_s else 0.0))
            + cost
        )
        / replica.capacity
        for replica in replicas
    ]
