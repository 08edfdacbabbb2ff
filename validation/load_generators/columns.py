"""The columns of the table of load generators, and what is to be said beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from validation.load_generators.measurement import Measurement
from validation.sidebyside.figures import Metric, microseconds
from validation.sidebyside.rounds import Round

METRICS: tuple[Metric[Measurement], ...] = (
    microseconds(
        "chunk_cpu_us", "CPU/chunk", lambda one: one.chunk_cpu_s, lambda one: one.chunk_kernel_s
    ),
    Metric("start_cpu_s", "CPU to start", "s", lambda one, _: one.start_cpu_s),
    Metric("rss_mib", "RSS", "MiB", lambda one, _: one.rss_bytes / 2**20),
    Metric("requests", "requests", "complete", lambda one, _: float(one.requests)),
    Metric("lost", "errors", "requests", lambda one, _: float(one.lost)),
    Metric("turn_ms", "turn", "ms", lambda one, _: one.turn_s * 1e3),
)

ONLY_INSTRUMENTS = (
    "Only load generators were measured, with a synthetic source as their server: no engine "
    "ran, and nothing here says how fast a model is served."
)
READING = (
    "CPU/chunk: of all processes of a program, the difference of two runs of the same requests "
    "that differ in the chunks of a stream alone. CPU to start: all of the short run, report "
    "included. RSS: of the long run; pages that processes share count for each. Turn: from the "
    "last chunk of a stream to the next request. Bare reads: no client, but what none can be "
    "cheaper than: it waits, reads and keeps the bytes with their time."
)


def remarks_of(rounds: Sequence[Round[Measurement]], every_ms: int) -> Iterator[str]:
    """What `rounds` show, then how to read the table."""
    for name in rounds[0]:
        if lost := sum(measured[name].lost for measured in rounds):
            yield f"{name}: {lost:,} requests were not completed; its figures do not count"
        turn_ms = max(measured[name].turn_s for measured in rounds) * 1e3
        # Whoever is late reads several chunks at once, which makes each of them cheaper.
        if turn_ms > every_ms:
            yield (
                f"{name} may not have kept up: {turn_ms:.0f} ms from a stream's end to the next "
                f"request, with chunks every {every_ms} ms; its cost per chunk may look too small"
            )
    yield from (READING, ONLY_INSTRUMENTS)
