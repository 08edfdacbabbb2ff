"""The same replica for the same session, as long as it is there."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from lb.policies import least_outstanding
from lb.policies.affinity import home
from lb.replicas import Replica, Request


def choose(replicas: Sequence[Replica], request: Request, *, rng: Random) -> Replica:
    """The home of the request's session; without one, the least outstanding."""
    if request.key is None:
        return least_outstanding.choose(replicas, request, rng=rng)
    return home(replicas, request.key)
