"""Measures the error of the client's timings at one number of open streams.

Only time spans are compared, each taken on one side, on a clock that all processes of a machine
share. A span of the client begins before the request has left and ends after a chunk has
arrived, so that TTFT and E2E are too long by the way to the source, the source's waking up, and
the way back. The error of ITL is the difference of two ways back, positive or negative.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from bench.analysis.estimates import percentile
from bench.analysis.timings import e2e_s, gaps_s, ttft_s
from bench.errors import UserError
from bench.load.accuracy.answers import MODEL, StreamPlan
from bench.load.accuracy.running import SourceTimes, ask_report
from bench.load.plan.arrivals import Constant
from bench.load.plan.schedule import plan_open_loop
from bench.load.plan.workload import Fixed, Workload
from bench.load.run.drive import Ending, Load, run_load
from bench.records import Accuracy, Instrument, Sample, Spread
from bench.telemetry.cpu import CpuWatch

_DRAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Level:
    """A number of streams that are open at a time, of `chunks` chunks each, which arrive evenly.

    The first streams open one after the other. Requests count that are sent while all streams
    are open, `turns` times `streams` of them; the last ones keep the number of streams until
    these have ended.
    """

    streams: int
    first_ms: int
    every_ms: int
    chunks: int
    turns: int

    def __str__(self) -> str:
        return f"{self.streams:,} open stream{'' if self.streams == 1 else 's'}"

    @property
    def stream_s(self) -> float:
        """How long one stream takes."""
        return (self.first_ms + self.every_ms * (self.chunks - 1)) / 1000

    @property
    def duration_s(self) -> float:
        """How long requests are sent."""
        return self.stream_s * (self.turns + 2)

    @property
    def window_s(self) -> tuple[float, float]:
        """From when to when a request that counts is sent."""
        return self.stream_s, self.stream_s * (self.turns + 1)

    def plan(self, index: int, late_ms: tuple[int, ...] = ()) -> StreamPlan:
        """What request number `index` asks for; see `StreamPlan` for `late_ms`."""
        return StreamPlan(index, self.first_ms, self.every_ms, self.chunks, late_ms)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was measured at a level. `open_streams` is how many were open on average.

    `source_late` is how late the source itself sent its chunks; since its times include this,
    it is no error of the client. `instrument` is as in a trial.
    """

    level: Level
    accuracy: Accuracy
    open_streams: float
    source_late: Spread
    instrument: Instrument


def measure(
    level: Level, url: str, cores: Collection[int], late_ms: tuple[int, ...] = ()
) -> Reading:
    """Measure the client at `level` against the source at `url`; they run on `cores`.

    Raises UserError when a stream fails or lacks a chunk, KeyboardInterrupt after Ctrl-C.
    """
    schedule = plan_open_loop(
        seed=1,
        rates_rps={MODEL: level.streams / level.stream_s},
        workload=Workload(prompt=Fixed(1), output=Fixed(level.chunks)),
        arrival=Constant(load=1.0),
        duration_s=level.duration_s,
    )
    prompts = [level.plan(one.index, late_ms).prompt() for one in schedule.requests]
    watch = CpuWatch((), cores)
    result = run_load(Load(schedule, prompts, [url] * len(prompts)), drain_timeout_s=_DRAIN_S)
    shares = watch.stop()
    if result.ending is Ending.INTERRUPTED:
        raise KeyboardInterrupt
    times = ask_report(url).times
    start_s, end_s = level.window_s
    samples = [one for one in result.samples if start_s <= one.scheduled_s < end_s]
    pairs = [(one, require_whole(one, times.get(one.index))) for one in samples]
    return Reading(
        level=level,
        accuracy=Accuracy(
            streams=level.streams,
            ttft=spread([abs(ttft_error_s(*pair)) for pair in pairs]),
            itl=spread([abs(error) for pair in pairs for error in itl_errors_s(*pair)]),
            e2e=spread([abs(e2e_error_s(*pair)) for pair in pairs]),
        ),
        open_streams=_open_streams(level, result.samples),
        source_late=spread([late for _, seen in pairs for late in lateness_s(level, seen)]),
        instrument=replace(
            result.instrument, foreign_cpu_share=shares.foreign, stolen_cpu_share=shares.stolen
        ),
    )


def require_whole(sample: Sample, times: SourceTimes | None) -> SourceTimes:
    """The source's times of `sample`. Raises UserError unless both saw the same chunks."""
    if not sample.ok:
        raise UserError(f"request {sample.index} failed: {sample.error} ({sample.detail})")
    sent = len(times.chunk_s) if times else 0
    if times is None or sent != len(sample.chunk_s):
        raise UserError(
            f"request {sample.index} has {len(sample.chunk_s)} chunks of the {sent} that the"
            " source sent: the client cannot be trusted"
        )
    return times


def ttft_error_s(sample: Sample, times: SourceTimes) -> float:
    """The client's TTFT − from the request's arrival to the first chunk at the source."""
    return ttft_s(sample) - (times.chunk_s[0] - times.arrived_s)


def e2e_error_s(sample: Sample, times: SourceTimes) -> float:
    """The client's E2E − from the request's arrival to the last chunk at the source."""
    return e2e_s(sample) - (times.chunk_s[-1] - times.arrived_s)


def itl_errors_s(sample: Sample, times: SourceTimes) -> tuple[float, ...]:
    """Each gap between chunks at the client − the same gap at the source."""
    gaps = itertools.pairwise(times.chunk_s)
    return tuple(
        seen_s - (after_s - before_s)
        for seen_s, (before_s, after_s) in zip(gaps_s(sample), gaps, strict=True)
    )


def lateness_s(level: Level, times: SourceTimes) -> tuple[float, ...]:
    """How late the source itself sent each chunk of a stream of `level`."""
    first_s, every_s = level.first_ms / 1000, level.every_ms / 1000
    return tuple(
        sent_s - (times.arrived_s + first_s + index * every_s)
        for index, sent_s in enumerate(times.chunk_s)
    )


def spread(values_s: Sequence[float]) -> Spread:
    """The spread of some values. Raises ValueError when there are none."""
    found = [percentile(values_s, percent) for percent in (50, 95, 99)]
    p50_s, p95_s, p99_s = (value for value in found if value is not None)
    return Spread(p50_s, p95_s, p99_s, max(values_s), len(values_s))


def _open_streams(level: Level, samples: Sequence[Sample]) -> float:
    """How many streams were open on average while those that count were sent."""
    start_s, end_s = level.window_s
    spans = ((one.sent_s or 0.0, one.last_token_s or 0.0) for one in samples)
    inside = (min(last_s, end_s) - max(sent_s, start_s) for sent_s, last_s in spans)
    return sum(span_s for span_s in inside if span_s > 0) / (end_s - start_s)
