"""The error rates of the decision rule, by simulation of trials with known truth.

A request takes a lognormal time; each trial is faster or slower as a whole, for
requests of one trial are correlated. The numbers here never enter results.
"""

import numpy as np
import numpy.typing as npt
import pytest

from bench.analysis.compare import order
from bench.analysis.interval import t_interval
from bench.analysis.verdict import ALPHA, LOOKS, decide
from bench.records import Verdict

Array = npt.NDArray[np.float64]

RUNS = 2000
REQUESTS = 60
TRIAL_SPREAD = 0.08


def effects(
    *,
    runs: int = RUNS,
    blocks: int = 10,
    ratio: float = 1.0,
    drift: float = 0.0,
    paired: bool = True,
) -> Array:
    """ln of p95 ratios [runs, blocks], two trials an arm and block pooled.

    `drift` is how much slower, in ln, the machine gets from the first trial to the last.
    """
    random = np.random.default_rng(20260131)
    schedule = [order(block) for block in range(blocks)]
    if not paired:
        flat = ["control"] * 2 * blocks + ["treatment"] * 2 * blocks
    else:
        flat = [role for block in schedule for role in block]
    clock = drift * np.linspace(0, 1, 4 * blocks)
    level = clock + random.normal(0, TRIAL_SPREAD, (runs, 4 * blocks))
    times = np.exp(level[..., None] + random.normal(0, 0.8, (runs, 4 * blocks, REQUESTS)))
    values = {
        role: np.quantile(
            times[:, [place for place, one in enumerate(flat) if one == role]].reshape(
                runs, blocks, 2 * REQUESTS
            ),
            0.95,
            axis=2,
        )
        for role in ("control", "treatment")
    }
    return np.asarray(np.log(ratio * values["treatment"] / values["control"]))


def verdicts(seen: Array) -> list[Verdict]:
    """What each run ends with: the first look that decides, else the last one."""
    return [_first_decided(run) for run in seen.tolist()]


def _first_decided(run: list[float]) -> Verdict:
    verdict = Verdict.INCONCLUSIVE
    for look in (look for look in LOOKS if look <= len(run)):
        verdict = decide(run[:look], "lower", ALPHA, ALPHA).verdict
        if verdict is not Verdict.INCONCLUSIVE:
            break
    return verdict


def share(seen: list[Verdict], verdict: Verdict) -> float:
    return seen.count(verdict) / len(seen)


def test_an_arm_against_itself_is_rarely_better_and_rarely_worse() -> None:
    seen = verdicts(effects())
    assert share(seen, Verdict.BETTER) <= 0.04
    assert share(seen, Verdict.WORSE) <= 0.04


def test_a_gain_of_a_fifth_is_nearly_always_found() -> None:
    assert share(verdicts(effects(ratio=0.8)), Verdict.BETTER) >= 0.95


def test_a_loss_of_a_quarter_is_nearly_always_found() -> None:
    assert share(verdicts(effects(ratio=1.25)), Verdict.WORSE) >= 0.95


@pytest.mark.parametrize("blocks", [4, 10])
def test_the_interval_of_one_look_holds_the_truth_as_often_as_it_says(blocks: int) -> None:
    truth = np.log(0.9)
    intervals = [t_interval(run, ALPHA) for run in effects(blocks=blocks, ratio=0.9).tolist()]
    held = [one is not None and one.low <= truth <= one.high for one in intervals]
    # 98 % nominal; three standard errors of 2000 runs are 0.9 %.
    assert sum(held) / len(held) == pytest.approx(1 - ALPHA, abs=0.01)


def test_interleaving_cancels_a_drift_that_would_otherwise_be_the_effect() -> None:
    """A machine that warms up by 30 % in the run, and arms that are the same."""
    interleaved = verdicts(effects(drift=-0.3))
    one_after_the_other = verdicts(effects(drift=-0.3, paired=False))
    assert share(interleaved, Verdict.BETTER) <= 0.04
    assert share(interleaved, Verdict.WORSE) <= 0.04
    assert share(one_after_the_other, Verdict.BETTER) >= 0.4


@pytest.mark.parametrize("block", [0, 1, 7])
def test_each_blocks_order_gives_both_arms_the_same_mean_place(block: int) -> None:
    places = {"control": 0, "treatment": 0}
    for place, role in enumerate(order(block)):
        places[role] += place
    assert places["control"] == places["treatment"]
    assert order(block) == order(block + 1)[::-1][::-1] or order(block) != order(block + 1)
