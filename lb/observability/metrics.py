"""The metrics that the balancer exports; docs/reference/balancer.md has them as a table."""

from __future__ import annotations

from functools import partial
from typing import get_args

from lb.observability.exposition import Kind, Metric, Values

# Usually microseconds; milliseconds when the balancer has no CPU left.
_ADDED_S = (
    *(25e-6, 50e-6, 100e-6, 250e-6, 500e-6),
    *(1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1.0),
)
# From the first token of a short prompt to the last one of a long answer.
_ANSWER_S = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)


def _metric(kind: Kind, series: str, help_text: str, bounds: tuple[float, ...] = ()) -> Metric:
    """The metric of a series written as `NAME{LABEL,LABEL}`."""
    name, _, labels = series.rstrip("}").partition("{")
    return Metric(name, kind, tuple(labels.split(",")), help_text, bounds)


_counter, _gauge, _histogram = (partial(_metric, kind) for kind in get_args(Kind))

REQUESTS = _counter(
    "lb_requests_total{replica,model,status}",
    "Requests that ended, without those to the balancer itself, by replica (empty: none) and "
    "status (499: the client left).",
)
REFUSALS = _counter(
    "lb_refusals_total{status,code}",
    "Errors that the balancer answered itself, by status and error code.",
)
CHOICES = _counter(
    "lb_choices_total{replica,model,reason}",
    "Requests sent to the replica, by the reason why it was chosen.",
)
RETRIES = _counter(
    "lb_retries_total{replica,model}",
    "Requests sent again because this replica failed or refused before the first byte.",
)
EJECTIONS = _counter(
    "lb_ejections_total{replica,model}",
    "Times that the replica refused a request that another one accepted, and got no more for "
    "this model and path for a while.",
)
UPSTREAM_ERRORS = _counter(
    "lb_upstream_errors_total{replica,model,kind}",
    "Attempts without a complete answer, by kind: connect, idle (a kept connection was closed as "
    "the request was sent), lost, bad-answer or slow.",
)
IN_FLIGHT = _gauge(
    "lb_requests_in_flight{replica,model}", "Requests on the replica that have not ended."
)
QUEUED = _gauge("lb_requests_queued{model}", "Requests that wait because every replica is full.")
ADDED = _histogram(
    "lb_added_latency_seconds{replica,model}",
    "From a request's last byte until it was sent to a replica, without the time in the queue.",
    _ADDED_S,
)
WAIT = _histogram(
    "lb_queue_seconds{model}",
    "Time in the queue of requests that had to wait, also of those that were refused then.",
    _ANSWER_S,
)
FIRST_BYTE = _histogram(
    "lb_first_byte_seconds{replica,model}",
    "From a request's last byte to the first byte of the answer's body.",
    _ANSWER_S,
)
DURATION = _histogram(
    "lb_request_duration_seconds{replica,model}",
    "From a request's last byte to the end of its answer, complete or not.",
    _ANSWER_S,
)
HEALTHY = _gauge(
    "lb_replica_healthy{replica}", "1 while the replica answers its health checks, else 0."
)
BREAKER = _gauge(
    "lb_breaker_state{replica,state}",
    "Workers in which the replica's circuit breaker is in that state.",
)
POLLED_WAITING = _gauge(
    "lb_replica_waiting{replica}", "Last polled vllm:num_requests_waiting of the replica."
)
METRICS_AGE = _gauge("lb_metrics_age_seconds{replica}", "Time since lb_replica_waiting was polled.")
BUILD_INFO = _gauge(
    "lb_build_info{version,policy,python}",
    "1, with the balancer's version, its policy and the Python that runs it as labels.",
)

# All of the above.
METRICS = tuple(each for each in tuple(globals().values()) if isinstance(each, Metric))
GAUGES = frozenset(metric.name for metric in METRICS if metric.kind == "gauge")
# Metrics whose first label is the replica.
_BY_REPLICA = frozenset(metric.name for metric in METRICS if metric.labels[0] == "replica")


def without_replica(values: Values, replica: str) -> Values:
    """A copy of `values` without those of `replica`."""
    return {
        name: {key: below for key, below in tree.items() if key != replica}
        if isinstance(tree, dict) and name in _BY_REPLICA
        else tree
        for name, tree in values.items()
    }
