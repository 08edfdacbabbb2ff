"""A breaker under any sequence of requests, outcomes and times."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from lb.replicas.breaker import ENOUGH, FAILURES, LONGEST_OPEN_S, WINDOW, Breaker


class BreakerMachine(RuleBasedStateMachine):
    """Any number of requests are under way; their outcomes come in any order."""

    under_way = Bundle("under_way")

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now_s = 0.0
        self.trial = 0  # allowed while open, and without an outcome
        self.fresh: set[int] = set()  # sent since it last opened or closed
        self.failures: list[bool] = []  # outcomes of these

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(target=under_way)
    def send(self) -> int:
        """Allowed or not: when no replica is, all are tried."""
        allowed = self.breaker.allows(self.now_s)
        number = self.breaker.sent(self.now_s)
        if self.breaker.open and allowed:
            assert not self.trial, "a second trial beside the first"
            self.trial = number
        self.fresh.add(number)
        return number

    @rule(number=under_way)
    def succeed(self, number: int) -> None:
        """It begins to answer; its answer may still break."""
        was_open = self.breaker.open
        self.breaker.succeeded(number, self.now_s)
        if number in self.fresh:
            assert not self.breaker.open
            if was_open:
                assert self.breaker.closed_s == self.now_s
                self.trial = 0
                self.fresh = {one for one in self.fresh if one >= number}
            self.failures.append(False)
        else:
            assert self.breaker.open == was_open

    @rule(number=consumes(under_way))
    def fail(self, number: int) -> None:
        was_open = self.breaker.open
        self.breaker.failed(number, self.now_s)
        if was_open:
            assert self.breaker.open
            if number == self.trial:
                assert not self.breaker.allows(self.now_s)
                self.trial = 0
                self.fresh = set()
        elif number in self.fresh:
            self.failures.append(True)
            latest = self.failures[-WINDOW:]
            often = len(latest) >= ENOUGH and 2 * sum(latest) >= len(latest)
            assert self.breaker.open == (often or latest[-FAILURES:] == [True] * FAILURES)
            if self.breaker.open:
                self.fresh, self.failures = set(), []
        else:
            assert not self.breaker.open

    @rule(number=consumes(under_way))
    def abandon(self, number: int) -> None:
        was_open = self.breaker.open
        self.breaker.abandoned(number)
        assert self.breaker.open == was_open
        if number == self.trial:
            self.trial = 0

    @invariant()
    def closed_it_allows_everything(self) -> None:
        assert self.breaker.open or self.breaker.allows(self.now_s)

    @invariant()
    def open_it_allows_a_trial_in_the_end_and_no_second_one(self) -> None:
        if self.breaker.open:
            assert self.breaker.allows(self.now_s + LONGEST_OPEN_S) == (not self.trial)


TestBreakerMachine = BreakerMachine.TestCase
