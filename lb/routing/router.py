"""Which replica gets a request, or why none does; and how many requests may be retried."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

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
    """Bounds on requests, and how long those beyond them wait.

    `in_flight` is for each replica, `in_flight_total` for all together, over all workers. With
    `late_binding` a replica gets no more than it can run, as far as that is known. Beyond these,
    each worker queues `queued` requests of a model and `queued_per_tenant` of a tenant, each for at
    most `queue_s`. After that, and beyond that, a request gets 429. `fairness` is by what tenants
    that wait get equal shares.
    """

    in_flight: int = 512
    late_binding: bool = False
    in_flight_total: int = 8192
    # With late binding what would wait in an engine waits here: as many, and as long as a first
    # byte may take.
    queued: int = 8192
    queued_per_tenant: int = 4096
    queue_s: float = 600.0
    fairness: Literal["requests", "tokens"] = "requests"


class Router:
    """Applies the policy to the replicas that serve the model and are not full."""

    def __init__(self, fleet: Fleet, policy: Policy, admission: Admission) -> None:
        self._fleet = fleet
        self._policy = policy
        self._max_in_flight = admission.in_flight
        self._late_binding = admission.late_binding
        self._max_in_flight_total = admission.in_flight_total

    def choose(self, request: Request, now_s: float) -> Choice | None:
        """A replica; None while all that could serve the request are full.

        Raises ApiError: 404 for an unknown model, 503 when no replica can serve it.
        """
        self._fleet.refresh(now_s)
        able = self._fleet.candidates(request.model)
        if not able:
            raise self._refusal(request.model)
        if self._fleet.in_flight >= self._max_in_flight_total:
            return None
        return self._choose_of(able, request, now_s, late=self._late_binding)

    def choose_other(
        self, request: Request, failed: Collection[Replica], now_s: float
    ) -> Choice | None:
        """A replica that is not among `failed`; None if there is none that is not full."""
        able = [one for one in self._fleet.candidates(request.model) if one not in failed]
        return self._retry(able, request, now_s)

    def choose_to_compare(self, request: Request, refusing: Replica, now_s: float) -> Choice | None:
        """A working replica to compare `refusing` with, rather one that has not refused lately."""
        able = self.others_working(request, refusing, now_s)
        accepting = [one for one in able if not one.acceptance.refuses(request.service)]
        return self._retry(accepting or able, request, now_s)

    def others_working(self, request: Request, but: Replica, now_s: float) -> list[Replica]:
        """The other replicas that work, full or not."""
        able = self._fleet.candidates(request.model)
        return [one for one in able if one is not but and _works(one, request, now_s)]

    def _retry(self, able: Sequence[Replica], request: Request, now_s: float) -> Choice | None:
        # A retry does not wait: it goes to a replica in which it may have to.
        choice = self._choose_of(able, request, now_s, late=False)
        return None if choice is None else Choice(choice.replica, "retry")

    def default_model(self) -> str:
        """The model of a request that names none: the one that all replicas list first.

        Raises ApiError: 400 if they differ, 503 before any has answered.
        """
        defaults = sorted(self._fleet.default_models())
        if not defaults:
            raise no_healthy_replica("No replica has answered yet")
        if len(defaults) > 1:
            reason = f"The request names no model, and there are several: {', '.join(defaults)}"
            raise invalid_body(reason, param="model")
        return defaults[0]

    def _choose_of(
        self, able: Sequence[Replica], request: Request, now_s: float, *, late: bool
    ) -> Choice | None:
        most = self._max_in_flight
        free = [
            replica
            for replica in able
            if replica.in_flight < most
            and not (late and replica.in_flight >= replica.full_at)
            and (not replica.breaker.open or replica.breaker.allows(now_s))
            and (
                not replica.acceptance.services or replica.acceptance.allows(request.service, now_s)
            )
        ]
        if len(free) > 1:
            return self._policy(free, request, now_s)
        if free:
            return Choice(free[0], "only")
        if any(_works(replica, request, now_s) for replica in able):
            return None  # full: waiting for one that works is better than one that does not
        # When no replica works, trying is better than refusing everything.
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


def _works(replica: Replica, request: Request, now_s: float) -> bool:
    return replica.breaker.allows(now_s) and replica.acceptance.allows(request.service, now_s)


class RetryBudget:
    """A budget of retries, at first as large as it may become."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = RESERVE

    def earn(self) -> None:
        """To be called for each request."""
        if self._left < RESERVE:
            self._left = min(RESERVE, self._left + SHARE)

    def spend(self) -> bool:
        """Use up one retry. Returns whether there was one."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
