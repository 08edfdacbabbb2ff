"""The client measured at one number of open streams."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.cpu import CpuWatch
from bench.load.accuracy.answers import MODEL, Wish
from bench.load.accuracy.deviations import (
    Told,
    e2e_error_s,
    itl_errors_s,
    late_s,
    require_whole,
    spread,
    ttft_error_s,
)
from bench.load.accuracy.running import ask_told
from bench.load.arrivals import Constant
from bench.load.drive import Load, run_load
from bench.load.outcome import Ending
from bench.load.schedule import plan_open_loop
from bench.load.workload import Fixed, Workload
from bench.records import Accuracy, Instrument, Sample, Spread

_DRAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Level:
    """So many streams open at a time, of `chunks` chunks each, which arrive evenly.

    When the first ones have ended, `turns` times `streams` requests are sent that count, and
    then others until these have ended: all that counts happens with all streams open.
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
        return self.stream_s * (self.turns + 2)

    def wish(self, index: int, late_ms: tuple[int, ...] = ()) -> Wish:
        """What request number `index` asks for; see `Wish` for `late_ms`."""
        return Wish(index, self.first_ms, self.every_ms, self.chunks, late_ms)

    def counts(self, sample: Sample) -> bool:
        """Whether a request is sent and answered while all streams are open."""
        return self.stream_s <= sample.scheduled_s < self.stream_s * (self.turns + 1)


@dataclass(frozen=True, slots=True)
class Reading:
    """A level as it was measured. `open_streams` is how many were open on average.

    `source_late`: the source's own lateness, which its times hold and so is no error of the
    client's. `instrument` is as in a trial.
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
    prompts = [level.wish(one.index, late_ms).prompt() for one in schedule.requests]
    watch = CpuWatch((), cores)
    result = run_load(Load(schedule, prompts, [url] * len(prompts)), drain_timeout_s=_DRAIN_S)
    shares = watch.stop()
    if result.ending is Ending.INTERRUPTED:
        raise KeyboardInterrupt
    told = ask_told(url)
    samples = [sample for sample in result.samples if level.counts(sample)]
    return Reading(
        level=level,
        accuracy=accuracy_of(level.streams, samples, told),
        open_streams=_open_streams(level, result.samples),
        source_late=spread([late for one in samples for late in _late(level, told[one.index])]),
        instrument=replace(
            result.instrument, foreign_cpu_share=shares.foreign, stolen_cpu_share=shares.stolen
        ),
    )


def accuracy_of(streams: int, samples: Sequence[Sample], told: Mapping[int, Told]) -> Accuracy:
    """Sizes of the errors over some requests. Raises UserError when one failed."""
    pairs = [(one, require_whole(one, told.get(one.index))) for one in samples]
    return Accuracy(
        streams=streams,
        ttft=spread([abs(ttft_error_s(*pair)) for pair in pairs]),
        itl=spread([abs(error) for pair in pairs for error in itl_errors_s(*pair)]),
        e2e=spread([abs(e2e_error_s(*pair)) for pair in pairs]),
    )


def _late(level: Level, told: Told) -> tuple[float, ...]:
    return late_s(told, level.first_ms / 1000, level.every_ms / 1000)


def _open_streams(level: Level, samples: Sequence[Sample]) -> float:
    """How many streams were open on average while those that count were sent."""
    start_s, end_s = level.stream_s, level.stream_s * (level.turns + 1)
    spans = ((one.sent_s or 0.0, one.last_token_s or 0.0) for one in samples)
    inside = (min(last_s, end_s) - max(sent_s, start_s) for sent_s, last_s in spans)
    return sum(span_s for span_s in inside if span_s > 0) / (end_s - start_s)
