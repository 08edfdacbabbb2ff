"""Least outstanding work, with the work of other clients as the replicas report it.

What this balancer has in flight is known exactly and at once. Other clients' requests show only
in polled gauges, late and by chance. So their moving mean counts: it shows that a replica has
less capacity left, and several balancers do not all react to the same reading.

`cache-aware` is this policy for requests that are cut into blocks: what a replica has cached of a
prompt is no work there.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from lb.policies.choice import Choice
from lb.policies.least_outstanding import least
from lb.replicas.cached import BLOCK_TOKENS
from lb.replicas.replica import Replica, Request

# The cost of a request after its first byte, in prompt tokens. The length of the answer is
# unknown; to decode 100 tokens in a batch takes an engine about as long as to prefill 500. Among
# short prompts the number of requests decides; a long prompt counts as several short ones.
DECODE_TOKENS = 512


def choose(
    replicas: Sequence[Replica], request: Request, now_s: float, *, rng: Random, max_age_s: float
) -> Choice:
    """The replica that would have the least work per capacity with `request` on it.

    Ties, frequent at light load, are broken at random: balancers must not choose alike.
    """
    return least(replicas, loads(replicas, request, now_s - max_age_s), rng)


def loads(replicas: Sequence[Replica], request: Request, oldest_s: float) -> list[float]:
    """The work on each replica per capacity, in prompt tokens, with `request` on it.

    Other clients' requests count as after their first byte: no more is known of them. They do
    not count if the gauges have not changed since `oldest_s`: a replica that is avoided because
    of an old reading would never get the request that corrects it.
    """
    cost, blocks = request.prompt_tokens + DECODE_TOKENS, request.blocks
    return [
        (
            replica.prompt_tokens
            + DECODE_TOKENS
            * (replica.in_flight + (replica.foreign if replica.progressed_s >= oldest_s else 0.0))
            + cost
            - (BLOCK_TOKENS * replica.cached.matching(blocks) if blocks else 0)
        )
        / replica.capacity
        for replica in replicas
    ]
