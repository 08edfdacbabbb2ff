"""Any replica, by capacity: what every cleverer policy has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from lb.replicas import Replica, Request


def choose(replicas: Sequence[Replica], _request: Request, *, rng: Random) -> Replica:
    """A replica at random, in proportion to its capacity."""
    return rng.choices(replicas, [replica.capacity for replica in replicas])[0]
