"""The error rates of the decision rule, by simulation of trials with known truth.

A request takes a lognormal time; each trial is faster or slower as a whole, for
requests of one trial are correlated. The numbers here never enter results.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from bench.analysis.blocks import order
from bench.analysis.estimates import t_interval
from bench.analysis.judgement import Verdict
from bench.analysis.verdict import (
    ALPHA,
    LOOKS,
    blocks_to_decide,
    decide,
    pooled_spread,
    smallest_factor,
    spread_of,
)
from bench.records import Role

pytestmark = pytest.mark.slow

Array = npt.NDArray[np.float64]

RUNS = 1500
INTERLEAVED = tuple(order(block) for block in range(LOOKS[-1]))


@dataclass(frozen=True)
class Noise:
    """Requests of a trial; the spread, in ln, of one request and of a whole trial."""

    requests: int
    request: float
    trial: float


# 300 requests an arm and block; a block's effect then spreads by 0.11, chosen so that a
# gain of 10 % is found in two of three runs, as the rule was designed for. What these
# tests say of power holds for that spread and not for any load.
CALM = Noise(requests=150, request=0.6, trial=0.03)
# 80 requests an arm and block, as in a short trial: it spreads by 0.26.
NOISY = Noise(requests=40, request=0.8, trial=0.08)


def effects(
    noise: Noise, roles: tuple[tuple[Role, ...], ...] = INTERLEAVED, drift: float = 0.0
) -> Array:
    """ln of the ratios of pooled p95 [runs, blocks] of arms that are the same.

    `roles` are the trials in the order they ran, four a block. `drift` is by how much,
    in ln, the machine gets slower from the first trial to the last.
    """
    random = np.random.default_rng(20260131)
    ran = np.array([role for block in roles for role in block])
    clock = drift * np.linspace(0, 1, ran.size)
    level = clock + random.normal(0, noise.trial, (RUNS, ran.size))
    spread = random.normal(0, noise.request, (RUNS, ran.size, noise.requests))
    times = level[..., None] + spread

    def p95(role: Role) -> Array:
        pooled = times[:, ran == role].reshape(RUNS, len(roles), -1)
        return np.asarray(np.log(np.quantile(np.exp(pooled), 0.95, axis=2)))

    return p95("treatment") - p95("control")


@pytest.fixture(scope="module")
def calm() -> Array:
    return effects(CALM)


@pytest.fixture(scope="module")
def noisy() -> Array:
    return effects(NOISY)


def share(seen: Array, verdict: Verdict) -> float:
    """How many of the runs end with that verdict."""
    return [_first_decided(run) for run in seen.tolist()].count(verdict) / len(seen)


def _first_decided(run: list[float]) -> Verdict:
    """What a run ends with: the first look that decides, else inconclusive."""
    looks = [decide(run[:look], "lower", ALPHA) for look in LOOKS if look <= len(run)]
    verdicts = [one.verdict for one in looks]
    return next((one for one in verdicts if one is not Verdict.INCONCLUSIVE), verdicts[-1])


@pytest.mark.parametrize("load", ["calm", "noisy"])
def test_an_arm_against_itself_is_rarely_told_apart(
    load: str, request: pytest.FixtureRequest
) -> None:
    """In at most 5 % of runs, and neither way round in more than 3.5 %."""
    seen = request.getfixturevalue(load)
    better, worse = share(seen, Verdict.BETTER), share(seen, Verdict.WORSE)
    assert better + worse <= 0.05
    assert max(better, worse) <= 0.035


@pytest.mark.parametrize("tails", [3, 30])
def test_so_it_is_whatever_the_shape_of_the_noise(tails: int) -> None:
    """Blocks that now and then are far off, as on a machine which others use as well."""
    random = np.random.default_rng(20260201)
    seen = 0.2 * random.standard_t(tails, (RUNS, LOOKS[-1]))
    assert share(seen, Verdict.BETTER) + share(seen, Verdict.WORSE) <= 0.05


def test_to_measure_once_more_what_fails_makes_a_false_alarm_rare(noisy: Array) -> None:
    """`worse` fails only when it is found twice, and `not better` likewise."""
    half = len(noisy) // 2
    first, second = (
        [_first_decided(run) for run in runs.tolist()] for runs in (noisy[:half], noisy[half:])
    )
    pairs = list(zip(first, second, strict=True))
    alarms = sum(one is other is Verdict.WORSE for one, other in pairs)
    assert alarms / half <= 0.005
    # Rounds are independent, so that a run of many comparisons seldom has a false alarm.
    assert 22 * share(noisy, Verdict.WORSE) ** 2 <= 0.03
    # Where `better` was expected of an arm that is the same, the second chance may pass it.
    passed = sum(Verdict.BETTER in pair for pair in pairs)
    assert passed / half <= 0.06


def test_to_set_disturbed_blocks_aside_bends_nothing() -> None:
    """A disturbance slows both arms, is seen in half of the cases, and costs the block then."""
    random = np.random.default_rng(20260202)
    measured = 3 * LOOKS[-1]
    disturbed = random.random((RUNS, measured)) < 0.3
    spread = np.where(disturbed, 0.5, 0.15)
    effects_seen = random.normal(0.0, spread)
    noticed = disturbed & (random.random((RUNS, measured)) < 0.5)
    kept = np.array(
        [run[~gone][: LOOKS[-1]] for run, gone in zip(effects_seen, noticed, strict=True)]
    )
    better, worse = share(kept, Verdict.BETTER), share(kept, Verdict.WORSE)
    assert better + worse <= 0.05
    assert abs(better - worse) <= 0.02
    real = share(kept + np.log(0.6), Verdict.BETTER)
    assert real >= 0.97


@pytest.mark.parametrize("blocks", [8, 16])
def test_what_a_run_can_find_is_found_as_often_as_it_says(blocks: int) -> None:
    random = np.random.default_rng(20260203)
    spread = 0.2
    effect = np.log(smallest_factor(spread, blocks, ALPHA))
    seen = random.normal(effect, spread, (RUNS, blocks))
    # Earlier looks add a little.
    assert 0.88 <= share(seen, Verdict.WORSE) <= 0.97


def test_so_many_blocks_as_are_said_to_decide_do_decide() -> None:
    ratios = np.exp(np.array([-0.3, 0.1, -0.2, 0.0, -0.25, 0.05, -0.1, -0.1])).tolist()
    blocks = blocks_to_decide(ratios, ALPHA)
    assert blocks is not None
    mean, spread = float(np.mean(np.log(ratios))), spread_of(ratios)
    assert spread is not None

    def excludes_one(count: int) -> bool:
        """Of so many blocks with exactly this mean and spread."""
        half = float(stdtrit(count - 1, 1 - ALPHA / 2)) * spread / np.sqrt(count)
        return bool(mean + half < 0)

    assert excludes_one(blocks)
    assert not excludes_one(blocks - 1)


def test_arms_that_are_alike_are_decided_as_well() -> None:
    alike = np.exp(np.array([0.02, -0.02, 0.03, -0.03])).tolist()
    assert blocks_to_decide(alike, ALPHA) is not None
    assert blocks_to_decide([1.3], ALPHA) is None


@given(st.lists(st.tuples(st.floats(0.01, 2), st.integers(2, 30)), min_size=1, max_size=10))
def test_the_noise_of_several_runs_lies_between_theirs(runs: list[tuple[float, int]]) -> None:
    pooled = pooled_spread(runs)
    assert pooled is not None
    lowest, highest = min(runs)[0], max(runs)[0]
    assert lowest * 0.999 <= pooled <= highest * 1.001
    assert pooled_spread([]) is None


def test_a_gain_of_a_fifth_is_nearly_always_found(calm: Array) -> None:
    assert share(calm + np.log(0.8), Verdict.BETTER) >= 0.95


def test_a_loss_of_a_quarter_is_nearly_always_found(calm: Array) -> None:
    assert share(calm + np.log(1.25), Verdict.WORSE) >= 0.95


def test_a_real_difference_is_hardly_ever_found_the_wrong_way_round(noisy: Array) -> None:
    assert share(noisy + np.log(0.8), Verdict.WORSE) <= 0.005


@pytest.mark.parametrize("blocks", LOOKS)
def test_the_interval_of_one_look_holds_the_truth_as_often_as_it_says(
    noisy: Array, blocks: int
) -> None:
    truth = float(np.log(0.9))
    intervals = [t_interval(run, ALPHA) for run in (noisy[:, :blocks] + truth).tolist()]
    held = [one is not None and one.low <= truth <= one.high for one in intervals]
    # Three standard errors of so many runs are 0.008.
    assert sum(held) / len(held) == pytest.approx(1 - ALPHA, abs=0.01)


def test_interleaving_cancels_a_drift_that_would_otherwise_be_the_effect() -> None:
    """The machine gets faster by a quarter in the run, and the arms are the same."""
    in_turn: tuple[tuple[Role, ...], ...] = (
        *(("control",) * 4,) * 2,
        *(("treatment",) * 4,) * 2,
    )
    drifting = effects(CALM, INTERLEAVED[:4], drift=-0.3)
    assert share(drifting, Verdict.BETTER) <= 0.04
    assert share(drifting, Verdict.WORSE) <= 0.04
    assert share(effects(CALM, in_turn, drift=-0.3), Verdict.BETTER) >= 0.15


@pytest.mark.parametrize("block", range(4))
def test_within_each_block_both_arms_have_the_same_mean_place(block: int) -> None:
    places: dict[Role, int] = {"control": 0, "treatment": 0}
    for place, role in enumerate(order(block)):
        places[role] += place
    assert places["control"] == places["treatment"]


def test_the_arm_that_goes_first_alternates() -> None:
    assert [order(block)[0] for block in range(4)] == [
        "control",
        "treatment",
        "control",
        "treatment",
    ]
