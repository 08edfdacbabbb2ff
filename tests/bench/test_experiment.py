from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.experiment.capacity import Capacity, pace_rps, settled
from bench.experiment.experiment import time_left
from bench.experiment.trial import affected_replicas, split_samples
from bench.experiment.trial_order import (
    BOTH,
    CONTROL,
    PlannedTrial,
    TrialOrder,
    drawn_order,
    role_order,
)
from bench.records import Replica, Role
from lb.http.endpoint import parse_targets
from tests.bench.making import answered


def trials(blocks: int, roles: tuple[Role, ...] = BOTH) -> list[PlannedTrial]:
    order = TrialOrder(role_order(roles, alternates=False, run_seed=1, question="latency"))
    return [trial for block in range(blocks) for trial in order.block(block)]


@given(st.integers(1, 12))
def test_every_block_runs_each_arm_twice_in_mirrored_order(blocks: int) -> None:
    for block in range(blocks):
        roles = [trial.role for trial in trials(blocks) if trial.block == block]
        assert sorted(roles) == ["control", "control", "treatment", "treatment"]
        assert roles == roles[::-1]


def test_consecutive_blocks_begin_with_different_arms() -> None:
    first = [trial.role for trial in trials(4) if trial.position == 0]
    assert first == ["control", "treatment", "control", "treatment"]


@given(st.integers(0, 2**31))
def test_where_arms_alternate_each_block_is_mirrored_in_a_drawn_order(seed: int) -> None:
    def ran(block: int) -> list[Role]:
        roles = role_order(BOTH, alternates=True, run_seed=seed, question="latency tiny-llama")
        return [trial.role for trial in TrialOrder(roles).block(block)]

    for block in range(4):
        assert (
            ran(block) == ran(block)[::-1] == list(drawn_order(seed, "latency tiny-llama", block))
        )
    first = [drawn_order(seed, "latency tiny-llama", block)[0] for block in range(64)]
    assert 10 < first.count("control") < 54


def test_control_alone_takes_one_trial_a_block() -> None:
    assert [trial.role for trial in trials(4, CONTROL)] == ["control"] * 4


@given(st.integers(0, 2**31))
def test_both_arms_of_a_block_replay_the_same_two_schedules(seed: int) -> None:
    def seeds(role: Role, block: int) -> list[int]:
        chosen = [trial for trial in trials(4) if (trial.role, trial.block) == (role, block)]
        return sorted(trial.seed(seed, "latency tiny-llama") for trial in chosen)

    every = [seed for block in range(4) for seed in seeds("control", block)]
    assert every == [seed for block in range(4) for seed in seeds("treatment", block)]
    assert len(set(every)) == 8


def test_schedules_differ_between_questions_and_runs() -> None:
    trial = trials(1)[0]
    assert trial.seed(1, "a") == trial.seed(1, "a")
    assert len({trial.seed(1, "a"), trial.seed(1, "b"), trial.seed(2, "a")}) == 3


@pytest.mark.parametrize(
    ("elapsed_s", "done", "text"),
    [(0.0, 0, ""), (20.0, 2, ", at most 60 s left"), (100.0, 2, ", at most 5 min left")],
)
def test_time_left_is_told_from_the_pace_so_far(elapsed_s: float, done: int, text: str) -> None:
    assert time_left(elapsed_s, done, 8) == text


@given(st.floats(0.3, 200), st.floats(0, 1), st.floats(4, 12))
def test_capacity_is_the_pace_at_which_a_full_replica_begins_requests(
    rps: float, first: float, until_s: float
) -> None:
    begun_s = [(first + index) / rps for index in range(math.ceil(rps * until_s))]
    # Of slow replicas a few requests, and then their number is all that is known.
    assert pace_rps(begun_s, 1.0, until_s) == pytest.approx(rps, rel=0.001 if rps > 2 else 1.0)


def test_capacity_does_not_depend_on_where_in_the_mix_the_time_was_up() -> None:
    """Every 20 requests take two seconds, however that is shared out among them."""
    costs_s = [1.81, *[0.01] * 19]
    begun_s = list(itertools.accumulate(costs_s * 5))
    for end_s in (5.0, 6.0, 7.9, 8.1):
        assert pace_rps(begun_s, 0.0, end_s) == pytest.approx(10.0)


@given(st.floats(0, 2.9), st.integers(2, 60))
def test_a_burst_after_the_client_stood_still_is_no_pace(at_s: float, count: int) -> None:
    begun_s = [1.0 + at_s + 1e-4 * index for index in range(count)]
    assert pace_rps(begun_s, 1.0, 4.0) == pytest.approx(count / 3.0)


def test_capacity_is_known_when_two_runs_in_a_row_are_alike() -> None:
    assert not settled([100.0])
    assert not settled([100.0, 90.0])
    assert not settled([100.0, 99.0, 90.0])
    assert settled([80.0, 100.0, 98.0])


@given(st.floats(0.1, 1000), st.floats(1, 100), st.integers(1, 64))
def test_closed_loop_has_requests_for_twice_the_capacity(
    rps: float, duration_s: float, in_flight: int
) -> None:
    count = Capacity(rps, max_num_seqs=8).requests_for(duration_s, in_flight)
    assert count >= in_flight + 2 * rps * duration_s


def test_samples_carry_the_names_of_replicas_instead_of_addresses() -> None:
    replicas = (Replica("m", "m-0", "http://127.0.0.1:8100"),)
    samples = [
        answered(0, 0.1, replica="127.0.0.1:8100"),
        answered(1, 0.1, replica="elsewhere:1"),
        answered(2, 0.1, replica=None),
    ]
    served, bypassed = split_samples(samples, replicas, (), {})
    assert [one.replica for one in served] == ["m-0", "elsewhere:1", None]
    assert not bypassed


REPLICAS = tuple(
    Replica(model, f"{model}-{index}", f"http://127.0.0.1:{port}")
    for port, (model, index) in enumerate((("a", 0), ("a", 1), ("b", 0), ("a", 2), ("b", 1)), 1)
)


@given(st.integers(0, 100))
def test_one_replica_of_each_model_is_affected_and_each_has_its_turn(turn: int) -> None:
    for model, count in (("a", 3), ("b", 2)):
        turns = [affected_replicas(REPLICAS, turn + step)[model].name for step in range(count)]
        assert sorted(turns) == [f"{model}-{index}" for index in range(count)]


@pytest.mark.parametrize("block", range(4))
def test_both_arms_meet_both_turns_of_a_block(block: int) -> None:
    turns = {
        role: [trial.turn for trial in trials(4) if (trial.role, trial.block) == (role, block)]
        for role in BOTH
    }
    assert sorted(turns["control"]) == sorted(turns["treatment"]) == [block, block + 1]


@pytest.mark.parametrize(
    "url", ["http://h:8100", "http://h", "https://h.example/openai", "https://[::1]:9443/a/b"]
)
def test_a_replica_is_known_by_the_name_that_balancers_give_it(url: str) -> None:
    (target,) = parse_targets(url, "a test")
    sample = answered(0, 0.1, replica=target.endpoint.name)
    ((named,), _) = split_samples([sample], [Replica("m", "m-0", url)], (), {})
    assert named.replica == "m-0"


def test_requests_that_bypassed_the_arm_are_kept_apart_with_the_replica_that_served_them() -> None:
    samples = [answered(index, 0.1, model="a", replica="a-0") for index in range(4)]
    samples[2] = answered(2, 0.1, model="a", replica=None)
    own, bypassed = split_samples(samples, REPLICAS, {2}, affected_replicas(REPLICAS, 1))
    assert [one.index for one in own] == [0, 1, 3]
    assert [(one.index, one.replica) for one in bypassed] == [(2, "a-1")]
