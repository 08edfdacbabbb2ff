"""All replicas together, and the accounting of what is in flight on each."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from types import TracebackType
from typing import Any

from lb.replicas import Replica, Request


class Flight:
    """A request on a replica, as a context manager: whatever ends it, it is uncounted."""

    __slots__ = ("_answered", "_replica", "_tokens")

    def __init__(self, replica: Replica, prompt_tokens: int) -> None:
        self._replica = replica
        self._tokens = prompt_tokens
        self._answered = False

    def __enter__(self) -> Flight:
        self._replica.in_flight += 1
        self._replica.unanswered += 1
        self._replica.prompt_tokens += self._tokens
        return self

    def answered(self) -> None:
        """The first byte has come: the prompt is no longer outstanding work."""
        if not self._answered:
            self._answered = True
            self._replica.unanswered -= 1
            self._replica.prompt_tokens -= self._tokens

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.answered()
        self._replica.in_flight -= 1


class Fleet:
    """All replicas, in the order in which they were configured."""

    def __init__(self, replicas: Collection[Replica]) -> None:
        self.replicas = tuple(replicas)
        self._turns = itertools.count(1)

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
        """Count `request` on `replica` for as long as the returned context lasts."""
        replica.last_turn[request.model] = next(self._turns)
        return Flight(replica, request.prompt_tokens)
