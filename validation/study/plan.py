"""What the study compares, and what its ledger has of each comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.analysis.judgement import Verdict
from bench.analysis.verdict import ALIKE

CONTROL = "managed"
POLICIES = (
    "baseline",
    "queue-depth",
    "random",
    "least-outstanding",
    "power-of-two",
    "prefix-aware",
    "queue-aware",
    "cache-aware",
    "session",
)
# Those of bench/peers.yaml that choose by load or by prompt, or the only one of a program. Choosing
# in turn is what baseline does. sglang-router, SMG and vllm-router have their power of two in
# common, from the first of them.
PEERS = (
    "haproxy",
    "nginx-least-conn",
    "smg-least-load",
    "smg-cache-aware",
    "sglang-router-cache-aware",
    "vllm-router-power-of-two",
    "vllm-router-cache-aware",
    "production-stack",
    "litellm-least-busy",
)
# With their names in tests/scenarios. Searches for the load that an arm carries take too long with
# so many arms; recorded traffic is of the user's own. The last four are made for KVCached, which
# needs a GPU.
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


# Added to the seed of the study: schedules on which nothing was chosen.
CONFIRMING = 1000
# With less of managed's output, an arm is not alike.
LEAST_OUTPUT = math.exp(-ALIKE)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run: a scenario, with managed as the control and each of `arms` as a treatment.

    A run that confirms has the best arm of each group, with another seed and more blocks.
    """

    scenario: str
    arms: tuple[str, ...]
    seed: int
    confirms: bool = False


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
    is no policy of this project. `balancer` are the policy and the options of managed's balancer.
    `arms` of the run shared the error rate, and `took_s` seconds. `managed` and `value` are medians
    over blocks in `unit`.
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
    confirms: bool = False
    reasons: tuple[str, ...] = ()
    others: Mapping[str, Ratio] = field(default_factory=dict)
    balancer: str = "cache-aware"

    @property
    def study_seed(self) -> int:
        """The seed of the study that the entry is of."""
        return self.seed - CONFIRMING if self.confirms else self.seed


def latest_seed(entries: Iterable[Entry]) -> int:
    """The highest seed of a study that the entries are of; 1 if there are none."""
    return max((one.study_seed for one in entries), default=1)


def cost(entry: Entry) -> float:
    """The ratio such that lower is better; infinite where there is none."""
    ratio = entry.primary.ratio
    if not ratio or entry.verdict == Verdict.INVALID:
        return math.inf
    return 1 / ratio if entry.higher_is_better else ratio


def holds_back(entry: Entry) -> bool:
    """Whether the arm is ahead of managed and has less than `LEAST_OUTPUT` of its output.

    It holds requests back: those that it lets through are quick, and it serves few.
    """
    output = entry.others.get("output_tps")
    less = output is not None and output.ratio is not None and output.ratio < LEAST_OUTPUT
    return less and cost(entry) < 1


def missing(
    groups: Iterable[Sequence[str]],
    seed: int,
    entries: Iterable[Entry],
    rule: int,
    scenarios: Iterable[str] = SCENARIOS,
) -> list[PlannedRun]:
    """What is left to measure: of each scenario a run for each group of arms, then one to confirm.

    The runs of groups are short, and find the best arm of each; that of the lowest ratio of many
    looks better than it is, so it is measured anew. Which arms are confirmed is not known, and
    `arms` empty, as long as an arm of the scenario is missing; such a run is never the first. An
    arm that holds back is no best one.

    Arms are in groups because all of a run share the error rate, and a block has them all: with
    more of them, intervals are wider and a block lasts longer.
    """
    known = [tuple(group) for group in groups if group]
    valid = [one for one in entries if one.rule == rule]
    found = list[PlannedRun]()
    for scenario in scenarios:
        of_scenario = [one for one in valid if one.scenario == scenario]
        seen = {one.arm: one for one in of_scenario if not one.confirms and one.seed == seed}
        left = [
            PlannedRun(scenario, arms, seed)
            for group in known
            if (arms := tuple(arm for arm in group if arm not in seen))
        ]
        found += left
        fit = (
            [seen[arm] for arm in group if not holds_back(seen[arm])] for group in known if not left
        )
        best = (min(group, key=cost) for group in fit if group)
        again = seed + CONFIRMING
        done = {one.arm for one in of_scenario if one.confirms and one.seed == again}
        confirmed = tuple(
            one.arm for one in best if not math.isinf(cost(one)) and one.arm not in done
        )
        if left or confirmed:
            found.append(PlannedRun(scenario, confirmed, again, confirms=True))
    return found
