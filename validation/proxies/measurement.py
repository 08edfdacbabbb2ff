"""One proxy measured once: whole answers, lone requests, bursts, streams, memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.errors import UserError
from bench.load.accuracy.answers import AT_ONCE, CHUNKS, chat_body
from bench.load.accuracy.running import LocalServer
from bench.telemetry.cpu import Usage
from validation.figures import Metric, Of, cpu_metric
from validation.proxies.load import Load, Wrk, while_streaming
from validation.servers import SOURCE

CONNECTIONS = 64
OPEN_STREAMS = 2000
CHUNK_EVERY_MS = 5
_WARM_UP_S = 1
# For closed connections to be put away before another proxy is measured on that core.
_SETTLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of load on a server: what wrk counted, and what the server used meanwhile."""

    load: Load
    used: Usage

    @property
    def cpu_s(self) -> float:
        """CPU seconds (user and system) per answer."""
        return self.used.cpu_s / self.load.requests

    @property
    def kernel_s(self) -> float:
        """The part of `cpu_s` that system calls took."""
        return self.used.kernel_s / self.load.requests


@dataclass(frozen=True, slots=True)
class Measurement:
    """One server in one round.

    `whole`: answers of JSON, `CONNECTIONS` at a time. `lone`: the same, one at a time. `bursts`:
    streams whose events the source sends in one write. `streams`: streams whose events come one
    by one; those that the end of the window cuts off have a part in their CPU time, for all
    proxies alike. `rss_bytes` is the memory with `OPEN_STREAMS` streams, None unless all of
    them were open. `errors` are wrk's counts by kind.
    """

    whole: Part
    lone: Part
    bursts: Part
    streams: Part
    open_streams: int
    rss_bytes: int | None
    errors: Mapping[str, int]


def _added(latency_s: Callable[[Load], float]) -> Of[Measurement]:
    """Microseconds by which a lone request takes longer than at the source; None for it."""
    return lambda one, round_: (
        None
        if one is round_[SOURCE]
        else (latency_s(one.lone.load) - latency_s(round_[SOURCE].lone.load)) * 1e6
    )


METRICS: tuple[Metric[Measurement], ...] = (
    Metric(
        "requests_per_s",
        f"at {CONNECTIONS}",
        "req/s",
        lambda one, _: one.whole.load.requests / one.whole.load.duration_s,
    ),
    Metric("p50_ms", f"p50 at {CONNECTIONS}", "ms", lambda one, _: one.whole.load.p50_s * 1e3),
    Metric("p99_ms", f"p99 at {CONNECTIONS}", "ms", lambda one, _: one.whole.load.p99_s * 1e3),
    Metric("added_p50_us", "added p50", "µs", _added(lambda load: load.p50_s)),
    Metric("added_p99_us", "added p99", "µs", _added(lambda load: load.p99_s)),
    # Below 100 %, something else was the bottleneck.
    Metric(
        "core_percent",
        "its core",
        "% busy",
        lambda one, _: 100 * one.whole.used.cpu_s / one.whole.load.duration_s,
    ),
    cpu_metric(
        "request_cpu_us",
        "CPU/JSON",
        lambda one: one.whole.cpu_s,
        lambda one: one.whole.kernel_s,
    ),
    cpu_metric(
        "burst_cpu_us",
        "CPU/SSE",
        lambda one: one.bursts.cpu_s,
        lambda one: one.bursts.kernel_s,
    ),
    cpu_metric(
        "chunk_cpu_us",
        "CPU/chunk",
        lambda one: one.streams.cpu_s / CHUNKS,
        lambda one: one.streams.kernel_s / CHUNKS,
    ),
    Metric(
        "rss_mib",
        f"RSS at {OPEN_STREAMS:,}",
        "MiB",
        lambda one, _: None if one.rss_bytes is None else one.rss_bytes / 2**20,
    ),
)


def measure(server: LocalServer, wrk: Wrk, window_s: int) -> Measurement:
    """Warm up, then measure in five parts. Raises UserError if it answers nothing."""

    def under_load(body: bytes, connections: int) -> Part:
        before = server.usage()
        load = wrk.run(server.port, body, connections=connections, seconds=window_s)
        used = server.usage().since(before)
        if not load.requests:
            log = server.process.log
            raise UserError(
                f"{log.stem} answered nothing within {window_s} s ({load.errors or 'no error'}); "
                f"see {log}, or leave it out with --only"
            )
        return Part(load, used)

    json, stream = chat_body(stream=False), chat_body(stream=True)
    burst = chat_body(stream=True, prompt=AT_ONCE)
    wrk.run(server.port, json, connections=CONNECTIONS, seconds=_WARM_UP_S)
    whole, lone = under_load(json, CONNECTIONS), under_load(json, 1)
    bursts, streams = under_load(burst, CONNECTIONS), under_load(stream, CONNECTIONS)
    opened, rss_bytes = while_streaming(server.port, OPEN_STREAMS, lambda: server.usage().rss_bytes)
    time.sleep(_SETTLE_S)
    errors = Counter[str]()
    for part in (whole, lone, bursts, streams):
        errors.update(part.load.errors)
    return Measurement(
        *(whole, lone, bursts, streams),
        open_streams=opened,
        rss_bytes=rss_bytes if opened == OPEN_STREAMS else None,
        errors=dict(sorted(errors.items())),
    )
