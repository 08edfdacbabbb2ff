from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.attribution import apart, named, singled_out
from bench.calibration import Capacity, delivered_tps
from bench.course import MirroredCourse, drawn_order
from bench.experiment import time_left
from bench.records import Replica, Role
from bench.slots import BOTH, CONTROL, Slot
from tests.bench.making import answered


def slots(blocks: int, roles: tuple[Role, ...] = BOTH) -> list[Slot]:
    return list(MirroredCourse(blocks, roles))


@given(st.integers(1, 12))
def test_every_block_runs_each_arm_twice_in_mirrored_order(blocks: int) -> None:
    for block in range(blocks):
        roles = [slot.role for slot in slots(blocks) if slot.block == block]
        assert sorted(roles) == ["control", "control", "treatment", "treatment"]
        assert roles == roles[::-1]


def test_consecutive_blocks_begin_with_different_arms() -> None:
    first = [slot.role for slot in slots(4) if slot.position == 0]
    assert first == ["control", "treatment", "control", "treatment"]


@given(st.integers(0, 2**31))
def test_where_arms_alternate_each_block_is_mirrored_in_a_drawn_order(seed: int) -> None:
    def ran(block: int) -> list[Role]:
        order = partial(drawn_order, seed, "latency tiny-llama")
        course = MirroredCourse(64, BOTH, order)
        return [slot.role for slot in course if slot.block == block]

    for block in range(4):
        assert (
            ran(block) == ran(block)[::-1] == list(drawn_order(seed, "latency tiny-llama", block))
        )
    first = [drawn_order(seed, "latency tiny-llama", block)[0] for block in range(64)]
    assert 10 < first.count("control") < 54


def test_control_alone_takes_one_trial_a_block() -> None:
    assert [slot.role for slot in slots(4, CONTROL)] == ["control"] * 4
    assert MirroredCourse(4, CONTROL).trials == 4


@given(st.integers(0, 2**31))
def test_both_arms_of_a_block_replay_the_same_two_schedules(seed: int) -> None:
    def seeds(role: Role, block: int) -> list[int]:
        trials = [slot for slot in slots(4) if (slot.role, slot.block) == (role, block)]
        return sorted(slot.seed(seed, "latency tiny-llama") for slot in trials)

    every = [seed for block in range(4) for seed in seeds("control", block)]
    assert every == [seed for block in range(4) for seed in seeds("treatment", block)]
    assert len(set(every)) == 8


def test_schedules_differ_between_questions_and_runs() -> None:
    slot = slots(1)[0]
    assert slot.seed(1, "a") == slot.seed(1, "a")
    assert len({slot.seed(1, "a"), slot.seed(1, "b"), slot.seed(2, "a")}) == 3


@pytest.mark.parametrize(
    ("elapsed_s", "done", "text"),
    [(0.0, 0, ""), (20.0, 2, ", at most 60 s left"), (100.0, 2, ", at most 5 min left")],
)
def test_time_left_is_told_from_the_pace_so_far(elapsed_s: float, done: int, text: str) -> None:
    assert time_left(elapsed_s, done, 8) == text


def test_capacity_counts_the_tokens_that_arrived_in_the_window() -> None:
    # five chunks each, 10 ms apart, the first one after 0.3 s
    sample = answered(0, 0.3)
    assert delivered_tps([sample], 0.0, 1.0) == pytest.approx(5.0)
    assert delivered_tps([sample], 0.315, 0.515) == pytest.approx(3 / 0.2)
    assert delivered_tps([sample, sample], 0.5, 1.0) == 0.0


@given(st.floats(0.1, 1000), st.floats(1, 100), st.integers(1, 64))
def test_closed_loop_has_requests_for_twice_the_capacity(
    rps: float, duration_s: float, in_flight: int
) -> None:
    count = Capacity(rps, replicas=2).requests_for(duration_s, in_flight)
    assert count >= in_flight + 2 * rps * duration_s


def test_samples_carry_the_names_of_replicas_instead_of_addresses() -> None:
    replicas = (Replica("m", "m-0", "http://127.0.0.1:8100"),)
    samples = [
        answered(0, 0.1, replica="127.0.0.1:8100"),
        answered(1, 0.1, replica="elsewhere:1"),
        answered(2, 0.1, replica=None),
    ]
    assert [one.replica for one in named(samples, replicas)] == ["m-0", "elsewhere:1", None]


REPLICAS = tuple(
    Replica(model, f"{model}-{index}", f"http://127.0.0.1:{port}")
    for port, (model, index) in enumerate((("a", 0), ("a", 1), ("b", 0), ("a", 2), ("b", 1)), 1)
)


@given(st.integers(0, 100))
def test_one_replica_of_each_model_is_singled_out_and_each_has_its_turn(turn: int) -> None:
    for model, count in (("a", 3), ("b", 2)):
        turns = [singled_out(REPLICAS, turn + step)[model].name for step in range(count)]
        assert sorted(turns) == [f"{model}-{index}" for index in range(count)]


@pytest.mark.parametrize("block", range(4))
def test_both_arms_meet_both_turns_of_a_block(block: int) -> None:
    turns = {
        role: [slot.turn for slot in slots(4) if (slot.role, slot.block) == (role, block)]
        for role in BOTH
    }
    assert sorted(turns["control"]) == sorted(turns["treatment"]) == [block, block + 1]


def test_requests_that_bypassed_the_arm_are_kept_apart_with_the_replica_that_served_them() -> None:
    samples = [answered(index, 0.1, model="a", replica="a-0") for index in range(4)]
    samples[2] = answered(2, 0.1, model="a", replica=None)
    own, bypassed = apart(samples, {2}, singled_out(REPLICAS, 1))
    assert [one.index for one in own] == [0, 1, 3]
    assert [(one.index, one.replica) for one in bypassed] == [(2, "a-1")]
