"""The better of two at random: nearly as even as looking at all, and never in step.

Mitzenmacher, "The power of two choices in randomized load balancing" (2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from lb.policies import least_outstanding
from lb.replicas import Replica, Request


def choose(replicas: Sequence[Replica], request: Request, *, rng: Random) -> Replica:
    """Of two different replicas the one with fewer own requests per capacity."""
    two = replicas if len(replicas) <= 2 else rng.sample(replicas, 2)
    return least_outstanding.choose(two, request, rng=rng)
