"""The claim on a cluster: however requests are delayed, lost and mixed, one holds it at a time."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bench.environments.kubernetes.lease import DURATION_S, GIVE_UP_S, Claim
from bench.environments.kubernetes.objects import Object, Resource
from tests.k8s.built import schema_errors

DATE = "2026-01-31T23:59:59.000000Z"


class Server:
    """What an API server does with one lease."""

    def __init__(self) -> None:
        self.lease: Resource | None = None
        self._version = 0

    def write(self, wanted: Object) -> Resource | None:
        found = None if self.lease is None else self.lease["metadata"]["resourceVersion"]
        if wanted["metadata"].get("resourceVersion") != found:
            return None
        self._version += 1
        self.lease = Resource(copy.deepcopy(wanted))
        self.lease["metadata"]["resourceVersion"] = str(self._version)
        return copy.deepcopy(self.lease)

    def delete(self, version: str) -> None:
        if self.lease is not None and self.lease["metadata"]["resourceVersion"] == version:
            self.lease = None


@dataclass
class Contender:
    """A claim, and its one request that is under way: sent, or answered and not heard."""

    claim: Claim
    sent: Object | None = None
    sent_s: float = 0.0
    answer: Resource | None = None

    def look(self, server: Server, now_s: float) -> None:
        self.claim.see(copy.deepcopy(server.lease), now_s)

    def take(self, server: Server, now_s: float) -> bool:
        self.look(server, now_s)
        wanted = self.claim.wanted(now_s, DATE)
        written = None if wanted is None else server.write(wanted)
        if written is not None:
            self.claim.written(written, now_s, now_s)
        return written is not None


PICKED = st.integers(0, 2)


class LeaseMachine(RuleBasedStateMachine):
    """Three contenders, whose every step may come at any time, or never."""

    @initialize()
    def begin(self) -> None:
        self.now_s = 0.0
        self.server = Server()
        self.contenders = [Contender(Claim(f"run {number}")) for number in range(3)]

    @rule(seconds=st.sampled_from([0.1, 9.0, 11.0, 29.0, 31.0, 39.0, 41.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(index=PICKED)
    def look(self, index: int) -> None:
        self.contenders[index].look(self.server, self.now_s)

    @rule(index=PICKED)
    def send(self, index: int) -> None:
        one = self.contenders[index]
        if one.sent is None and one.answer is None:
            one.sent, one.sent_s = one.claim.wanted(self.now_s, DATE), self.now_s

    @rule(index=PICKED, answers=st.booleans())
    def arrive(self, index: int, answers: bool) -> None:
        one = self.contenders[index]
        if one.sent is not None:
            written = self.server.write(one.sent)
            one.sent, one.answer = None, written if answers else None

    @rule(index=PICKED)
    def hear(self, index: int) -> None:
        one = self.contenders[index]
        if one.answer is not None:
            one.claim.written(one.answer, one.sent_s, self.now_s)
            one.answer = None

    @rule(index=PICKED)
    def take_at_once(self, index: int) -> None:
        one = self.contenders[index]
        if one.sent is None and one.answer is None:
            one.take(self.server, self.now_s)

    @precondition(lambda self: any(one.claim.is_held(self.now_s) for one in self.contenders))
    @rule()
    def give_back(self) -> None:
        (one,) = (one for one in self.contenders if one.claim.is_held(self.now_s))
        self.server.delete(one.claim.version)
        one.claim = Claim(one.claim.identity)
        one.sent = one.answer = None

    @invariant()
    def one_holds_it(self) -> None:
        assert sum(one.claim.is_held(self.now_s) for one in self.contenders) <= 1


TestLease = LeaseMachine.TestCase
TestLease.settings = settings(max_examples=300, stateful_step_count=40)


def contender(number: int) -> Contender:
    return Contender(Claim(f"run {number}"))


def test_a_renewed_lease_is_kept_and_another_one_is_told_whose_it_is() -> None:
    server, first, second = Server(), contender(1), contender(2)
    assert first.take(server, 0.0)
    assert not second.take(server, 1.0)
    lives = [second.claim.is_renewed]  # not known: a killed run may have left it
    for now_s in range(10, 200, 10):
        assert first.take(server, now_s)
        assert not second.take(server, now_s + 1.0)
    assert first.claim.is_held(200.0)
    assert [*lives, second.claim.is_renewed] == [False, True]
    assert second.claim.holder == f"run 1, since {DATE}"


def test_a_lease_that_is_not_renewed_is_given_up_before_another_one_takes_it() -> None:
    server, first, second = Server(), contender(1), contender(2)
    first.take(server, 0.0)
    second.look(server, 5.0)
    assert first.claim.is_held(GIVE_UP_S - 0.1)
    assert not first.claim.is_held(GIVE_UP_S)
    assert not second.take(server, 5.0 + DURATION_S - 0.1)
    assert second.take(server, 5.0 + DURATION_S)
    first.look(server, 60.0)
    assert first.claim.wanted(60.0, DATE) is None
    assert first.claim.holder == f"run 2, since {DATE}"


def test_of_two_that_saw_it_expire_the_faster_one_gets_it() -> None:
    server, others = Server(), [contender(1), contender(2)]
    contender(0).take(server, 0.0)
    for one in others:
        one.look(server, 0.0)
    wanted: list[Any] = [one.claim.wanted(DURATION_S, DATE) for one in others]
    assert None not in wanted
    assert [server.write(one) is not None for one in wanted] == [True, False]


def test_an_answer_that_comes_late_gives_no_more_time() -> None:
    server, first, second = Server(), contender(1), contender(2)
    wanted = first.claim.wanted(0.0, DATE)
    assert wanted is not None
    written = server.write(wanted)
    assert written is not None
    second.look(server, 0.0)
    assert second.take(server, DURATION_S)
    first.claim.written(written, 0.0, DURATION_S)
    assert not first.claim.is_held(DURATION_S)


def test_a_lease_that_lasts_longer_by_its_own_account_is_waited_for() -> None:
    server, second = Server(), contender(2)
    contender(1).take(server, 0.0)
    lease = server.lease
    assert lease is not None
    lease["spec"]["leaseDurationSeconds"] = 100
    second.look(server, 0.0)
    assert second.claim.expires_in_s(DURATION_S) == 100 - DURATION_S


def test_what_is_written_is_a_lease() -> None:
    server = Server()
    contender(1).take(server, 0.0)
    two = contender(2)
    two.look(server, 0.0)
    assert two.take(server, DURATION_S)
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 1
    assert schema_errors([server.lease]) == []
