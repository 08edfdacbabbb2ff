"""The replica that has the prompt's beginning in its cache, unless it is too busy.

Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads" (2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from lb.policies import queue_aware
from lb.policies.affinity import by_preference, home
from lb.replicas import Replica, Request

# A replica at home for a prefix takes up to so many times the mean load. Less spreads
# popular prefixes sooner, more keeps them together for longer.
BOUND = 1.25


def choose(
    replicas: Sequence[Replica], request: Request, *, rng: Random, max_age_s: float
) -> Replica:
    """The first by preference whose load stays within the bound with this request on it.

    Without a prefix it is the least work, as in `queue-aware`.
    """
    if request.key is None:
        return queue_aware.choose(replicas, request, rng=rng, max_age_s=max_age_s)
    in_flight = 1 + sum(replica.in_flight for replica in replicas)
    mean = in_flight / sum(replica.capacity for replica in replicas)
    first = home(replicas, request.key)
    if _fits(first, mean):
        return first
    # There is one: not all can be above the mean.
    return next(one for one in by_preference(replicas, request.key) if _fits(one, mean))


def _fits(replica: Replica, mean: float) -> bool:
    return replica.in_flight + 1 <= math.ceil(BOUND * mean * replica.capacity)
