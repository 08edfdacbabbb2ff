"""Each replica in turn, as often as its capacity says: the baseline.

A turn lasts 1 / capacity in virtual time, and the next is of the replica whose latest
turn ends first. With equal capacities that is the usual cycle. Of any two replicas that
are present, the requests per capacity never differ by more than a turn of each: Goyal,
Vin and Cheng, "Start-time fair queueing" (1996). The order of the latest turns would not
be enough to know: 2 : 3 is A B A B B, where A as well as B comes after A B.
"""

from __future__ import annotations

from collections.abc import Sequence

from lb.policies.choice import Choice
from lb.replicas import Replica, Request


def choose(replicas: Sequence[Replica], _request: Request, _now_s: float) -> Choice:
    """The replica whose latest turn ends first; the first such in order.

    `Fleet.begin` keeps the turns. There, one that was away begins its turn now instead of
    when it would have been due, so that nobody has turns to catch up on.
    """
    ends = [replica.last_turn + replica.turn for replica in replicas]
    return Choice(replicas[ends.index(min(ends))], "turn")
