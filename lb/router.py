"""Which replica gets a request, or why none does."""

from __future__ import annotations

from lb.apierror import ApiError, no_healthy_replica, unknown_model
from lb.fleet import Fleet
from lb.policies import Policy
from lb.replicas import Replica, Request


class Router:
    """The policy, applied to the replicas that can serve."""

    def __init__(self, fleet: Fleet, policy: Policy) -> None:
        self._fleet = fleet
        self._policy = policy

    def choose(self, request: Request) -> Replica:
        """Raises ApiError: 404 for an unknown model, 503 when no replica can serve it."""
        candidates = self._fleet.candidates(request.model)
        if not candidates:
            raise self._refusal(request.model)
        return self._policy(candidates, request)

    def choose_other(self, request: Request, failed: Replica) -> Replica | None:
        """Another one than `failed`, if there is any."""
        candidates = [r for r in self._fleet.candidates(request.model) if r is not failed]
        return self._policy(candidates, request) if candidates else None

    def _refusal(self, model: str) -> ApiError:
        known = self._fleet.known_models()
        if not known:
            return no_healthy_replica("No replica has answered yet")
        if model not in known:
            return unknown_model(model, known)
        return no_healthy_replica(f"No replica that serves {model!r} is healthy")
