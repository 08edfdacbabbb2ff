"""Which replica gets a request, or why none does, and how many may be tried again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lb.http.api_errors import ApiError, invalid_body, no_healthy_replica, unknown_model
from lb.policies import Policy
from lb.policies.choice import Choice
from lb.replicas.fleet import Fleet
from lb.replicas.replica import Replica, Request

# Retries must not multiply an overload: each request earns a share of a retry, up to a reserve,
# as in Finagle and Envoy.
SHARE = 0.2
RESERVE = 10.0


@dataclass(frozen=True, slots=True)
class Admission:
    """How much is let in, and how long the rest may wait for a place.

    `in_flight` bounds each replica's requests, `in_flight_total` those of all together.
    Beyond it `queued` requests wait in all for a model, `queued_per_tenant` of one
    tenant, each for `queue_s`; after that a request is refused with 429. Bounds on what
    is in flight hold for all workers together, bounds on what waits for each of them.
    """

    in_flight: int = 512
    in_flight_total: int = 8192
    queued: int = 1024
    queued_per_tenant: int = 256
    queue_s: float = 30.0


class Router:
    """The policy, applied to the replicas that can serve and have a place."""

    def __init__(self, fleet: Fleet, policy: Policy, admission: Admission) -> None:
        self._fleet = fleet
        self._policy = policy
        self._most_in_flight = admission.in_flight
        self._most_in_all = admission.in_flight_total

    def choose(self, request: Request, now_s: float) -> Choice | None:
        """A replica; None while every one that could serve it is full.

        Raises ApiError: 404 for an unknown model, 503 when no replica can serve it.
        """
        self._fleet.refresh(now_s)
        able = self._fleet.candidates(request.model)
        if not able:
            raise self._refusal(request.model)
        if self._fleet.in_flight >= self._most_in_all:
            return None
        return self._of(able, request, now_s)

    def choose_other(
        self, request: Request, failed: Collection[Replica], now_s: float
    ) -> Choice | None:
        """One that is not among `failed`, if there is any with a place."""
        able = [one for one in self._fleet.candidates(request.model) if one not in failed]
        return self._retry(able, request, now_s)

    def choose_to_compare(self, request: Request, refusing: Replica, now_s: float) -> Choice | None:
        """One that works, if there is any with a place: if it can be, one that has not refused."""
        able = self._others_trusted(request, refusing, now_s)
        accepting = [one for one in able if not one.acceptance.refuses(request.service)]
        return self._retry(accepting or able, request, now_s)

    def trusts_other(self, request: Request, refusing: Replica, now_s: float) -> bool:
        """Whether there is another one that works, with a place or without."""
        return bool(self._others_trusted(request, refusing, now_s))

    def _others_trusted(self, request: Request, but: Replica, now_s: float) -> list[Replica]:
        able = self._fleet.candidates(request.model)
        return [one for one in able if one is not but and _trusted(one, request, now_s)]

    def _retry(self, able: Sequence[Replica], request: Request, now_s: float) -> Choice | None:
        choice = self._of(able, request, now_s)
        return None if choice is None else Choice(choice.replica, "retry")

    def default_model(self) -> str:
        """The model of a request that names none, where all replicas have the same in mind.

        Raises ApiError: 400 where they have not, 503 before any has answered.
        """
        defaults = sorted(self._fleet.default_models())
        if not defaults:
            raise no_healthy_replica("No replica has answered yet")
        if len(defaults) > 1:
            reason = f"The request names no model, and there are several: {', '.join(defaults)}"
            raise invalid_body(reason, param="model")
        return defaults[0]

    def _of(self, able: Sequence[Replica], request: Request, now_s: float) -> Choice | None:
        most = self._most_in_flight
        free = [
            replica
            for replica in able
            if replica.in_flight < most
            and (not replica.breaker.open or replica.breaker.allows(now_s))
            and (
                not replica.acceptance.services or replica.acceptance.allows(request.service, now_s)
            )
        ]
        if len(free) > 1:
            return self._policy(free, request, now_s)
        if free:
            return Choice(free[0], "only")
        if any(_trusted(replica, request, now_s) for replica in able):
            return None  # a place on one that works is worth waiting for
        # When nobody is trusted, trying is better than refusing everything.
        free = [replica for replica in able if replica.in_flight < most]
        return Choice(self._policy(free, request, now_s).replica, "last-resort") if free else None

    def _refusal(self, model: str) -> ApiError:
        known = self._fleet.known_models()
        if not known:
            return no_healthy_replica("No replica has answered yet")
        if not model:
            return no_healthy_replica("No replica is healthy")
        if model not in known:
            return unknown_model(model, known)
        return no_healthy_replica(f"No replica that serves {model!r} is healthy")


def _trusted(replica: Replica, request: Request, now_s: float) -> bool:
    return replica.breaker.allows(now_s) and replica.acceptance.allows(request.service, now_s)


class RetryBudget:
    """Starts with a full reserve, so that the first failures of a quiet day are covered."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = RESERVE

    def earn(self) -> None:
        """A request came in."""
        if self._left < RESERVE:
            self._left = min(RESERVE, self._left + SHARE)

    def spend(self) -> bool:
        """Take one retry out, if there is one."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
