"""What a policy decides: a replica, and by what it was chosen."""

from __future__ import annotations

from typing import Literal, NamedTuple

from lb.replicas import Replica

Reason = Literal[
    # Policies
    "turn",  # its turn came
    "random",  # by lot
    "least",  # alone the least loaded
    "tie",  # one of several least loaded
    "home",  # where the request's key is at home
    "overflow",  # its home is too busy, this is the next by preference
    "no-key",  # no key to keep together: by load
    "unpolled",  # no queue is known: by lot
    # The router
    "only",  # no other could have been chosen
    "retry",  # another one failed the request
    "last-resort",  # no breaker lets anything through, so all were tried
    # The exchange
    "stored-response",  # it may have the response that is asked for
]


class Choice(NamedTuple):
    """A named tuple: it is made for each request, at two thirds of a dataclass's price."""

    replica: Replica
    reason: Reason
