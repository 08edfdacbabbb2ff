"""What a policy returns: a replica, and why it was chosen."""

from __future__ import annotations

from typing import Literal, NamedTuple

from lb.replicas.replica import Replica

Reason = Literal[
    # Policies
    "turn",  # it was its turn
    "random",  # drawn at random
    "least",  # the only one with the least load
    "tie",  # one of several with the least load
    "home",  # the home of the request's key
    "overflow",  # its home is too busy: the least load
    "no-key",  # the request has no key: the least load
    "unpolled",  # no queue is known: drawn at random
    # The router
    "only",  # all others were full
    "retry",  # another replica failed or refused the request
    "last-resort",  # no replica works: any of them
    # The exchange
    "stored-response",  # it may have stored the response
]


class Choice(NamedTuple):
    """The chosen replica. (A dataclass would take longer to make.)"""

    replica: Replica
    reason: Reason
