"""The slowest requests of each arm, each beside the same one in the other arm.

Places are percents of the width: the page draws them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.ticker import MaxNLocator

from bench.analysis.judgement import Case
from bench.analysis.timings import scheduled_e2e_s, scheduled_ttft_s
from bench.records import Role, Sample, Trial
from reports import wording
from reports.charts.series import Series, block_of, series_of
from reports.charts.style import seconds_label, seconds_ticks

# Of each arm.
_EXAMPLES = 5
_MOST_MARKS = 100
# Requests that failed stand right of the axis, with room for their name on a narrow page.
_AXIS, _FAILED = 81.0, 97.0

Ticks = tuple[tuple[float, str], ...]
Place = Callable[[float], float]
Request = tuple[Trial, Sample]


@dataclass(frozen=True, slots=True)
class TimeLine:
    """One request from the instant at which it was due: `spans` are (kind, place, width)."""

    role: Role
    text: str
    spans: tuple[tuple[str, float, float], ...]
    failed_at: float | None


@dataclass(frozen=True, slots=True)
class Example:
    """A slow request: its dot, and its time line above that of the other arm."""

    key: str
    text: str
    place: float
    lines: tuple[TimeLine, ...]


@dataclass(frozen=True, slots=True)
class Lane:
    """An arm: `marks` are the places of a selection of all its requests."""

    role: Role
    name: str
    marks: tuple[float, ...]
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Tails:
    """Both arms over one axis of scheduled TTFT. `time` are the ticks of all time lines."""

    lanes: tuple[Lane, ...]
    ticks: Ticks
    time: Ticks
    failed: float | None


def tails_of(case: Case, prefix: str) -> Tails | None:
    """The slowest requests of a case, with keys that begin with `prefix`.

    None where nothing was answered, or where the load was searched for: there the slowest
    requests are those of the highest load.
    """
    if case.judgement.scenario.search_step is not None:
        return None
    judged = case.judgement.ratios
    trials = tuple(one for one in case.trials if not judged or one.block in judged)
    case = replace(case, trials=trials)
    arms = series_of(case)
    requests = {arm.first.role: _slowest(arm) for arm in arms}
    known = [ttft_s for arm in arms for ttft_s in _answered(arm)]
    if not known:
        return None
    low_s, high_s = min(known) / 1.05, max(known) * 1.05

    def at(ttft_s: float) -> float:
        if not math.isfinite(ttft_s):
            return _FAILED
        return round(_AXIS * math.log(ttft_s / low_s) / math.log(high_s / low_s), 2)

    pairs = {role: [_pair(one, case) for one in ones] for role, ones in requests.items()}
    ends = [_end_s(one) for ones in pairs.values() for pair in ones for one in pair]
    longest_s = max(ends, default=0.0) or 1.0
    failed = any(not one.ok for ones in requests.values() for _, one in ones)

    def along(seconds: float) -> float:
        return round(min(100.0, 100 * seconds / longest_s), 2)

    names = {arm.first.role: arm.name for arm in arms}
    return Tails(
        lanes=tuple(
            Lane(
                role=arm.first.role,
                name=arm.name,
                marks=tuple(map(at, _selection(_answered(arm)))),
                examples=tuple(
                    _example(f"{prefix}-{arm.first.role}-{rank}", pair, names, at, along)
                    for rank, pair in enumerate(pairs[arm.first.role])
                ),
            )
            for arm in arms
        ),
        ticks=tuple((at(tick), label) for tick, label in seconds_ticks(low_s, high_s)),
        time=tuple(
            (along(float(tick)), seconds_label(float(tick)) if tick else "due")
            for tick in MaxNLocator(4).tick_values(0, longest_s)
            if 0 <= tick <= longest_s
        ),
        failed=_FAILED if failed else None,
    )


def _answered(arm: Series) -> list[float]:
    times = map(scheduled_ttft_s, arm.samples)
    return sorted(one for one in times if math.isfinite(one) and one > 0)


def _selection(values: list[float]) -> Iterator[float]:
    """Quantiles at equal distances, where there are many."""
    count = min(len(values), _MOST_MARKS)
    for place in np.linspace(0, len(values) - 1, count).round().astype(int):
        yield values[place]


def _slowest(arm: Series) -> list[Request]:
    """The requests that waited longest for their first token; failed ones first."""
    requests = [(trial, sample) for trial in arm.trials for sample in trial.samples]
    return sorted(requests, key=lambda one: -scheduled_ttft_s(one[1]))[:_EXAMPLES]


def _pair(request: Request, case: Case) -> list[Request]:
    """The request, and the same one of the other arm where it was sent there, too."""
    trial, sample = request
    twins = (
        (other, twin)
        for other in case.trials
        if other.role != trial.role
        and other.block == trial.block
        and other.schedule_sha256 == trial.schedule_sha256 != ""
        for twin in other.samples
        if twin.index == sample.index
    )
    return [request, *([twin] if (twin := next(twins, None)) else [])]


def _end_s(request: Request) -> float:
    """When the last thing is known to have happened, counted from when it was due."""
    sample = request[1]
    last = sample.last_token_s or sample.first_token_s or sample.sent_s or sample.scheduled_s
    return max(0.0, last - sample.scheduled_s)


def _example(
    key: str, pair: list[Request], names: dict[Role, str], at: Place, along: Place
) -> Example:
    trial, sample = pair[0]
    return Example(
        key=key,
        text=f"{_waited(sample)} ({block_of(trial)}, request {sample.index})",
        place=at(scheduled_ttft_s(sample)),
        lines=tuple(_line(one, names, along) for one in pair),
    )


def _waited(sample: Sample) -> str:
    if not sample.ok:
        return f"failed: {sample.error}"
    return f"{wording.duration(scheduled_ttft_s(sample))} to the first token"


def _line(request: Request, names: dict[Role, str], along: Place) -> TimeLine:
    trial, sample = request
    due_s = sample.scheduled_s
    known = (due_s, sample.sent_s, sample.first_token_s, sample.last_token_s)
    times = [along(max(0.0, one - due_s)) for one in known if one is not None]
    kinds = ("unsent", "waiting", "answering")
    spans = [
        (kind, start, round(max(0.0, end - start), 2))
        for kind, start, end in zip(kinds, times, times[1:], strict=False)
    ]
    told = [_waited(sample)]
    if sample.ok:
        told.append(f"{wording.duration(scheduled_e2e_s(sample))} to the last")
    elif sample.detail:
        told.append(sample.detail)
    if sample.output_tokens is not None:
        told.append(wording.count(sample.output_tokens, "token"))
    if sample.replica:
        told.append(f"from {sample.replica}")
    return TimeLine(
        role=trial.role,
        text=f"{names[trial.role]}: {', '.join(told)}",
        spans=tuple(spans),
        failed_at=None if sample.ok else times[-1],
    )
