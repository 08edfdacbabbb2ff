"""One proxy measured once: whole answers, lone requests, bursts, streams, memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from bench.errors import UserError
from validation.proxies.streams import while_streaming
from validation.proxies.wrk import Load, Wrk
from validation.sidebyside.answers import AT_ONCE, CHUNKS, chat_body
from validation.sidebyside.procfs import Usage, usage
from validation.sidebyside.running import Target

CONNECTIONS = 64
OPEN_STREAMS = 2000
_WARM_UP_S = 1
# For closed connections to be put away before another proxy is measured on that core.
_SETTLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Measurement:
    """One server in one round. Seconds, bytes, CPU seconds (user and system).

    `core_share` is its CPU time per second at `CONNECTIONS` whole answers at a time: below
    1 something else was the bottleneck. `lone_*` are latencies of one request at a time.
    `request_cpu_s` is the CPU time per whole answer of JSON, `burst_cpu_s` that per stream
    whose events the source sends in one write. `chunk_cpu_s` is the CPU time per finished
    stream of events that are apart, by its chunks; streams that the end of the window cuts
    off have their part in it, for all proxies alike. `*_kernel_s` is the part of it that
    system calls took. `rss_bytes` is None unless all of `OPEN_STREAMS` were open. `errors`
    counts what wrk counted.
    """

    requests_per_s: float
    p50_s: float
    p99_s: float
    lone_p50_s: float
    lone_p99_s: float
    request_cpu_s: float
    request_kernel_s: float
    core_share: float
    burst_cpu_s: float
    burst_kernel_s: float
    chunk_cpu_s: float
    chunk_kernel_s: float
    open_streams: int
    rss_bytes: int | None
    errors: Mapping[str, int]


Round = Mapping[str, Measurement]
"""The measurements of one round by the server's name."""


def measure(target: Target, wrk: Wrk, window_s: int) -> Measurement:
    """Warm up, then measure in five parts. Raises UserError if nothing is answered."""
    whole, streamed = chat_body(stream=False), chat_body(stream=True)
    at_once = chat_body(stream=True, prompt=AT_ONCE)
    wrk.run(target.port, whole, connections=CONNECTIONS, seconds=_WARM_UP_S)
    many, many_used = _loaded(target, wrk, whole, CONNECTIONS, window_s)
    lone, _ = _loaded(target, wrk, whole, 1, window_s)
    bursts, bursts_used = _loaded(target, wrk, at_once, CONNECTIONS, window_s)
    streams, streams_used = _loaded(target, wrk, streamed, CONNECTIONS, window_s)
    opened, rss_bytes = while_streaming(
        target.port, OPEN_STREAMS, lambda: usage(target.group).rss_bytes
    )
    time.sleep(_SETTLE_S)
    return Measurement(
        requests_per_s=many.requests / many.duration_s,
        p50_s=many.p50_s,
        p99_s=many.p99_s,
        lone_p50_s=lone.p50_s,
        lone_p99_s=lone.p99_s,
        request_cpu_s=many_used.cpu_s / many.requests,
        request_kernel_s=many_used.kernel_s / many.requests,
        core_share=many_used.cpu_s / many.duration_s,
        burst_cpu_s=bursts_used.cpu_s / bursts.requests,
        burst_kernel_s=bursts_used.kernel_s / bursts.requests,
        chunk_cpu_s=streams_used.cpu_s / streams.requests / CHUNKS,
        chunk_kernel_s=streams_used.kernel_s / streams.requests / CHUNKS,
        open_streams=opened,
        rss_bytes=rss_bytes if opened == OPEN_STREAMS else None,
        errors=_sum(many, lone, bursts, streams),
    )


def _loaded(
    target: Target, wrk: Wrk, body: bytes, connections: int, seconds: int
) -> tuple[Load, Usage]:
    """What wrk saw, and what the target used meanwhile."""
    before = usage(target.group)
    load = wrk.run(target.port, body, connections=connections, seconds=seconds)
    used = usage(target.group).since(before)
    if not load.requests:
        raise UserError(
            f"{target.name} answered nothing within {seconds} s ({load.errors or 'no error'}); "
            "see its log, or leave it out with --only"
        )
    return load, used


def _sum(*loads: Load) -> dict[str, int]:
    kinds = {kind for load in loads for kind in load.errors}
    return {kind: sum(load.errors.get(kind, 0) for load in loads) for kind in sorted(kinds)}
