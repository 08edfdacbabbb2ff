"""What the study compares, and what its ledger has of each comparison."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

CONTROL = "managed"
POLICIES = (
    "baseline",
    "queue-depth",
    "random",
    "least-outstanding",
    "power-of-two",
    "prefix-aware",
    "cache-aware",
    "session",
)
# With their names in tests/scenarios. Searches for the load that an arm carries take too long with
# so many arms; recorded traffic is of the user's own.
SCENARIOS = (
    "latency",
    "heavy-tail",
    "throughput",
    "burst",
    "shared-prefix",
    "conversations",
    "multi-tenant",
    "noisy-neighbour",
    "overload",
    "slowed-replica",
    "two-balancers",
    "bypass",
    "staggered-peaks",
    "simultaneous-peaks",
    "half-load",
    "long-tail",
)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run: a scenario, with managed as the control and each of `arms` as a treatment."""

    scenario: str
    arms: tuple[str, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric of an arm / managed, with the interval of the run; None where there is none."""

    ratio: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What one arm gave beside managed in one scenario: the primary metric, and some others.

    `rule` is the version of the rule that judged it, `version` that of the arm's program where it
    is no policy of this project. `arms` of the run shared the error rate, and `took_s` seconds.
    `managed` and `value` are medians over blocks in `unit`.
    """

    scenario: str
    arm: str
    seed: int
    arms: tuple[str, ...]
    rule: int
    commit: str | None
    machine: str
    engine: str
    version: str | None
    day: str
    took_s: float
    metric: str
    unit: str
    higher_is_better: bool
    verdict: str
    primary: Ratio
    alpha: float
    managed: float | None
    value: float | None
    blocks: int
    reasons: tuple[str, ...] = ()
    others: Mapping[str, Ratio] = field(default_factory=dict)


def planned_runs(groups: Iterable[Sequence[str]], seed: int) -> Iterator[PlannedRun]:
    """All runs: each scenario with each group of arms.

    Arms are in groups because all of a run share the error rate, and a block has them all: with
    more of them, intervals are wider and a block lasts longer.
    """
    arms = [tuple(group) for group in groups if group]
    for scenario in SCENARIOS:
        yield from (PlannedRun(scenario, group, seed) for group in arms)


def missing(planned: Iterable[PlannedRun], entries: Sequence[Entry], rule: int) -> list[PlannedRun]:
    """The planned runs, each with those arms that have no entry under this rule and seed."""
    done = {(one.scenario, one.arm, one.seed) for one in entries if one.rule == rule}
    found = []
    for run in planned:
        left = tuple(arm for arm in run.arms if (run.scenario, arm, run.seed) not in done)
        if left:
            found.append(replace(run, arms=left))
    return found
