"""Each model's replicas in turn: the baseline."""

from __future__ import annotations

from collections.abc import Sequence

from lb.replicas import Replica, Request


def choose(replicas: Sequence[Replica], request: Request) -> Replica:
    """The replica whose latest request of this model is the longest ago.

    With fixed replicas this is the usual cycle. Unlike a counter modulo their number
    it stays fair when replicas come and go: nobody gets a second turn before everyone
    present has had one.
    """
    return min(replicas, key=lambda replica: replica.last_turn.get(request.model, 0))
