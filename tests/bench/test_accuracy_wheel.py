"""The timing wheel on a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from bench.load.accuracy.source import WHEEL_SIZE, Wheel

Delays = st.integers(1, WHEEL_SIZE - 1)


class Clock:
    """The part of an event loop that the wheel uses. Time only moves in `advance`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        self.timers.append((self.now_s + delay_s, call))

    def advance(self, to_s: float) -> None:
        """Let every timer come due at its time, up to `to_s`."""
        while due := [timer for timer in self.timers if timer[0] <= to_s]:
            timer = min(due, key=lambda one: one[0])
            self.timers.remove(timer)
            self.now_s = max(self.now_s, timer[0])
            timer[1]()
        self.now_s = to_s


def wheel_on(clock: Clock) -> Wheel:
    return Wheel(cast(asyncio.AbstractEventLoop, clock))


@given(st.lists(Delays, min_size=1, max_size=50))
def test_every_call_comes_once_and_on_its_millisecond(delays: list[int]) -> None:
    clock, called = Clock(), list[tuple[int, float]]()
    wheel = wheel_on(clock)

    def note(delay: int) -> None:
        called.append((delay, clock.now_s))

    for delay in delays:
        wheel.after(delay, partial(note, delay))
    clock.advance(WHEEL_SIZE / 1000)
    assert [delay for delay, _ in called] == sorted(delays)
    assert all(abs(at_s - delay / 1000) < 1e-9 for delay, at_s in called)


def test_one_timer_serves_any_number_of_calls() -> None:
    clock = Clock()
    wheel = wheel_on(clock)
    for delay in range(1, 100):
        wheel.after(delay, lambda: None)
    assert len(clock.timers) == 1


def test_an_idle_wheel_has_no_timer_and_turns_again_later() -> None:
    clock, called = Clock(), list[float]()
    wheel = wheel_on(clock)
    wheel.after(3, lambda: called.append(clock.now_s))
    clock.advance(1.0)
    assert clock.timers == []
    wheel.after(5, lambda: called.append(clock.now_s))
    clock.advance(2.0)
    assert [round(at_s, 6) for at_s in called] == [0.003, 1.005]


def test_a_late_wheel_makes_up_for_what_it_missed() -> None:
    clock, calls = Clock(), 0

    def again() -> None:
        nonlocal calls
        calls += 1
        wheel.after(5, again)

    wheel = wheel_on(clock)
    wheel.after(5, again)
    clock.now_s = 0.1005  # the loop was busy all the time
    clock.advance(0.1005)
    assert calls == 20
