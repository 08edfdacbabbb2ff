"""The load at which an arm's SLO attainment falls to its target, from trials at several loads."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.analysis.rates import slo_attainment
from bench.records import Slo, Trial

# Loads that are further apart than the grid's step, but for rounding, are no neighbours.
_ROUNDING = 1.001


def attainment(trial: Trial) -> float:
    """Requests of a trial that met every objective / all attempted; 0 of none."""
    return slo_attainment(trial.samples, trial.duration_s, trial.scenario.slos) or 0.0


def target(trial: Trial) -> float:
    """The share of requests that has to meet its objectives: the highest of the models'."""
    return max(slo.attainment for slo in _slos(trial))


def is_carried(trial: Trial) -> bool:
    """Whether the arm met its objectives at the trial's load."""
    return attainment(trial) >= target(trial)


def carried_rps(trials: Sequence[Trial]) -> float | None:
    """Requests per second at which attainment falls to the target; None if that is not known.

    It lies between the highest load that was carried and the next one, which was not;
    attainment is taken to fall evenly with the logarithm of the load in between.
    """
    offered = {trial.offered_rps: attainment(trial) for trial in trials if trial.offered_rps}
    if not offered:
        return None
    wanted = target(trials[0])
    low = max((load for load, share in offered.items() if share >= wanted), default=None)
    high = min((load for load, share in offered.items() if share < wanted), default=None)
    step = trials[0].scenario.search_step
    if low is None or high is None or step is None or not low < high <= low * step * _ROUNDING:
        return None
    part = (offered[low] - wanted) / (offered[low] - offered[high])
    return math.exp(math.log(low) + part * math.log(high / low))


def _slos(trial: Trial) -> tuple[Slo, ...]:
    return tuple(trial.scenario.slos.values())
