"""The metrics that the balancer exports; docs/reference/balancer.md has them as a table."""

from __future__ import annotations

from lb.observability.exposition import Metric, Values

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

REQUESTS = Metric(
    "lb_requests_total",
    "counter",
    ("replica", "model", "status"),
    "Requests that ended, without those to the balancer itself, by replica (empty: none) and "
    "status (499: the client left).",
)
REFUSALS = Metric(
    "lb_refusals_total",
    "counter",
    ("status", "code"),
    "Errors that the balancer answered itself, by status and error code.",
)
CHOICES = Metric(
    "lb_choices_total",
    "counter",
    ("replica", "model", "reason"),
    "Requests sent to the replica, by the reason why it was chosen.",
)
RETRIES = Metric(
    "lb_retries_total",
    "counter",
    ("replica", "model"),
    "Requests sent again because this replica failed or refused before the first byte.",
)
EJECTIONS = Metric(
    "lb_ejections_total",
    "counter",
    ("replica", "model"),
    "Times that the replica refused a request that another one accepted, and got no more for "
    "this model and path for a while.",
)
UPSTREAM_ERRORS = Metric(
    "lb_upstream_errors_total",
    "counter",
    ("replica", "model", "kind"),
    "Attempts without a complete answer, by kind: connect, idle (a kept connection was closed as "
    "the request was sent), lost, bad-answer or slow.",
)
IN_FLIGHT = Metric(
    "lb_requests_in_flight",
    "gauge",
    ("replica", "model"),
    "Requests on the replica that have not ended.",
)
QUEUED = Metric(
    "lb_requests_queued",
    "gauge",
    ("model",),
    "Requests that wait because every replica is full.",
)
ADDED = Metric(
    "lb_added_latency_seconds",
    "histogram",
    ("replica", "model"),
    "From a request's last byte until it was sent to a replica, without the time in the queue.",
    _ADDED_S,
)
WAIT = Metric(
    "lb_queue_seconds",
    "histogram",
    ("model",),
    "Time in the queue of requests that had to wait, also of those that were refused then.",
    _ANSWER_S,
)
FIRST_BYTE = Metric(
    "lb_first_byte_seconds",
    "histogram",
    ("replica", "model"),
    "From a request's last byte to the first byte of the answer's body.",
    _ANSWER_S,
)
DURATION = Metric(
    "lb_request_duration_seconds",
    "histogram",
    ("replica", "model"),
    "From a request's last byte to the end of its answer, complete or not.",
    _ANSWER_S,
)
HEALTHY = Metric(
    "lb_replica_healthy",
    "gauge",
    ("replica",),
    "1 while the replica answers its health checks, else 0.",
)
BREAKER = Metric(
    "lb_breaker_state",
    "gauge",
    ("replica", "state"),
    "Workers in which the replica's circuit breaker is in that state.",
)
POLLED_WAITING = Metric(
    "lb_replica_waiting",
    "gauge",
    ("replica",),
    "Last polled vllm:num_requests_waiting of the replica.",
)
METRICS_AGE = Metric(
    "lb_metrics_age_seconds",
    "gauge",
    ("replica",),
    "Time since lb_replica_waiting was polled.",
)
BUILD_INFO = Metric(
    "lb_build_info",
    "gauge",
    ("version", "policy", "python"),
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
