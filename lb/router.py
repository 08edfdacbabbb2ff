"""Which replica gets a request, or why none does."""

from __future__ import annotations

from collections.abc import Sequence

from lb.apierror import ApiError, invalid_body, no_healthy_replica, unknown_model
from lb.fleet import Fleet
from lb.policies import Policy
from lb.policies.choice import Choice
from lb.replicas import Replica, Request
from lb.settings import Admission


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

    def choose_other(self, request: Request, failed: Replica, now_s: float) -> Choice | None:
        """Another one than `failed`, if there is any with a place."""
        able = [r for r in self._fleet.candidates(request.model) if r is not failed]
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
        trusted = [
            replica
            for replica in able
            if replica.in_flight < most
            and (not replica.breaker.open or replica.breaker.allows(now_s))
        ]
        if len(trusted) > 1:
            return self._policy(trusted, request, now_s)
        if trusted:
            return Choice(trusted[0], "only")
        # When no breaker lets anything through, trying is better than refusing everything.
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
