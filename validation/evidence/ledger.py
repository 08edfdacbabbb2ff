"""The plan of runs, and what the ledger has of each that ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from validation.sittings import MODELS

# By kind: the part of its core that each replica of the treatment loses.
SLOWDOWNS: Mapping[str, float] = {"slowdown_10": 0.1, "slowdown_20": 0.2, "slowdown_40": 0.4}
AA_SCENARIOS = ("heavy-tail", "latency", "throughput", "burst", "capacity")
ROUNDS = 20
# What becomes a float in the page, whatever a ledger has.
Count = Annotated[int, Field(ge=0, lt=2**31)]


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One comparison. `slowed_by` is what the treatment's replicas lose of their core.

    With `neighbour`, another process takes 15 % of the machine at random times.
    """

    kind: str
    scenario: str
    model: str
    control: str
    treatment: str
    profile: str
    seed: int
    slowed_by: float = 0.0
    neighbour: bool = False

    @property
    def key(self) -> str:
        """Names this run and no other."""
        return f"{self.kind} {self.scenario} {self.model} {self.control} {self.seed}"


def planned_runs() -> Iterator[PlannedRun]:
    """All planned runs, the same list every time. Kinds alternate: any half has half of each."""
    for turn in range(ROUNDS):
        model, seed = MODELS[turn % len(MODELS)], 1001 + turn
        yield PlannedRun(
            "heavy_tail_quick", "heavy-tail", model, "baseline", "managed", "quick", seed
        )
        yield from _same_arms(turn)
        yield PlannedRun(
            "heavy_tail_quick_noisy",
            *("heavy-tail", model, "baseline", "managed", "quick", seed + 100),
            neighbour=True,
        )
        for kind, slowed_by in SLOWDOWNS.items():
            yield PlannedRun(
                kind,
                *("heavy-tail", model, "managed", "managed", "auto", seed + 200),
                slowed_by=slowed_by,
            )


def _same_arms(turn: int) -> Iterator[PlannedRun]:
    """Three comparisons of an arm with itself: over all turns twelve of each scenario."""
    for index in range(3 * turn, 3 * turn + 3):
        cycle = index // len(AA_SCENARIOS)
        arm = ("baseline", "managed")[cycle % 2]
        scenario = AA_SCENARIOS[index % len(AA_SCENARIOS)]
        yield PlannedRun(
            "aa", scenario, MODELS[cycle % len(MODELS)], arm, arm, "quick", 2001 + index
        )


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """The outcome of a run: the primary metric's ratio treatment / control, and the verdict.

    `rule` is the version of the rule that judged it. `blocks` were judged, `set_aside` were
    measured and disturbed. `spread` is the standard deviation of the blocks' ln(ratio).
    `capacity_rps` is the lowest and the highest that the engines could serve meanwhile.
    """

    run: PlannedRun
    rule: int
    commit: str | None
    machine: str
    day: str
    took_s: float
    verdict: str
    ratio: float | None
    low: float | None
    high: float | None
    blocks: Count
    set_aside: Count
    spread: float | None
    capacity_rps: tuple[float, float] | None
    reasons: tuple[str, ...] = ()


def missing(
    planned: Sequence[PlannedRun], entries: Sequence[LedgerEntry], rule: int
) -> list[PlannedRun]:
    """The planned runs that have not been measured under this version of the rule."""
    done = {entry.run.key for entry in entries if entry.rule == rule}
    return [run for run in planned if run.key not in done]
