"""The same replica for all requests of a session, as long as it is healthy."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from lb.policies import least_outstanding
from lb.policies.affinity import home
from lb.policies.choice import Choice
from lb.replicas.replica import Replica, Request


def choose(replicas: Sequence[Replica], request: Request, now_s: float, *, rng: Random) -> Choice:
    """The home of the request's session; without one, the least outstanding.

    The home's load does not count, since the session's prefix is cached there. While the home is
    gone, draining, failing or full, the next replica by preference is chosen. `prefix-aware` is
    the policy with a bound on the load.
    """
    if request.key is None:
        return Choice(least_outstanding.choose(replicas, request, now_s, rng=rng).replica, "no-key")
    return Choice(replicas[home(replicas, request.key)], "home")
