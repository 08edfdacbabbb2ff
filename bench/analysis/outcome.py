"""What a run comes to: one of four outcomes that a program can act on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from bench.analysis.gates import Gate, gate_failures
from bench.analysis.judgement import Judgement


class Outcome(StrEnum):
    """Of one comparison or of a whole run, the gravest last."""

    HELD = "held"
    UNDECIDED = "undecided"
    INVALID = "invalid"
    FAILED = "failed"


# 2 is a usage error and 130 an interrupted run, as everywhere.
EXIT_CODES: Mapping[Outcome, int] = {
    Outcome.HELD: 0,
    Outcome.FAILED: 1,
    Outcome.UNDECIDED: 3,
    Outcome.INVALID: 4,
}
_OF_GATE: Mapping[Gate, Outcome] = {
    Gate.DEAD_REPLICA: Outcome.FAILED,
    Gate.INVALID: Outcome.INVALID,
    Gate.WORSE: Outcome.FAILED,
    Gate.NOT_BETTER: Outcome.FAILED,
    Gate.INCONCLUSIVE: Outcome.UNDECIDED,
    Gate.NOISE: Outcome.FAILED,
    Gate.SLO_MISSED: Outcome.FAILED,
}


def outcome_of_gates(gates: Iterable[Gate]) -> Outcome:
    """What the gates that did not hold come to; HELD for none."""
    order = list(Outcome)
    return max((_OF_GATE[gate] for gate in gates), key=order.index, default=Outcome.HELD)


def outcome_of(judgement: Judgement) -> Outcome:
    """What one comparison, or the objectives of one arm, come to."""
    return outcome_of_gates(failure.gate for failure in gate_failures(judgement))


def gating(judgements: Sequence[Judgement]) -> tuple[Judgement, ...]:
    """The judgements that count: of a comparison that was measured once more, the later one."""
    again = {(one.scenario.name, one.models) for one in judgements if one.round > 1}
    return tuple(
        one for one in judgements if one.round > 1 or (one.scenario.name, one.models) not in again
    )


def overall(judgements: Sequence[Judgement]) -> Outcome:
    """The gravest outcome of those that count."""
    order = list(Outcome)
    return max(map(outcome_of, gating(judgements)), key=order.index, default=Outcome.HELD)


def outcome_line(judgements: Sequence[Judgement]) -> str:
    """`outcome: undecided (3 held, 1 undecided)`, for the end of a run."""
    counts = Counter(map(outcome_of, gating(judgements)))
    told = ", ".join(f"{counts[one]} {one}" for one in Outcome if counts[one])
    return f"outcome: {overall(judgements)} ({told or 'nothing was measured'})"
