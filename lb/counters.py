"""What the balancer counts, and what it exports of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from lb.exposition import Family
from lb.replicas import Replica

Snapshot = Mapping[str, Any]


class Counters:
    """Events since the start."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._retries: Counter[str] = Counter()
        self._upstream_errors: Counter[tuple[str, str]] = Counter()

    def request(self, replica: str, model: str, status: int) -> None:
        """A request ended. `model` must be a served one or empty: users make no series."""
        self._requests[replica, model, status] += 1

    def retry(self, replica: str) -> None:
        """A request goes elsewhere after `replica` failed it."""
        self._retries[replica] += 1

    def upstream_error(self, replica: str, kind: str) -> None:
        """`replica` did not give a whole answer."""
        self._upstream_errors[replica, kind] += 1

    def snapshot(self) -> Snapshot:
        """All counts, as plain data."""
        return {
            "requests": [[*key, count] for key, count in self._requests.items()],
            "retries": [[key, count] for key, count in self._retries.items()],
            "errors": [[*key, count] for key, count in self._upstream_errors.items()],
        }


def families(snapshots: Iterable[Snapshot]) -> tuple[Family, ...]:
    """The sums of what several processes have counted."""
    total: dict[str, Counter[tuple[Any, ...]]] = {
        name: Counter() for name in ("requests", "retries", "errors")
    }
    for snapshot in snapshots:
        for name, counts in snapshot.items():
            for *key, count in counts:
                total[name][tuple(key)] += count
    return (
        Family(
            "lb_requests_total",
            "counter",
            "Requests ended, by serving replica (empty: none) and status (499: client left).",
            tuple(
                ({"replica": replica, "model": model, "status": str(status)}, count)
                for (replica, model, status), count in total["requests"].items()
            ),
        ),
        Family(
            "lb_retries_total",
            "counter",
            "Requests sent elsewhere because this replica failed before the first byte.",
            tuple(({"replica": replica}, count) for (replica,), count in total["retries"].items()),
        ),
        Family(
            "lb_upstream_errors_total",
            "counter",
            "Answers that a replica did not give whole, by the way it failed.",
            tuple(
                ({"replica": replica, "kind": kind}, count)
                for (replica, kind), count in total["errors"].items()
            ),
        ),
    )


def replica_families(replicas: Iterable[Replica], now_s: float) -> tuple[Family, ...]:
    """The state of the replicas; what is not known of one is left out."""
    named = {replica.name: replica for replica in replicas}
    return (
        Family(
            "lb_requests_in_flight",
            "gauge",
            "Requests on the replica that have not ended.",
            _by_replica({name: replica.in_flight for name, replica in named.items()}),
        ),
        Family(
            "lb_replica_healthy",
            "gauge",
            "1 while the replica gets requests.",
            _by_replica({name: replica.healthy for name, replica in named.items()}),
        ),
        Family(
            "lb_replica_waiting",
            "gauge",
            "Last polled vllm:num_requests_waiting of the replica.",
            _by_replica({name: replica.waiting for name, replica in named.items()}),
        ),
        Family(
            "lb_metrics_age_seconds",
            "gauge",
            "Time since lb_replica_waiting was polled.",
            _by_replica({name: replica.metrics_age_s(now_s) for name, replica in named.items()}),
        ),
    )


def _by_replica(
    values: Mapping[str, float | None],
) -> tuple[tuple[Mapping[str, str], float], ...]:
    return tuple(({"replica": name}, value) for name, value in values.items() if value is not None)
