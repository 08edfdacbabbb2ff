"""What must hold for a run to pass, and the outcome that a program can act on."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.analysis.judgement import BLOCKS, Comparison, Judgement, SloOutcome, SloResult, Verdict
from bench.analysis.verdict import ALIKE, LOOKS
from bench.records import Expectation, Role


class Gate(StrEnum):
    """A kind of failure. Messages begin with it, and the report sorts by it."""

    DEAD_REPLICA = "dead replica"
    INVALID = "invalid"
    WORSE = "worse"
    NOT_BETTER = "not better"
    INCONCLUSIVE = "inconclusive"
    NOISE = "A/A differs"
    SLO_MISSED = "SLO missed"


class Outcome(StrEnum):
    """The outcome of one comparison, or of a whole run; the gravest last."""

    HELD = "held"
    UNDECIDED = "undecided"
    INVALID = "invalid"
    FAILED = "failed"


# 2 is for a usage error and 130 for an interrupted run.
EXIT_CODES: Mapping[Outcome, int] = {
    Outcome.HELD: 0,
    Outcome.FAILED: 1,
    Outcome.UNDECIDED: 3,
    Outcome.INVALID: 4,
}
# Any other gate that does not hold makes a run fail.
_NO_FAILURE: Mapping[Gate, Outcome] = {
    Gate.INVALID: Outcome.INVALID,
    Gate.INCONCLUSIVE: Outcome.UNDECIDED,
}
# In words, as an answer to "expected".
_EXPECTED: Mapping[Expectation, str] = {
    Expectation.BETTER: "better",
    Expectation.NOT_WORSE: "not worse",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A gate that did not hold, with the numbers that say so."""

    gate: Gate
    text: str

    def __str__(self) -> str:
        return f"{self.gate}: {self.text}"


class GateFailedError(AssertionError):
    """Some gates of a measured test did not hold: one line for each."""

    def __init__(self, failures: tuple[Failure, ...]) -> None:
        super().__init__("\n".join(map(str, failures)))
        self.failures = failures


def gate_failures(judgement: Judgement) -> tuple[Failure, ...]:
    """The gates that do not hold, of the treatment or, where none was run, of the control.

    An invalid measurement has no other failures: its numbers mean nothing.
    """
    if found := _validity_failures(judgement):
        return found
    role: Role = "treatment" if judgement.treatment is not None else "control"
    return (*_verdict_failures(judgement), *_slo_failures(judgement, role))


def wants_confirmation(judgement: Judgement) -> bool:
    """Whether the verdict fails a gate: it counts only if it does so twice."""
    return not judgement.invalid_reasons and any(_verdict_failures(judgement))


def require_gates(judgement: Judgement) -> None:
    """Raise GateFailedError unless treatment is valid, as expected, and meets its SLOs."""
    if found := gate_failures(judgement):
        raise GateFailedError(found)


def require_slo(judgement: Judgement) -> None:
    """Raise GateFailedError unless the control is valid and meets its SLOs."""
    if found := _validity_failures(judgement) or tuple(_slo_failures(judgement, "control")):
        raise GateFailedError(found)


def _validity_failures(judgement: Judgement) -> tuple[Failure, ...]:
    dead = f"{Gate.DEAD_REPLICA}: "
    return tuple(
        Failure(
            Gate.DEAD_REPLICA if reason.startswith(dead) else Gate.INVALID,
            reason.removeprefix(dead),
        )
        for reason in judgement.invalid_reasons
    )


def _verdict_failures(judgement: Judgement) -> Iterator[Failure]:
    primary = judgement.primary
    if primary is None:
        return
    if (gate := _gate(judgement, primary.verdict)) is not None:
        expected = "no difference" if gate is Gate.NOISE else _EXPECTED[judgement.scenario.expect]
        yield Failure(gate, f"expected {expected}, seen: {describe(primary)}")


def _gate(judgement: Judgement, verdict: Verdict) -> Gate | None:
    """The gate that the verdict fails. An arm against itself must be neither better nor worse."""
    if judgement.control == judgement.treatment:
        return Gate.NOISE if verdict in (Verdict.BETTER, Verdict.WORSE) else None
    gate = gate_of(verdict, judgement.scenario.expect)
    is_open = _may_be_worse(judgement) or _is_cut_off(judgement)
    if gate is None and verdict is not Verdict.BETTER and is_open:
        return Gate.INCONCLUSIVE
    return gate


def gate_of(verdict: Verdict, expect: Expectation) -> Gate | None:
    """The gate that a verdict on two arms fails; None where it is as expected."""
    if verdict is Verdict.WORSE:
        return Gate.WORSE
    if verdict is Verdict.BETTER or expect is Expectation.NOT_WORSE:
        return None
    return Gate.NOT_BETTER if verdict is Verdict.EQUIVALENT else Gate.INCONCLUSIVE


def _may_be_worse(judgement: Judgement) -> bool:
    """Whether runs of another tool leave open that the treatment is worse by more than 10 %.

    A comparison that is measured here looks again until it is decided, or its blocks are used up.
    """
    primary = judgement.primary
    if primary is None or primary.over == BLOCKS:
        return False
    if primary.low is None or primary.high is None:
        return True
    worst = (
        primary.high if primary.direction == "lower" else 1 / max(primary.low, sys.float_info.min)
    )
    return math.log(worst) > ALIKE


def _is_cut_off(judgement: Judgement) -> bool:
    """Whether a second measurement ended before a verdict: the first one's failure still stands."""
    primary = judgement.primary
    return judgement.round > 1 and primary is not None and primary.blocks not in LOOKS


def _slo_failures(judgement: Judgement, role: Role) -> Iterator[Failure]:
    for result in judgement.slos_of(role):
        if result.outcome is SloOutcome.MISSED:
            yield Failure(Gate.SLO_MISSED, describe_slo(result))


def describe(comparison: Comparison) -> str:
    """One comparison in words: `p95 of managed / baseline is 0.42 [0.31, 0.57], ...`."""
    pair = f"{comparison.metric} of {comparison.treatment} / {comparison.control}"
    if comparison.ratio is None:
        return f"{pair} has no ratio ({'; '.join(comparison.reasons)})"
    if comparison.low is None or comparison.high is None:
        return f"{pair} is {comparison.ratio:.2f} ({'; '.join(comparison.reasons)})"
    interval = f"{comparison.ratio:.2f} [{comparison.low:.2f}, {comparison.high:.2f}]"
    remarks = "".join(f"; {reason}" for reason in comparison.reasons)
    over = f"{comparison.blocks} {comparison.over}"
    return f"{pair} is {interval} over {over} ({comparison.verdict}){remarks}"


def describe_slo(result: SloResult) -> str:
    """One SLO result in words, with the objectives that were set."""
    set_ones = (("ttft", result.slo.ttft_s), ("tpot", result.slo.tpot_s), ("e2e", result.slo.e2e_s))
    limits = ", ".join(f"{name} ≤ {limit:g} s" for name, limit in set_ones if limit is not None)
    seen = "no" if result.attainment is None else f"{result.attainment:.1%}"
    tenant = f" for {result.tenant}" if result.tenant else ""
    requests = f"{result.arm}'s requests to {result.model}{tenant}"
    return f"expected {result.target:.0%} of {requests} to meet {limits}, seen: {seen}"


def outcome_of_gates(gates: Iterable[Gate]) -> Outcome:
    """The outcome of these gates, which did not hold; HELD for none."""
    return _gravest(_NO_FAILURE.get(gate, Outcome.FAILED) for gate in gates)


def outcome_of(judgement: Judgement) -> Outcome:
    """The outcome of one comparison, or of the objectives of one arm."""
    return outcome_of_gates(failure.gate for failure in gate_failures(judgement))


def gating(judgements: Sequence[Judgement]) -> tuple[Judgement, ...]:
    """The judgements that count: of a comparison that was measured once more, the later one."""
    latest = {_compared(one): one.round for one in judgements if one.round > 1}
    return tuple(one for one in judgements if one.round >= latest.get(_compared(one), 1))


def _compared(judgement: Judgement) -> tuple[object, ...]:
    return (judgement.scenario.name, judgement.models, judgement.treatment)


def overall(judgements: Sequence[Judgement]) -> Outcome:
    """The gravest outcome of those that count."""
    return _gravest(map(outcome_of, gating(judgements)))


def _gravest(outcomes: Iterable[Outcome]) -> Outcome:
    return max(outcomes, key=list(Outcome).index, default=Outcome.HELD)


def outcome_line(judgements: Sequence[Judgement]) -> str:
    """`outcome: undecided (3 held, 1 undecided)`, for the end of a run."""
    counts = Counter(map(outcome_of, gating(judgements)))
    each = ", ".join(f"{counts[one]} {one}" for one in Outcome if counts[one])
    return f"outcome: {overall(judgements)} ({each or 'nothing was measured'})"
