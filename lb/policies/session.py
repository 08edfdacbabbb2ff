"""The same replica for the same session, as long as it is there."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from lb.policies import least_outstanding
from lb.policies.affinity import home
from lb.policies.choice import Choice
from lb.replicas import Replica, Request


def choose(replicas: Sequence[Replica], request: Request, now_s: float, *, rng: Random) -> Choice:
    """The home of the request's session; without one, the least outstanding.

    However busy the home is: who names a session counts on what is cached there. Only when
    it is gone, draining, failing or full does a session go to the next by preference, and
    back when it returns. `prefix-aware` is for those who prefer a bound of load.
    """
    if request.key is None:
        return Choice(least_outstanding.choose(replicas, request, now_s, rng=rng).replica, "no-key")
    return Choice(replicas[home(replicas, request.key)], "home")
