"""Shortest polled queue: the rule that many people write first, kept as it is.

Between two polls nothing that it looks at changes, and waiting is 0 until a batch is
full, so that ties dominate: whole polling intervals go to one replica. The bench
measures what that costs; do not mend it here, `queue-aware` is the mended one.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from lb.policies.choice import Choice
from lb.policies.random_choice import draw
from lb.replicas import Replica, Request


def choose(
    replicas: Sequence[Replica], _request: Request, now_s: float, *, rng: Random, max_age_s: float
) -> Choice:
    """Fewest polled waiting requests per capacity, first on ties.

    A replica whose queue is not known counts like the mean of the others, so that it is
    neither flooded nor left out; when none is known, one is drawn by lot.
    """
    oldest_s = now_s - max_age_s
    polled = [
        None
        if replica.waiting is None
        # The queue of an engine that does not move is an old reading, too: see `observe`.
        or (replica.progressed_s if replica.waiting else replica.polled_s) < oldest_s
        else replica.waiting / replica.capacity
        for replica in replicas
    ]
    known = [depth for depth in polled if depth is not None]
    if not known:
        return Choice(draw(replicas, rng), "unpolled")
    mean = sum(known) / len(known)
    depths = [mean if depth is None else depth for depth in polled]
    least = min(depths)
    return Choice(replicas[depths.index(least)], "least" if depths.count(least) == 1 else "tie")
