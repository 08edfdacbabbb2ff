"""Data of charts: the trials of each arm, and the requests in flight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from bench.analysis.judgement import BLOCKS, Case
from bench.records import Sample, Trial
from reports import wording
from reports.charts.style import ARM, OTHERS, REPLICAS, Line, Look
from reports.run import arms_of

_MARKED = 8

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """One arm's trials, with the name and the look under which they are drawn."""

    name: str
    look: Look
    trials: tuple[Trial, ...]

    @property
    def colour(self) -> str:
        """The colour of its look."""
        return self.look.colour

    @property
    def first(self) -> Trial:
        """Its first trial."""
        return self.trials[0]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The requests of all its trials."""
        return tuple(sample for trial in self.trials for sample in trial.samples)


def series_of(case: Case) -> list[Series]:
    """The arms that have trials, control first."""
    headings = arms_of([case.judgement]).headings
    found = [
        Series(name, ARM[role], tuple(one for one in case.trials if one.role == role))
        for role, name in headings.items()
    ]
    return [arm for arm in found if arm.trials]


def typical_block(case: Case) -> int | None:
    """The judged block whose ratio is the median.

    The first one where none has a ratio; where none is judged, the first that was measured.
    """
    ratios = case.judgement.ratios
    known = sorted((ratio, block) for block, ratio in ratios.items() if ratio is not None)
    if known:
        return known[(len(known) - 1) // 2][1]
    return min(ratios or {trial.block for trial in case.trials}, default=None)


def typical_trials(case: Case) -> list[Series]:
    """The first trial of each arm in the typical block."""
    block = typical_block(case)
    ordered = sorted(case.trials, key=lambda trial: trial.position)
    of_block = replace(case, trials=tuple(trial for trial in ordered if trial.block == block))
    return [replace(arm, trials=arm.trials[:1]) for arm in series_of(of_block)]


def titled(what: str, arms: Sequence[Series]) -> str:
    """The title of a chart of the typical block: with its number."""
    if not arms:
        return what
    return f"{what}, {block_of(arms[0].first)}"


def block_of(trial: Trial) -> str:
    """The name of its block, or of its run: what another tool measured has no schedule."""
    return wording.block(trial.block, BLOCKS if trial.schedule_sha256 else "runs")


def scraped_replicas(arms: Sequence[Series]) -> tuple[dict[str, Look], list[Line]]:
    """The looks of replicas that were scraped, by name, and the legend that says so."""
    return looks_of("replicas", (one.replica for arm in arms for one in arm.first.server))


def looks_of(what: str, names: Iterable[str]) -> tuple[dict[str, Look], list[Line]]:
    """The looks of the first of `what`, by name, and the legend, which counts the others."""
    each = dict.fromkeys(names)
    looks = dict(zip(each, REPLICAS, strict=False))
    lines = [Line(name, one.colour, one.dot) for name, one in looks.items()]
    if len(each) > len(lines):
        lines.append(Line(f"{len(each) - len(lines)} more {what}", sign=OTHERS.dot))
    return looks, lines


def draw_levels(axes: Axes, times: Sequence[float], levels: Sequence[float], look: Look) -> None:
    """What a replica said over time, with a marker at some of its readings."""
    axes.step(
        *(times, levels),
        where="post",
        color=look.colour,
        linewidth=1.5,
        marker=look.marker,
        markersize=5,
        markevery=max(1, len(times) // _MARKED),
    )


def in_flight(trial: Trial) -> tuple[Floats, Floats]:
    """Times (s from the start) and the number of requests in flight from each of them on."""
    changes = [(0.0, 0)]
    for sample in trial.samples:
        if sample.sent_s is not None:
            end_s = sample.last_token_s if sample.last_token_s is not None else trial.elapsed_s
            changes += [(sample.sent_s, 1), (max(end_s, sample.sent_s), -1)]
    # Those that begin come first, so that a request without length is not below zero.
    changes.sort(key=lambda change: (change[0], -change[1]))
    times, steps = zip(*changes, strict=True)
    return np.array(times, dtype=np.float64), np.cumsum(steps).astype(np.float64)
