"""Who runs on which core."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.processes.resources import pinned
from validation.proxies import lay_out


@given(st.lists(st.integers(0, 255), min_size=3, unique=True).map(sorted))
def test_with_three_cores_or_more_nothing_is_shared(cores: list[int]) -> None:
    layout = lay_out(cores)
    assert sorted([layout.proxy, layout.source, *layout.load]) == cores


def test_of_two_cores_the_proxy_has_one_to_itself() -> None:
    layout = lay_out([4, 9])
    assert layout.proxy not in {layout.source, *layout.load}


def test_one_core_is_shared() -> None:
    layout = lay_out([3])
    assert {layout.proxy, layout.source, *layout.load} == {3}


def test_pinning_ends_with_its_context_also_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    seen = set[int]()

    def fail() -> None:
        seen.update(os.sched_getaffinity(0))
        raise KeyError

    with pytest.raises(KeyError), pinned({core}):
        fail()
    assert seen == {core}
    assert os.sched_getaffinity(0) == before
