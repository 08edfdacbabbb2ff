"""What is known of the replicas, and of the balancer itself, as values of metrics."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable

import lb
from lb.fleet import Fleet
from lb.observability.counters import Counters
from lb.observability.exposition import Values, put
from lb.observability.metrics import BREAKER, BUILD_INFO, HEALTHY, METRICS_AGE, POLLED_WAITING
from lb.replicas import Replica


def replica_values(replicas: Iterable[Replica], now_s: float) -> Values:
    """The state of each replica; what is not known of one is left out."""
    values: Values = {}
    for replica in replicas:
        put(values, (HEALTHY.name, replica.name), int(replica.healthy))
        age_s = replica.metrics_age_s(now_s)
        if replica.waiting is not None and age_s is not None:
            put(values, (POLLED_WAITING.name, replica.name), replica.waiting)
            put(values, (METRICS_AGE.name, replica.name), age_s)
    return values


def snapshot(counters: Counters, fleet: Fleet) -> Values:
    """What one worker has counted, and what it thinks of the replicas."""
    values = counters.snapshot()
    now_s = time.monotonic()
    for replica in fleet.replicas:
        put(values, (BREAKER.name, replica.name, replica.breaker.state(now_s).value), 1)
    return values


def build_values(policy: str) -> Values:
    values: Values = {}
    put(values, (BUILD_INFO.name, lb.__version__, policy, platform.python_version()), 1)
    return values
