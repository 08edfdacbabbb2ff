"""All replicas together, and the accounting of what is in flight on each."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lb.replicas import TURN, Replica, Request


class Flight:
    """A request on a replica; whatever ends it has to call `end`, which counts once."""

    __slots__ = ("_answered", "_ended", "_replica", "_tokens")

    def __init__(self, replica: Replica, prompt_tokens: int) -> None:
        self._replica = replica
        self._tokens = prompt_tokens
        self._answered = self._ended = False
        replica.in_flight += 1
        replica.prompt_tokens += prompt_tokens

    def answered(self) -> None:
        """The first byte has come: the prompt is no longer outstanding work."""
        if not self._answered:
            self._answered = True
            self._replica.prompt_tokens -= self._tokens

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self.answered()
            self._replica.in_flight -= 1


class Fleet:
    """All replicas, in the order in which they were configured."""

    def __init__(self, replicas: Collection[Replica]) -> None:
        self.replicas = tuple(replicas)
        self._latest: dict[str, Replica] = {}

    def candidates(self, model: str) -> list[Replica]:
        """Healthy replicas that serve `model`."""
        return [replica for replica in self.replicas if replica.healthy and model in replica.models]

    def known_models(self) -> set[str]:
        """Names that any replica has served, healthy now or not."""
        return {model for replica in self.replicas for model in replica.models}

    def served_models(self) -> dict[str, Any]:
        """Entries of /v1/models over the healthy replicas, each name once."""
        served: dict[str, Any] = {}
        for replica in self.replicas:
            if replica.healthy:
                served = {**replica.models, **served}
        return served

    def begin(self, replica: Replica, request: Request) -> Flight:
        """Count `request` on `replica` until the flight that is returned ends.

        Its turn begins when the one before it has ended, but not before the latest turn
        of any replica of this model: who was away does not catch up.
        """
        latest = self._latest.get(request.model, replica).last_turn
        replica.last_turn = max(replica.last_turn + int(TURN / replica.capacity), latest)
        self._latest[request.model] = replica
        return Flight(replica, request.prompt_tokens)
