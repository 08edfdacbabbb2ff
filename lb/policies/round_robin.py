"""Each replica in turn, in proportion to its capacity: the baseline.

A turn lasts 1 / capacity in virtual time, and the next one goes to the replica whose latest
turn ends first. With equal capacities that is the usual cycle. For any two replicas, the
numbers of requests per capacity never differ by more than one turn of each: Goyal, Vin and
Cheng, "Start-time fair queueing" (1996). To remember only the order of the latest turns is
not enough: 2 : 3 is A B A B B, where after A B there may come an A or a B.
"""

from __future__ import annotations

from collections.abc import Sequence

from lb.policies.choice import Choice
from lb.replicas.replica import Replica, Request


def choose(replicas: Sequence[Replica], _request: Request, _now_s: float) -> Choice:
    """The replica whose latest turn ends first; the first of several in order.

    `Fleet.begin` keeps the turns. There, the turn of a replica that was away begins now and
    not when it was due, so that it does not catch up on the turns that it has missed.
    """
    ends = [replica.last_turn + replica.turn for replica in replicas]
    return Choice(replicas[ends.index(min(ends))], "turn")
