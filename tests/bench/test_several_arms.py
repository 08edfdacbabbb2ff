"""More than two arms in a run: their order, and what is judged of each treatment."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.blocks import group_blocks, order
from bench.analysis.gates import gating
from bench.analysis.judge import cases, is_decided, judge
from bench.analysis.judgement import Verdict
from bench.analysis.pairs import pairs_of
from bench.analysis.verdict import ALPHA
from bench.config.config import resolve
from bench.config.options import Options
from bench.errors import UserError
from bench.experiment.trial_order import Grid, SearchOrder, TrialOrder, role_order
from bench.records import Role, Trial, role_number, roles_for
from bench.store import TrialStore
from tests.bench.making import FACTS, INSTRUMENT, answered, paired, several, trial

ARMS = st.integers(2, 8)
BASE = (1.0, 1.1, 0.9, 1.0)
FAST = (0.3, 0.31, 0.3, 0.32)
NOISY = (0.3, 2.0, 1.0, 0.5)
SHARED = replace(FACTS, alpha=ALPHA / 3)
BUSY = replace(INSTRUMENT, foreign_cpu_share=0.9)


def shared(*arms_s: Sequence[float]) -> list[Trial]:
    return [replace(one, scenario=SHARED) for one in several(arms_s)]


@pytest.mark.parametrize("block", range(8))
def test_two_arms_run_abba_and_baab_as_ever(block: int) -> None:
    a, b = roles_for(2)
    assert order(block) == ((a, b, b, a), (b, a, a, b))[block % 2]


@given(ARMS, st.integers(0, 100))
def test_a_block_runs_all_arms_and_then_all_of_them_backwards(arms: int, block: int) -> None:
    ran = order(block, roles_for(arms))
    assert sorted(ran[:arms]) == sorted(roles_for(arms))
    assert ran == ran[::-1]


@given(ARMS, st.integers(0, 100))
def test_in_as_many_blocks_as_arms_each_stands_at_each_place_once(arms: int, first: int) -> None:
    rows = [order(block, roles_for(arms)) for block in range(first, first + arms)]
    for place in range(2 * arms):
        assert sorted(row[place] for row in rows) == sorted(roles_for(arms))


@given(ARMS)
def test_in_as_many_blocks_as_arms_each_follows_each_other_one_equally_often(arms: int) -> None:
    rows = [order(block, roles_for(arms)) for block in range(arms)]
    pairs = Counter(pair for row in rows for pair in itertools.pairwise(row) if len({*pair}) > 1)
    assert set(pairs) == set(itertools.permutations(roles_for(arms), 2))
    assert len(set(pairs.values())) == 1


@given(ARMS, st.integers(0, 2**31), st.booleans())
def test_all_arms_of_a_block_replay_both_schedules_and_turns(
    arms: int, seed: int, alternates: bool
) -> None:
    roles = role_order(roles_for(arms), seed, "latency", alternates=alternates)
    for block in range(4):
        planned = list(TrialOrder(roles).block(block))
        of_role = {
            role: sorted(
                (one.seed(seed, "latency"), one.turn) for one in planned if one.role == role
            )
            for role in roles_for(arms)
        }
        assert len(set(map(tuple, of_role.values()))) == 1
        assert len(set(of_role["control"])) == 2


@given(ARMS, st.integers(1, 6))
def test_each_pair_is_judged_as_if_only_its_two_arms_had_been_measured(
    arms: int, blocks: int
) -> None:
    arms_s = [[0.1 * (arm + 2) + 0.01 * block for block in range(blocks)] for arm in range(arms)]
    for treatment_s, pair in zip(arms_s[1:], pairs_of(several(arms_s)), strict=True):
        alone = judge(paired(arms_s[0], treatment_s))
        found = judge(pair)
        assert found.ratios == pytest.approx(alone.ratios)
        assert found.invalid_reasons == alone.invalid_reasons == ()
        assert all(block.complete for block in group_blocks(pair))


def test_the_trials_of_two_arms_are_left_as_they_are() -> None:
    made = paired(BASE, FAST)
    assert pairs_of(made) == (tuple(made),)


def test_each_treatment_has_a_verdict_and_shares_the_error_rate() -> None:
    fast, alike, slow = cases(shared(BASE, FAST, BASE, [3 * one for one in BASE]))
    seen = [one.judgement.primary for one in (fast, alike, slow)]
    assert [one.verdict for one in seen if one] == ["better", "equivalent", "worse"]
    assert [one.treatment for one in seen if one] == ["managed", "arm-2", "arm-3"]
    assert all(one.alpha == ALPHA / 3 for one in seen if one)
    note = "3 comparisons share the error rate of 1 %: 0.33 % each"
    assert all(note in one.judgement.notes for one in (fast, alike, slow))
    assert not any("share the error" in note for note in judge(paired(BASE, FAST)).notes)


@pytest.mark.parametrize(("others", "decided"), [((FAST, BASE), True), ((FAST, NOISY), False)])
def test_a_look_decides_once_every_treatment_is_decided(
    others: tuple[Sequence[float], ...], decided: bool
) -> None:
    assert is_decided(several([BASE, *others])) is decided


def disturb(trials: Sequence[Trial], block: int, role: Role) -> list[Trial]:
    """The trials, with other programs in that block while the arm in that role was measured."""
    return [
        replace(one, instrument=BUSY) if (one.block, one.role) == (block, role) else one
        for one in trials
    ]


def test_a_disturbed_block_is_set_aside_for_all_arms() -> None:
    calm = several([(*BASE, 1.0), (*FAST, 0.3), (*BASE, 1.0), (*BASE, 1.0)])
    for case in cases(disturb(calm, 2, "treatment-3")):
        assert list(case.judgement.ratios) == [0, 1, 3, 4]
        assert any("block 2 is set aside" in note for note in case.judgement.notes)


def test_without_enough_quiet_blocks_no_treatment_has_a_verdict() -> None:
    for case in cases(disturb(several([BASE, FAST, BASE, BASE]), 2, "treatment-3")):
        primary = case.judgement.primary
        assert primary is not None
        assert primary.verdict is Verdict.INVALID


def test_a_block_that_was_stopped_counts_for_no_arm() -> None:
    made = several([(*BASE, 1.0), (*FAST, 0.3), (*BASE, 1.0)])
    for case in cases([one for one in made if (one.block, one.position) != (4, 5)]):
        assert list(case.judgement.ratios) == [0, 1, 2, 3]
        assert "block 4 is left out: it has 5 of 6 trials" in case.judgement.notes


def test_a_search_finds_the_load_of_each_of_three_arms() -> None:
    grid = Grid(step=1.1, lowest=0.2, highest=2.0)
    roles = role_order(roles_for(3), 1, "capacity", alternates=False)
    truths = dict(zip(roles_for(3), (0.5, 0.7, 0.9), strict=True))
    facts = replace(
        SHARED, primary="carried_rps", metrics=("carried_rps",), search_step=1.1, slos=FACTS.slos
    )
    plan, made = SearchOrder(roles, grid, 0.7), []
    for block in range(4):
        for planned in plan.block(block):
            assert planned.level is not None
            load = grid.load(planned.level, block)
            ttft_s = 0.5 if load <= truths[planned.role] else 2.0
            sent = [answered(index, ttft_s) for index in range(40)]
            made.append(
                trial(
                    planned.role,
                    block,
                    planned.position,
                    sent,
                    scenario=facts,
                    offered_rps=100 * load,
                    due=roles(block),
                )
            )
            plan.record(planned, carried=ttft_s < 1.0)
    assert not plan.exhausted
    for truth, case in zip((0.7, 0.9), cases(made), strict=True):
        primary = case.judgement.primary
        assert primary is not None
        assert primary.ratio == pytest.approx(truth / 0.5, rel=0.06)
        assert primary.verdict is Verdict.BETTER


def test_what_is_measured_once_more_replaces_the_verdict_on_that_treatment_alone() -> None:
    first = cases(shared(BASE, FAST, NOISY))
    (again,) = cases([replace(one, round=2) for one in without("treatment", BASE, FAST, FAST)])
    counting = gating([one.judgement for one in (*first, again)])
    assert [(one.treatment, one.round) for one in counting] == [("managed", 1), ("arm-2", 2)]


def without(role: Role, *arms_s: Sequence[float]) -> list[Trial]:
    """The trials of a round in which the arm in that role was not measured."""
    kept = tuple(one for one in roles_for(len(arms_s)) if one != role)
    found: list[Trial] = []
    for one in shared(*arms_s):
        if one.role != role:
            due = order(one.block, kept)
            position = 0 if one.role == due[0] else 1
            seen = sum((one.block, one.role) == (other.block, other.role) for other in found)
            found.append(replace(one, due=due, position=position if not seen else 3 - position))
    return found


def test_stored_trials_keep_their_roles(tmp_path: Path) -> None:
    store, made = TrialStore(tmp_path), several([BASE, FAST, NOISY])
    for one in made:
        store.save(one)
    assert store.load_run() == made
    assert {one.role for one in store.load_run()} == set(roles_for(3))


@given(ARMS)
def test_roles_have_numbers_in_their_order(arms: int) -> None:
    assert list(map(role_number, roles_for(arms))) == list(range(arms))


@pytest.mark.parametrize("role", ["", "judge", "treatment-1", "treatment-02", "control-2"])
def test_what_is_no_role_has_no_number(role: str) -> None:
    with pytest.raises(ValueError, match="is no role"):
        role_number(role)


def resolved(tmp_path: Path, *arms: str) -> list[str]:
    config = resolve(Options(models=("tiny-llama",), arms=arms), tmp_path, "run")
    return [f"{role} {arm.name}" for role, arm in config.arms.items()]


def test_the_first_arm_is_the_control_and_all_others_are_treatments(tmp_path: Path) -> None:
    assert resolved(tmp_path, "managed", "managed", "cache-aware", "random") == [
        "control managed",
        "treatment managed",
        "treatment-2 cache-aware",
        "treatment-3 random",
    ]
    with pytest.raises(UserError, match="names treatment 'cache-aware' 2 times; name each once"):
        resolved(tmp_path, "managed", "cache-aware", "cache-aware")
