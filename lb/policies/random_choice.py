"""Any replica, in proportion to capacity: what every other policy has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from lb.policies.choice import Choice
from lb.replicas.replica import Replica, Request


def choose(replicas: Sequence[Replica], _request: Request, _now_s: float, *, rng: Random) -> Choice:
    """A replica at random, in proportion to its capacity."""
    return Choice(draw(replicas, rng), "random")


def draw(replicas: Sequence[Replica], rng: Random) -> Replica:
    """A replica at random, in proportion to its capacity."""
    return rng.choices(replicas, [replica.capacity for replica in replicas])[0]
