"""Fewest requests in flight: what most proxies call least connections."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from lb.replicas import Replica, Request


def choose(replicas: Sequence[Replica], _request: Request, *, rng: Random) -> Replica:
    """The replica with the fewest own requests per capacity with this one on it.

    Ties are broken at random: several balancers must not agree on the same replica.
    """
    loads = [(replica.in_flight + 1) / replica.capacity for replica in replicas]
    least = min(loads)
    best = [replica for replica, load in zip(replicas, loads, strict=True) if load == least]
    return best[0] if len(best) == 1 else rng.choice(best)
