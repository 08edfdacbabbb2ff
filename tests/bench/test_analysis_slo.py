import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.conclude import slo_result
from bench.analysis.judgement import SloOutcome, SloResult
from bench.records import Expectation, ScenarioFacts, Slo


def result(shares: list[float], target: float = 0.9, **objectives: float) -> SloResult:
    slo = Slo(**(objectives or {"ttft_s": 1.0}), attainment=target)
    facts = ScenarioFacts(
        "latency", "ttft_p95_s", ("ttft_p95_s",), Expectation.NOT_WORSE, {"tiny-llama": slo}
    )
    return slo_result(facts, "tiny-llama", "treatment", "managed", shares)


@pytest.mark.parametrize(
    ("shares", "outcome"),
    [
        ([0.99, 0.98, 0.99, 0.98], SloOutcome.MET),
        ([0.50, 0.52, 0.49, 0.51], SloOutcome.MISSED),
        ([0.85, 0.95, 0.80, 0.97], SloOutcome.UNDECIDED),
        ([0.90, 0.90, 0.90, 0.90], SloOutcome.MET),
        ([0.0, 0.0, 0.0, 0.0], SloOutcome.MISSED),
        ([0.0], SloOutcome.MISSED),
        ([0.5], SloOutcome.UNDECIDED),
        ([1.0], SloOutcome.UNDECIDED),
        ([], SloOutcome.UNDECIDED),
    ],
)
def test_an_outcome_needs_the_whole_interval_on_its_side(
    shares: list[float], outcome: SloOutcome
) -> None:
    assert result(shares).outcome is outcome


def test_a_target_of_everything_can_be_met() -> None:
    assert result([1.0] * 4, target=1.0).outcome is SloOutcome.MET


def test_nothing_measured_has_no_attainment() -> None:
    seen = result([])
    assert (seen.attainment, seen.low, seen.high) == (None, None, None)


shares = st.lists(st.floats(0, 1), min_size=2, max_size=10)


@given(shares)
def test_attainment_and_its_interval_are_shares(seen: list[float]) -> None:
    judged = result(seen)
    assert judged.attainment is not None
    assert judged.low is not None
    assert judged.high is not None
    assert 0 <= judged.low <= judged.attainment <= judged.high <= 1


@given(shares, st.floats(0.01, 1), st.floats(0.01, 1))
def test_what_meets_a_target_meets_any_lower_one(
    seen: list[float], target: float, other: float
) -> None:
    low, high = sorted((target, other))
    if result(seen, target=high).outcome is SloOutcome.MET:
        assert result(seen, target=low).outcome is SloOutcome.MET
    if result(seen, target=low).outcome is SloOutcome.MISSED:
        assert result(seen, target=high).outcome is SloOutcome.MISSED


@pytest.mark.parametrize("truth", [0.5, 0.89])
def test_noise_rarely_turns_a_miss_into_a_success(truth: float) -> None:
    random = np.random.default_rng(3)
    blocks = np.clip(random.normal(truth, 0.05, (1000, 4)), 0, 1)
    met = [result(run).outcome is SloOutcome.MET for run in blocks.tolist()]
    assert sum(met) / len(met) <= 0.02
