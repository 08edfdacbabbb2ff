"""The columns of the table of proxies."""

from __future__ import annotations

from collections.abc import Callable

from validation.proxies.measurement import CONNECTIONS, OPEN_STREAMS, Measurement
from validation.sidebyside.figures import Metric, Of, microseconds
from validation.sidebyside.running import SOURCE


def _added(p: Callable[[Measurement], float]) -> Of[Measurement]:
    """Microseconds that `p` is more than the source's own; nothing for the source itself."""
    return lambda one, seen: None if one is seen[SOURCE] else (p(one) - p(seen[SOURCE])) * 1e6


METRICS: tuple[Metric[Measurement], ...] = (
    Metric("requests_per_s", f"at {CONNECTIONS}", "req/s", lambda one, _: one.requests_per_s),
    Metric("p50_ms", f"p50 at {CONNECTIONS}", "ms", lambda one, _: one.p50_s * 1e3),
    Metric("p99_ms", f"p99 at {CONNECTIONS}", "ms", lambda one, _: one.p99_s * 1e3),
    Metric("added_p50_us", "added p50", "µs", _added(lambda one: one.lone_p50_s)),
    Metric("added_p99_us", "added p99", "µs", _added(lambda one: one.lone_p99_s)),
    Metric("core_percent", "its core", "% busy", lambda one, _: one.core_share * 1e2),
    microseconds(
        "request_cpu_us",
        "CPU/JSON",
        lambda one: one.request_cpu_s,
        lambda one: one.request_kernel_s,
    ),
    microseconds(
        "burst_cpu_us", "CPU/SSE", lambda one: one.burst_cpu_s, lambda one: one.burst_kernel_s
    ),
    microseconds(
        "chunk_cpu_us", "CPU/chunk", lambda one: one.chunk_cpu_s, lambda one: one.chunk_kernel_s
    ),
    Metric(
        "rss_mib",
        f"RSS at {OPEN_STREAMS:,}",
        "MiB",
        lambda one, _: None if one.rss_bytes is None else one.rss_bytes / 2**20,
    ),
)
