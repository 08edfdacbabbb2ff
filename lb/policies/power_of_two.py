"""The better of two random replicas: nearly as even as the best of all, and balancers differ.

Mitzenmacher, "The power of two choices in randomized load balancing" (2001).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from random import Random

from lb.policies import least_outstanding
from lb.policies.choice import Choice
from lb.replicas.replica import Replica, Request


def choose(replicas: Sequence[Replica], request: Request, now_s: float, *, rng: Random) -> Choice:
    """Of two random replicas the one with fewer requests of this balancer per capacity."""
    two = replicas if len(replicas) <= 2 else _two_of(replicas, rng)
    return least_outstanding.choose(two, request, now_s, rng=rng)


def _two_of(replicas: Sequence[Replica], rng: Random) -> tuple[Replica, Replica]:
    """Two different replicas, each drawn in proportion to capacity among those that are left.

    Drawn with equal chances, a large replica among many small ones would get too few.
    """
    ends = list(accumulate(replica.capacity for replica in replicas))
    last = len(replicas) - 1
    first = min(bisect(ends, rng.random() * ends[-1]), last)
    # The second falls anywhere but into the first's share of the line.
    share = replicas[first].capacity
    place = rng.random() * (ends[-1] - share)
    if place >= ends[first] - share:
        place += share
    return replicas[first], replicas[min(bisect(ends, place), last)]
