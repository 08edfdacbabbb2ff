"""Shortest polled queue: the rule that many people write first, with its faults.

Queue lengths do not change between two polls, and are 0 until a batch is full. So ties are
frequent, and all requests of a poll interval go to one replica. The bench measures what that
costs. Do not repair it here: `queue-aware` is the repaired one.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from lb.policies.choice import Choice
from lb.policies.random_choice import draw
from lb.replicas.replica import Replica, Request


def choose(
    replicas: Sequence[Replica], _request: Request, now_s: float, *, rng: Random, max_age_s: float
) -> Choice:
    """Fewest polled waiting requests per capacity, first on ties.

    A replica whose queue is unknown counts as the mean of the others, so that it gets neither
    all requests nor none. If all are unknown, one is drawn at random.
    """
    oldest_s = now_s - max_age_s
    polled = [
        None
        if replica.waiting is None
        # A queue is unknown, too, if the engine's gauges do not change: see `observe`.
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
