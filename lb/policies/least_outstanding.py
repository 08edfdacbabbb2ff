"""Fewest requests in flight: what most proxies call least connections."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from lb.policies.choice import Choice
from lb.replicas.replica import Replica, Request


def choose(replicas: Sequence[Replica], _request: Request, _now_s: float, *, rng: Random) -> Choice:
    """The replica with the fewest own requests per capacity with this one on it.

    Ties are broken at random: several balancers must not choose the same replica.
    """
    loads = [(replica.in_flight + 1) / replica.capacity for replica in replicas]
    return least(replicas, loads, rng)


def least(replicas: Sequence[Replica], loads: Sequence[float], rng: Random) -> Choice:
    """The replica with the lowest of `loads`, one of them at random on ties."""
    lowest = min(loads)
    if loads.count(lowest) == 1:
        return Choice(replicas[loads.index(lowest)], "least")
    tied = [replica for replica, load in zip(replicas, loads, strict=True) if load == lowest]
    return Choice(rng.choice(tied), "tie")
