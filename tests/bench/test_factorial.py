"""Two factors in one run: the four arms, and what is concluded on each factor."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.factorial import (
    CELLS,
    Cell,
    Effects,
    Factor,
    Factorial,
    Interaction,
    Logs,
    effects,
    factors_of,
)
from bench.analysis.judge import cases, factorial_of, is_decided
from bench.analysis.judgement import Verdict
from bench.analysis.verdict import ALPHA, LOOKS
from bench.config.config import Config, resolve
from bench.config.factors import parse_factor
from bench.config.options import Options
from bench.config.topology import DEFAULT_TOPOLOGY
from bench.errors import UserError
from bench.records import Trial
from bench.store import TrialStore, results_json
from reports.effects import findings, notes_of
from tests.bench.making import INSTRUMENT, measured_factors, several

FACTORS = (Factor("width", ("4", "8")), Factor("policy", ("turn", "queue")))
OPPOSITE = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
SHARED = ALPHA / 3

numbers = st.floats(-1, 1)
blocks = st.lists(st.fixed_dictionaries(dict.fromkeys(CELLS, numbers)), min_size=4, max_size=4)


def found(logs: Sequence[Logs], factors: tuple[Factor, Factor] = FACTORS) -> Effects:
    return effects(factors, logs, "lower", SHARED)


def constant(width: float, policy: float, interaction: float = 0.0) -> list[Logs]:
    """Blocks of different levels, in each of which the factors have exactly these effects."""
    each = {cell: width * cell[0] + policy * cell[1] for cell in CELLS}
    each[1, 1] += interaction
    return [{cell: level + value for cell, value in each.items()} for level in (0, 1, 2, 3)]


@given(numbers, numbers, numbers)
def test_constant_effects_are_recovered(width: float, policy: float, interaction: float) -> None:
    seen = found(constant(width, policy, interaction))
    wanted = [
        *(width + interaction / 2, policy + interaction / 2, interaction),
        *(width, width + interaction, policy, policy + interaction),
    ]
    ratios = [one.ratio for one in (*seen.main, seen.interaction, *seen.simple)]
    assert ratios == pytest.approx([math.exp(one) for one in wanted])


@given(numbers, numbers)
def test_effects_that_add_up_have_no_interaction(width: float, policy: float) -> None:
    seen = found(constant(width, policy))
    assert seen.interaction.ratio == pytest.approx(1.0)
    assert seen.interaction.verdict is Interaction.EXCLUDED


@given(blocks)
def test_swapping_the_factors_swaps_their_effects(logs: list[dict[Cell, float]]) -> None:
    turned = [{(b, a): one[a, b] for a, b in CELLS} for one in logs]
    seen, other = found(logs), found(turned, FACTORS[::-1])
    assert other.main == seen.main[::-1]
    assert other.simple == (*seen.simple[2:], *seen.simple[:2])
    assert replace(other.interaction, factor="") == replace(seen.interaction, factor="")


@given(blocks)
def test_swapping_the_levels_of_a_factor_mirrors_its_effects(
    logs: list[dict[Cell, float]],
) -> None:
    width = Factor("width", ("8", "4"))
    turned = [{(1 - a, b): one[a, b] for a, b in CELLS} for one in logs]
    seen, other = found(logs), found(turned, (width, FACTORS[1]))
    for one, mirrored in (
        (seen.main[0], other.main[0]),
        (seen.simple[0], other.simple[0]),
        (seen.simple[1], other.simple[1]),
    ):
        assert one.ratio is not None
        assert mirrored.ratio == pytest.approx(1 / one.ratio)
        assert mirrored.low == pytest.approx(1 / (one.high or 1))
        assert isinstance(one.verdict, Verdict)
        assert mirrored.verdict is OPPOSITE.get(one.verdict, one.verdict)
    assert other.main[1] == seen.main[1]
    assert set(other.simple[2:]) == set(seen.simple[2:])
    assert other.interaction.verdict is seen.interaction.verdict


def test_a_block_without_a_finite_value_leaves_its_effects_open() -> None:
    logs = [*constant(0.5, -0.5)[:3], {**constant(0.5, -0.5)[3], (1, 1): None}]
    seen = found(logs)
    assert [one.verdict for one in seen.main] == [Verdict.INCONCLUSIVE] * 2
    assert seen.interaction.verdict is Interaction.UNDECIDED
    assert seen.simple[0].verdict is Verdict.WORSE, "it does not rest on that arm"


@pytest.mark.slow
@pytest.mark.parametrize("truth", [(0.0, 0.0, 0.0), (math.log(0.6), 0.0, 0.0)])
def test_no_effect_is_seldom_taken_for_one(truth: tuple[float, float, float]) -> None:
    """Over all looks, of any of the three in at most 5 % of runs, as of a pair of arms.

    A factor that does much does not make the other one seem to.
    """
    random, runs = np.random.default_rng(20260301), 600
    base = constant(*truth)[0]
    alarms = {"width": 0, "policy": 0, "interaction": 0, "any": 0}
    for _ in range(runs):
        noise = random.normal(0, 0.2, (LOOKS[-1], len(CELLS)))
        logs = [
            {cell: (base[cell] or 0.0) + float(one[place]) for place, cell in enumerate(CELLS)}
            for one in noise
        ]
        seen = set[str]()
        for look in LOOKS:
            at = found(logs[:look])
            shown = {
                "width": at.main[0].verdict in OPPOSITE,
                "policy": at.main[1].verdict in OPPOSITE,
                "interaction": at.interaction.verdict is Interaction.SHOWN,
            }
            seen |= {name for name, alarm in shown.items() if alarm}
        if truth[0]:
            assert "width" in seen
            seen.discard("width")
        for name in seen:
            alarms[name] += 1
        alarms["any"] += bool(seen)
    assert max(alarms[name] for name in ("width", "policy", "interaction")) <= 0.03 * runs
    assert alarms["any"] <= 0.05 * runs


def judged(trials: Sequence[Trial]) -> Factorial:
    seen = factorial_of(trials)
    assert seen is not None
    return seen


def test_the_trials_of_four_arms_give_the_effects_of_their_factors() -> None:
    seen = judged(measured_factors(0.8, 0.4, 0.4, 0.2))
    assert seen.factors == FACTORS
    assert seen.arms == ("baseline", "managed", "arm-2", "arm-3")
    assert [round(one.ratio or 0, 3) for one in seen.main] == [0.5, 0.5]
    assert [one.verdict for one in seen.main] == [Verdict.BETTER, Verdict.BETTER]
    assert seen.separable
    assert seen.decided
    assert (seen.blocks, seen.alpha) == (4, SHARED)


def test_what_is_no_factorial_has_no_effects() -> None:
    trials = measured_factors(0.8, 0.4, 0.4, 0.2)
    assert factors_of(several([[1.0], [1.0], [1.0], [1.0]])) is None
    assert factors_of([one for one in trials if one.role != "treatment-2"]) is None
    assert factorial_of([one for one in trials if one.block == 0 and one.position < 3]) is None


def test_a_look_decides_once_every_effect_is_decided() -> None:
    """Each pair is decided, and yet it is open how one factor depends on the other."""
    alike = measured_factors(0.8, 0.4, 0.4, 0.2)
    assert is_decided(alike)
    factor = {0: 1.0, 1: 1.25, 2: 0.85, 3: 1.1}
    noisy = [
        replace(
            one,
            samples=tuple(
                replace(
                    sample,
                    first_token_s=sample.scheduled_s
                    + ((sample.first_token_s or 0) - sample.scheduled_s) * factor[one.block],
                )
                for sample in one.samples
            ),
        )
        if one.role == "treatment-3"
        else one
        for one in alike
    ]
    verdicts = [case.judgement.primary for case in cases(noisy)]
    assert all(one is not None and one.verdict is Verdict.BETTER for one in verdicts)
    assert judged(noisy).interaction.verdict is Interaction.UNDECIDED
    assert not is_decided(noisy)


def test_what_disturbs_one_arm_leaves_no_effect_valid() -> None:
    trials = [
        replace(one, instrument=replace(INSTRUMENT, foreign_cpu_share=0.9))
        if (one.role, one.block) == ("treatment-3", 1)
        else one
        for one in measured_factors(0.8, 0.4, 0.4, 0.2)
    ]
    seen = judged(trials)
    assert {one.verdict for one in (*seen.main, *seen.simple)} == {Verdict.INVALID}
    assert seen.interaction.verdict is Interaction.INVALID
    (only,) = findings(seen)
    assert only.startswith("Nothing is concluded on width x policy: CPU time of other processes")


def test_no_factor_is_credited_with_what_the_other_one_gives() -> None:
    """Without an interaction a main effect holds anywhere; else the simple effects are named."""
    width, policy, both = findings(judged(measured_factors(0.8, 0.8, 0.4, 0.4)))
    assert width == (
        "width: 8 is better than 4, Scheduled TTFT p95 0.50 [0.50, 0.50] times as high, at either"
        " level of policy."
    )
    assert policy.startswith("policy: queue is equivalent to turn")
    assert both.startswith("The factors do not depend on each other")
    width, policy, both = findings(judged(measured_factors(0.8, 0.4, 0.8, 0.8)))
    assert "on average over the levels of policy: 1.00 [1.00, 1.00] at turn, 2.00" in width
    assert "on average over the levels of width: 0.50 [0.50, 0.50] at 4, 1.00" in policy
    assert both.startswith("The factors depend on each other")


def test_levels_are_stored_and_other_trials_are_stored_as_before(tmp_path: Path) -> None:
    store, trials = TrialStore(tmp_path), measured_factors(0.8, 0.4, 0.4, 0.2)
    for one in trials:
        store.save(one)
    assert judged(store.load_run()) == judged(trials)
    plain = json.loads(store.save(replace(trials[0], run_id="other", levels={})).read_bytes())
    assert "levels" not in plain


def test_programs_get_every_effect(tmp_path: Path) -> None:
    trials = measured_factors(0.8, 0.4, 0.4, 0.2)
    judgements = [case.judgement for case in cases(trials)]
    written = json.loads(results_json(tmp_path, judgements, {}, [judged(trials)]))
    (one,) = written["factorials"]
    assert [effect["factor"] for effect in one["main"]] == ["width", "policy"]
    assert [(effect["factor"], effect["at"]) for effect in one["simple"]] == [
        ("width", "turn"),
        ("width", "queue"),
        ("policy", "4"),
        ("policy", "8"),
    ]
    assert one["interaction"]["verdict"] == "excluded"
    assert "factorials" not in json.loads(results_json(tmp_path, judgements, {}))


def made(tmp_path: Path, *factors: str, **options: Any) -> Config:
    given = Options(models=("tiny-llama",), factorial=tuple(map(parse_factor, factors)))
    return resolve(replace(given, **options), tmp_path, "run")


WIDTH, POLICY, KVCACHED = (
    "max_num_seqs=4,8",
    "policy=round-robin,queue-aware",
    "engine=vanilla,kvcached",
)


def test_two_factors_make_four_arms(tmp_path: Path) -> None:
    config = made(tmp_path, WIDTH, POLICY)
    assert {role: arm.name for role, arm in config.arms.items()} == {
        "control": "max-num-seqs-4-round-robin",
        "treatment": "max-num-seqs-4-queue-aware",
        "treatment-2": "max-num-seqs-8-round-robin",
        "treatment-3": "max-num-seqs-8-queue-aware",
    }
    assert config.levels["treatment-2"] == {"max_num_seqs": "8", "policy": "round-robin"}
    assert [arm.engine.max_num_seqs for arm in config.arms.values()] == [4, 4, 8, 8]
    ports = {arm.port for arm in config.topology.arms.values()}
    assert len(ports) == len(config.topology.arms), "each has a port of its own"
    assert set(config.arms.values()) <= set(config.topology.arms.values())
    assert config.max_num_seqs == 4


def test_engines_with_and_without_kvcached_are_a_factor_on_gpus(tmp_path: Path) -> None:
    config = made(tmp_path, KVCACHED, POLICY, env="docker", models=("llama-3.1-8b",))
    assert [arm.kvcached for arm in config.arms.values()] == [False, False, True, True]
    assert [arm.name for arm in config.arms.values()] == [
        *("vanilla-round-robin", "vanilla-queue-aware"),
        *("kvcached-round-robin", "kvcached-queue-aware"),
    ]


def test_on_kubernetes_the_arms_are_those_that_have_manifests(tmp_path: Path) -> None:
    on: dict[str, Any] = {"env": "k8s", "models": ("llama-3.1-8b",)}
    policies = "policy=round-robin,cache-aware"
    with pytest.raises(
        UserError, match="no manifests for an arm like kvcached-round-robin: add it"
    ):
        made(tmp_path, KVCACHED, policies, **on)
    text = DEFAULT_TOPOLOGY.read_text(encoding="utf-8")
    added = (
        "arms:\n  one: {policy: cache-aware, kvcached: true, port: 9001}\n"
        "  other: {policy: round-robin, kvcached: true, port: 9002}\n"
    )
    file = tmp_path / "topology.yaml"
    file.write_text(text.replace("arms:\n", added, 1), encoding="utf-8")
    config = made(tmp_path, KVCACHED, policies, **on, topology=file)
    assert [arm.name for arm in config.arms.values()] == ["simple", "cache-aware", "other", "one"]


@pytest.mark.parametrize(
    ("factors", "options", "message"),
    [
        ((KVCACHED, POLICY), {}, "engine needs GPUs: KVCached needs CUDA, and on CPUs both levels"),
        (("max_num_seqs=4,8,16", POLICY), {}, "takes two levels of each factor, seen max_num_seqs"),
        (("max_num_seqs=4,4", POLICY), {}, "takes two levels of each factor"),
        (("max_num_seqs=4,04", POLICY), {}, "both levels of max_num_seqs are 4"),
        (("max_num_seqs=4,x", POLICY), {}, "max_num_seqs takes a whole number from 1, seen 'x'"),
        ((WIDTH, WIDTH), {}, "names max_num_seqs twice"),
        ((WIDTH, "policy=round-robin,best"), {}, "policy 'best' is not known; known: round-robin"),
        (("speed=1,2", POLICY), {}, "no factor 'speed'; known: engine, policy, max_model_len"),
        ((WIDTH, POLICY), {"arms": ("baseline", "managed")}, "leave out --arms"),
        (
            (WIDTH, POLICY),
            {"env": "external", "endpoints": "http://a:1", "models": ("m",)},
            "engines of --env external run already",
        ),
    ],
)
def test_what_cannot_be_a_factor_is_one_line(
    tmp_path: Path, factors: tuple[str, ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        made(tmp_path, *factors, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["policy", "=a,b", "policy=", "policy=a,", ""])
def test_what_is_no_factor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        parse_factor(text)


def test_starts_of_engines_are_told_with_the_effects(tmp_path: Path) -> None:
    """Each arm has engines of its own, started once: how much starts differ is not known."""
    trials = [replace(one, engines=one.role) for one in measured_factors(0.8, 0.4, 0.6, 0.6)]
    shared = factorial_of(measured_factors(0.8, 0.4, 0.6, 0.6))
    own = factorial_of(trials)
    assert shared is not None
    assert own is not None
    assert shared.notes == ()
    counted, limit = own.notes
    assert counted.startswith("starts of engines: 1 of control baseline, 1 of treatment managed, 1")
    assert "the interval does not cover it" in limit
    assert notes_of(own)[:2] == [counted, limit]
    stored = json.loads(results_json(tmp_path / "x", [], {}, [own]))["factorials"]
    assert stored[0]["notes"] == [counted, limit]
