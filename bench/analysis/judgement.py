"""The judgement of one scenario: all that is concluded from its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bench.analysis.memory import MemoryUse
from bench.analysis.server_side import ServerSummary
from bench.errors import UserError
from bench.records import Direction, Role, ScenarioFacts, Slo, Trial

# What a comparison that is measured here is over.
BLOCKS = "blocks"


class Verdict(StrEnum):
    """The verdict on the treatment, compared with the control."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"  # the instrument, not the system, failed


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one scenario: the arms compared.

    `ratio` is treatment / control (geometric mean over blocks) with its confidence interval
    [`low`, `high`]; None where there is none. `control_value` and `treatment_value` are medians
    over blocks. `tenant` is set where only that tenant's requests are compared. `control_failed`
    and `treatment_failed` are the shares of requests that failed, including those that bypassed
    the arm; None where there were none. `blocks` counts what was compared, by the name `over`.
    """

    scenario: str
    models: tuple[str, ...]
    metric: str
    unit: str
    direction: Direction
    primary: bool
    control: str
    treatment: str
    control_value: float | None
    treatment_value: float | None
    ratio: float | None
    low: float | None
    high: float | None
    blocks: int
    alpha: float
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    tenant: str = ""
    control_failed: float | None = None
    treatment_failed: float | None = None
    over: str = BLOCKS


class SloOutcome(StrEnum):
    """Whether the objectives were attained; undecided when noise spans the target."""

    MET = "met"
    MISSED = "missed"
    UNDECIDED = "undecided"
    UNSET = "unset"


@dataclass(frozen=True, slots=True)
class SloResult:
    """Attainment of one arm and model: met / all attempted, mean over blocks, interval."""

    scenario: str
    model: str
    role: Role
    arm: str
    target: float
    attainment: float | None
    low: float | None
    high: float | None
    outcome: SloOutcome
    slo: Slo
    tenant: str = ""


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
    `summaries`, `servers` and `memory` have the control first. With any of `invalid_reasons` there
    is no verdict; `notes` are further lines for people. `round` 2 confirms a first one that failed.
    `shared` is the number of verdicts that share the error rate: those on as many treatments.
    """

    scenario: ScenarioFacts
    models: tuple[str, ...]
    environment: str
    control: str | None
    treatment: str | None
    ratios: Mapping[int, float | None]
    comparisons: tuple[Comparison, ...] = ()
    slos: tuple[SloResult, ...] = ()
    summaries: tuple[Summary, ...] = ()
    servers: tuple[ServerSummary, ...] = ()
    memory: tuple[MemoryUse, ...] = ()
    invalid_reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    round: int = 1
    shared: int = 1

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
