"""Each replica in turn, in proportion to its capacity: the baseline.

A turn lasts 1 / capacity in virtual time, and the next one goes to the replica whose latest
turn ends first. With equal capacities that is the usual cycle. For any two replicas, the
numbers of requests per capacity never differ by more than a turn of each: Goyal, Vin and Cheng,
"Start-time fair queueing" (1996). The order of the latest turns alone would not be enough:
2 : 3 is A B A B B, where after A B comes A or B.
"""

from __future__ import annotations

from collections.abc import Sequence

from lb.policies.choice import Choice
from lb.replicas.replica import Replica, Request


def choose(replicas: Sequence[Replica], _request: Request, _now_s: float) -> Choice:
    """The replica whose latest turn ends first, the first one on ties.

    `Fleet.begin` keeps the turns, so that a replica that was away does not catch up on those
    that it has missed.
    """
    ends = [replica.last_turn + replica.turn for replica in replicas]
    return Choice(replicas[ends.index(min(ends))], "turn")
