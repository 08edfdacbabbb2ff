"""Shortest polled queue: the rule that many people write first, kept as it is.

Between two polls nothing that it looks at changes, and waiting is 0 until a batch is
full, so that ties dominate: whole polling intervals go to one replica. The bench
measures what that costs; do not mend it here, `queue-aware` is the mended one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lb.replicas import Replica, Request


def choose(replicas: Sequence[Replica], _request: Request) -> Replica:
    """Lowest polled waiting, first on ties; the first replica when none was polled."""
    return min(replicas, key=_waiting)


def _waiting(replica: Replica) -> float:
    return math.inf if replica.waiting is None else replica.waiting
