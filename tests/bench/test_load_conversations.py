"""Conversations: what each turn sends again, and how they mix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.plan.conversations import Conversations
from bench.load.plan.workload import Ask, Fixed, Uniform
from bench.records import Prefix

SYSTEM = 40


def conversations(parallel: int = 8, turns: int = 5, most: int = 4000) -> Conversations:
    return Conversations(Uniform(1, turns), Uniform(5, 60), Uniform(2, 90), SYSTEM, most, parallel)


def drawn(workload: Conversations, count: int, seed: int = 1) -> list[Ask]:
    return list(workload.draw(count, np.random.default_rng(seed)))


@given(st.integers(1, 20), st.integers(1, 6), st.sampled_from([300, 4000]), st.integers(0, 2**32))
def test_a_turn_begins_with_all_that_was_said_before(
    parallel: int, turns: int, most: int, seed: int
) -> None:
    said: set[tuple[Prefix, ...]] = {(Prefix(SYSTEM, 0),)}
    for ask in drawn(conversations(parallel, turns, most), 300, seed):
        assert ask.prefixes in said
        own = ask.prompt_tokens - sum(prefix.tokens for prefix in ask.prefixes)
        assert 5 <= own <= 60
        assert ask.prompt_tokens + ask.output_tokens <= most
        assert len(ask.prefixes) <= turns
        said.add((*ask.prefixes, Prefix(own + ask.output_tokens, ask.prompt_seed)))


@given(st.integers(2, 20), st.integers(0, 2**32))
def test_between_two_turns_of_one_lie_turns_of_others(parallel: int, seed: int) -> None:
    last: dict[tuple[Prefix, ...], int] = {}
    for index, ask in enumerate(drawn(conversations(parallel), 400, seed)):
        if len(ask.prefixes) > 1:
            assert index - last[ask.prefixes] >= parallel // 2 - 1
        own = ask.prompt_tokens - sum(prefix.tokens for prefix in ask.prefixes)
        key = (*ask.prefixes, Prefix(own + ask.output_tokens, ask.prompt_seed))
        last[key] = index


def test_no_conversation_goes_on_twice_from_the_same_point() -> None:
    asks = drawn(conversations(), 2000)
    continued = [ask.prefixes for ask in asks if len(ask.prefixes) > 1]
    assert len(continued) == len(set(continued)) > 500


def test_one_turn_is_no_conversation() -> None:
    asks = drawn(conversations(turns=1), 50)
    assert {ask.prefixes for ask in asks} == {(Prefix(SYSTEM, 0),)}


def test_a_turn_that_can_never_fit_is_told() -> None:
    workload = Conversations(Fixed(2), Fixed(100), Fixed(100), SYSTEM, 200, 2)
    with pytest.raises(ValueError, match="a first turn of 240 tokens is more than 200"):
        drawn(workload, 1)
