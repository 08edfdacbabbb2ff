"""Which comparisons are measured, and in which order. The same list every time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MODELS = ("tiny-llama", "tiny-qwen", "tiny-mistral")
# By kind: the part of its core that each replica of the treatment loses.
SLOWDOWNS: Mapping[str, float] = {"slowdown_10": 0.1, "slowdown_20": 0.2, "slowdown_40": 0.4}
AA_SCENARIOS = ("heavy-tail", "latency", "throughput", "burst", "capacity")
ROUNDS = 20


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One comparison. `slowed_by` is what the treatment's replicas lose of their core.

    With `neighbour`, somebody else takes 15 % of the machine at random times.
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
        """What tells it from all others."""
        return f"{self.kind} {self.scenario} {self.model} {self.control} {self.seed}"


def planned_runs() -> Iterator[PlannedRun]:
    """All of them, a few of each kind after the other: half of the list is a fair half."""
    for turn in range(ROUNDS):
        model, seed = MODELS[turn % len(MODELS)], 1001 + turn
        yield PlannedRun(
            "heavy_tail_quick", "heavy-tail", model, "baseline", "managed", "quick", seed
        )
        yield from _alike(turn)
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


def _alike(turn: int) -> Iterator[PlannedRun]:
    """Three comparisons of an arm with itself: over all turns twelve of each scenario."""
    for index in range(3 * turn, 3 * turn + 3):
        cycle = index // len(AA_SCENARIOS)
        arm = ("baseline", "managed")[cycle % 2]
        scenario = AA_SCENARIOS[index % len(AA_SCENARIOS)]
        yield PlannedRun(
            "aa", scenario, MODELS[cycle % len(MODELS)], arm, arm, "quick", 2001 + index
        )
