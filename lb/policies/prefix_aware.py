"""The replica that has the prompt's beginning in its cache, unless it is too busy.

It follows from a hash of the prefix. A tree of what was sent where would find longer matches,
but would differ between balancers, and not know what an engine has evicted. If the replica is
too busy, the one with the least work is chosen.

Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads" (2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul
from random import Random

from lb.policies.affinity import home
from lb.policies.choice import Choice
from lb.policies.least_outstanding import least
from lb.policies.queue_aware import loads
from lb.replicas.replica import Replica, Request

# How many times the mean work the home may have. A lower bound spreads popular prefixes sooner, a
# higher one keeps them together for longer. Counted in requests and not in work, a home would be
# too busy with one more than the others.
BOUND = 1.25


def choose(
    replicas: Sequence[Replica], request: Request, now_s: float, *, rng: Random, max_age_s: float
) -> Choice:
    """The home of the request's prefix, if its work with this request is within the bound.

    Else, and without a prefix, the replica with the least work, as in `queue-aware`.
    """
    works = loads(replicas, request, now_s - max_age_s)
    if request.key is None:
        return Choice(least(replicas, works, rng).replica, "no-key")
    capacities = [replica.capacity for replica in replicas]
    mean = sum(map(mul, works, capacities)) / sum(capacities)
    at_home = home(replicas, request.key)
    if works[at_home] <= BOUND * mean:
        return Choice(replicas[at_home], "home")
    return Choice(least(replicas, works, rng).replica, "overflow")
