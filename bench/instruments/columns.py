"""The columns of the table of load generators, and what is to be said beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.instruments.measurement import Measurement
from bench.sidebyside.figures import Metric
from bench.sidebyside.rounds import Round

METRICS: tuple[Metric[Measurement], ...] = (
    Metric(
        "chunk_cpu_us",
        "CPU/chunk",
        "µs",
        lambda one, _: one.chunk_cpu_s * 1e6,
        lambda one, _: one.chunk_kernel_s * 1e6,
    ),
    Metric("start_cpu_s", "CPU to start", "s", lambda one, _: one.start_cpu_s),
    Metric("rss_mib", "RSS", "MiB", lambda one, _: one.rss_bytes / 2**20),
    Metric("requests", "requests", "complete", lambda one, _: float(one.requests)),
    Metric("lost", "errors", "requests", lambda one, _: float(one.lost)),
    Metric("stretch", "duration", "x source's", lambda one, _: one.stretch),
)

ONLY_INSTRUMENTS = (
    "Only load generators were measured, with a synthetic source as their server: no engine "
    "ran, and nothing here says how fast a model is served."
)
READING = (
    "CPU/chunk: of all processes of a program, the difference of two runs of the same requests "
    "that differ in the chunks of a stream alone. CPU to start: all of the short run, report "
    "included. RSS: of the long run; pages that processes share count for each."
)
# A program that is late reads several chunks at once, which makes each of them cheaper.
_KEPT_UP = 1.1


def remarks_of(rounds: Sequence[Round[Measurement]]) -> Iterator[str]:
    """What `rounds` show, then how to read the table."""
    for name in rounds[0]:
        if lost := sum(measured[name].lost for measured in rounds):
            yield f"{name}: {lost:,} requests were not completed; its figures do not count"
        slowest = max(measured[name].stretch for measured in rounds)
        if slowest > _KEPT_UP:
            yield (
                f"{name} did not keep up: its streams took {slowest:.2f} times as long as the "
                "source takes; with several chunks in a read its cost looks too small"
            )
    yield from (READING, ONLY_INSTRUMENTS)
