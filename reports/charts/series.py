"""What charts read out of trials: latencies and requests in flight, per arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.records import Role, Sample, Trial
from reports import palette
from reports.case import Case, arms_of

Floats = npt.NDArray[np.float64]

_ROLES: tuple[Role, Role] = ("control", "treatment")


@dataclass(frozen=True, slots=True)
class Series:
    """One arm's trials, with the name and the colour under which they are drawn."""

    name: str
    colour: str
    trials: tuple[Trial, ...]

    @property
    def samples(self) -> tuple[Sample, ...]:
        return tuple(sample for trial in self.trials for sample in trial.samples)


def series_of(case: Case) -> list[Series]:
    """The arms that have trials, control first."""
    found = []
    for role, name in zip(_ROLES, arms_of([case.judgement]).headings, strict=True):
        trials = tuple(trial for trial in case.trials if trial.role == role)
        if name is not None and trials:
            found.append(Series(name, palette.ARM[role], trials))
    return found


@dataclass(frozen=True, slots=True)
class Track:
    """One trial of an arm, to be drawn over time."""

    name: str
    colour: str
    trial: Trial


def typical_tracks(case: Case) -> tuple[int | None, list[Track]]:
    """The block whose effect is the middle one, and the first trial of each arm in it."""
    block = typical_block(case.trials, case.judgement.effects)
    tracks = []
    for arm in series_of(case):
        if trials := [trial for trial in arm.trials if trial.block == block]:
            first = min(trials, key=lambda trial: trial.position)
            tracks.append(Track(arm.name, arm.colour, first))
    return block, tracks


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


def typical_block(trials: Sequence[Trial], effects: Sequence[float]) -> int | None:
    """The block whose effect is nearest to the middle one: neither the best nor the worst."""
    blocks = sorted({trial.block for trial in trials})
    if not blocks:
        return None
    if len(effects) != len(blocks):
        return blocks[0]
    order = np.argsort(np.array(effects), kind="stable")
    return blocks[int(order[(len(blocks) - 1) // 2])]
