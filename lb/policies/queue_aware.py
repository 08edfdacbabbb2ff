"""Least outstanding work, corrected by the queues that replicas report.

What this balancer has sent and not got back is known exactly and at once; polled
queues are late, but they also show what others send. So the first leads and the second
corrects it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from lb.replicas import Replica, Request

# What a request still costs after its first byte, in prompt tokens. The length of the
# answer is unknown; some 100 tokens left to decode in a batch take an engine about as
# long as prefilling 500. It is large enough that the number of requests decides among
# short prompts, and small enough that one long prompt counts as several of them.
DECODE_TOKENS = 512


def choose(
    replicas: Sequence[Replica], request: Request, *, rng: Random, max_age_s: float
) -> Replica:
    """The replica that would have the least work per capacity with `request` on it.

    Requests that wait there and are not ours are each counted like the one at hand,
    for nothing else is known of them. They count only while the engine's gauges move:
    vLLM updates them when it runs a step, so after its last requests are aborted
    a queue is reported for ever that is not there, and a replica avoided for it would
    never get the request that corrects it. Ties are broken at random: they are the
    rule at light load, and several balancers must not agree on the same replica.
    """
    cost = request.prompt_tokens + DECODE_TOKENS
    oldest_s = request.arrived_s - max_age_s
    least, best = math.inf, [replicas[0]]
    for replica in replicas:
        foreign = replica.foreign_waiting if replica.progressed_s >= oldest_s else 0.0
        own = replica.prompt_tokens + DECODE_TOKENS * replica.in_flight
        score = (own + cost * (1.0 + foreign)) / replica.capacity
        if score < least:
            least, best = score, [replica]
        elif score == least:
            best.append(replica)
    return best[0] if len(best) == 1 else rng.choice(best)
