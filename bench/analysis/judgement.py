"""The judgement of one scenario: all that is concluded from its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.analysis.server_side import ServerSummary
from bench.errors import UserError
from bench.records import Comparison, Role, ScenarioFacts, SloResult, Trial


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric of one arm: its median over blocks. It rests on `n` values in all.

    The load that the arm carries has an interval, that of the geometric mean: `low` and `high`.
    """

    role: Role
    arm: str
    metric: str
    unit: str
    value: float | None
    n: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is concluded from the trials of one scenario for some models.

    `control` and `treatment` are names of arms; None where that arm was not run, and
    then `comparisons` is empty. `comparisons` has the primary metric first: of all models
    together, then of each one if there are several. `ratios` has the primary metric's ratio
    treatment / control of each judged block by the block's index, None where it has none. `slos`,
    `summaries` and `servers` have the control first. With any of `invalid_reasons` there is no
    verdict; `notes` are further lines for people. `round` 2 confirms a first one that failed.
    """

    scenario: ScenarioFacts
    models: tuple[str, ...]
    environment: str
    control: str | None
    treatment: str | None
    ratios: Mapping[int, float | None]
    comparisons: tuple[Comparison, ...]
    slos: tuple[SloResult, ...]
    summaries: tuple[Summary, ...]
    servers: tuple[ServerSummary, ...]
    invalid_reasons: tuple[str, ...]
    notes: tuple[str, ...]
    round: int = 1

    @property
    def blocks(self) -> int:
        """How many blocks were judged."""
        return len(self.ratios)

    @property
    def effects(self) -> tuple[float, ...]:
        """The ratios of the judged blocks that have one."""
        return tuple(ratio for ratio in self.ratios.values() if ratio is not None)

    @property
    def primary(self) -> Comparison | None:
        """The comparison that gates; None when only one arm was run."""
        return self.comparisons[0] if self.comparisons else None

    def slos_of(self, role: Role) -> tuple[SloResult, ...]:
        """Attainment of the arm in that role, for each model; empty when it was not run."""
        return tuple(one for one in self.slos if one.role == role)

    def server(self, role: Role) -> ServerSummary:
        """How the arm in that role loaded its replicas. Raises UserError when it was not run."""
        for one in self.servers:
            if one.role == role:
                return one
        raise UserError(
            f"nothing is known of the {role} of {self.scenario.name}: it was not run, or no"
            " block of it is complete; measure it with -m managed"
        )


@dataclass(frozen=True, slots=True)
class Case:
    """A judgement with the trials that it rests on: one round of a comparison."""

    judgement: Judgement
    trials: tuple[Trial, ...]
