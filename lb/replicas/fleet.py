"""All replicas, and what is in flight on each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lb.http.endpoint import Endpoint
from lb.replicas.board import Board
from lb.replicas.cached import BLOCK_TOKENS
from lb.replicas.replica import Replica, Request

# How old other workers' counts may be, per replica and worker: about ten times as long as it takes
# to read them. With two replicas and two workers that is 40 µs.
_REFRESH_S = 10e-6


class Flight:
    """A request on a replica, counted until `end` is called, which may be called twice."""

    __slots__ = ("_answered", "_ended", "_fleet", "_replica", "_tokens")

    def __init__(self, fleet: Fleet, replica: Replica, prompt_tokens: int) -> None:
        self._fleet = fleet
        self._replica = replica
        self._tokens = prompt_tokens
        self._answered = self._ended = False
        fleet.in_flight += 1
        replica.in_flight += 1
        replica.prompt_tokens += prompt_tokens

    def answered(self) -> None:
        """The first byte has come: the prompt no longer counts as work."""
        if not self._answered:
            self._answered = True
            self._replica.prompt_tokens -= self._tokens
            if self._fleet.row is not None:
                self._fleet.row.answered(self._replica.column, self._tokens)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            if not self._answered:
                self.answered()
            self._fleet.in_flight -= 1
            self._replica.in_flight -= 1
            if self._fleet.row is not None:
                self._fleet.row.end(self._replica.column)


class Fleet:
    """All replicas, in the order in which they were found.

    Where several processes share a `board`, each worker has the row `index`; the control plane
    has none and only reads. `in_flight` is the number of requests on all replicas.

    `on_change` is called with a replica of which something new is known, `on_lost` with one that
    requests could not reach and the reason, `on_complete` once discovery has found all replicas
    (`complete`).
    """

    def __init__(
        self,
        replicas: Iterable[Replica] = (),
        *,
        board: Board | None = None,
        index: int | None = None,
        slow_start_s: float = 0.0,
    ) -> None:
        self._known = {replica.endpoint: replica for replica in replicas}
        self.replicas = tuple(self._known.values())
        self.in_flight = 0
        self.row = None if board is None or index is None else board.row(index)
        self.on_change: Callable[[Replica], None] = _ignore
        self.on_lost: Callable[[Replica, str], None] = _ignore
        self.on_complete: Callable[[], None] = _ignore
        self.complete = False
        self._board = board
        self._index = index
        self._slow_start_s = slow_start_s
        self._latest: dict[str, Replica] = {}
        self._candidates: dict[str, tuple[Replica, ...]] = {}
        self._changes: list[int] = []
        self._refresh_s = -math.inf

    def candidates(self, model: str) -> tuple[Replica, ...]:
        """Replicas that serve `model` ("": any) and may get requests."""
        found = self._candidates.get(model)
        if found is None:
            found = tuple(
                one for one in self.replicas if one.serving and (not model or model in one.models)
            )
            if found:  # names that clients make up are not kept
                self._candidates[model] = found
        return found

    def find(self, endpoint: Endpoint) -> Replica | None:
        return self._known.get(endpoint)

    def has(self, name: str) -> bool:
        """Whether a replica has this name. Two have it for a while after a pod has moved."""
        return any(replica.name == name for replica in self.replicas)

    def may_have_stored(self, model: str) -> list[Replica]:
        """Replicas that may have stored a response, healthy or not.

        With a `model`, to continue the response, only those that serve it and are not draining;
        with "" all, since reading the response is part of what draining replicas finish.
        """
        if not model:
            return list(self.replicas)
        return [one for one in self.replicas if model in one.models and not one.draining]

    def default_models(self) -> set[str]:
        """The models that replicas use for requests without one: the first that each lists."""
        return {next(iter(one.models)) for one in self.replicas if one.models and not one.draining}

    def known_models(self) -> set[str]:
        return {model for replica in self.replicas for model in replica.models}

    def served_models(self) -> dict[str, Any]:
        """Entries of /v1/models over the replicas that may get requests, each name once."""
        served: dict[str, Any] = {}
        for replica in self.replicas:
            if replica.serving:
                served = {**replica.entries, **served}
        return served

    def begin(self, replica: Replica, request: Request) -> Flight:
        """Count `request` on `replica` until the returned flight ends.

        The replica's turn begins when its turn before has ended, but not before the latest turn
        of any replica of this model: a replica that was away does not catch up.
        """
        tokens = request.prompt_tokens
        if request.blocks:
            tokens -= BLOCK_TOKENS * replica.cached.matching(request.blocks)
            replica.cached.add(request.blocks)
        latest = self._latest.get(request.model, replica).last_turn
        replica.last_turn = max(replica.last_turn + replica.turn, latest)
        self._latest[request.model] = replica
        if self.row is not None:
            self.row.begin(replica.column, tokens, replica.last_turn)
        return Flight(self, replica, tokens)

    def refresh(self, now_s: float) -> None:
        """Count what other workers have in flight, unless that was done just now."""
        board = self._board
        if board is None or now_s < self._refresh_s:
            return
        self._refresh_s = now_s + _REFRESH_S * len(self.replicas) * board.rows
        changes = board.changes(self._index)
        if changes == self._changes or not self.replicas:
            return
        self._changes = changes
        counts = board.counts(self._index, 1 + max(replica.column for replica in self.replicas))
        for replica in self.replicas:
            column = replica.column
            self.in_flight += replica.add_others(
                counts.in_flight[column], counts.prompt_tokens[column], counts.last_turn[column]
            )

    def add(self, replica: Replica) -> None:
        self._known[replica.endpoint] = replica
        self.replicas += (replica,)
        self._changes = []  # the counts of the new replica have to be read

    def remove(self, replica: Replica) -> None:
        """Remove a replica, which must have nothing in flight."""
        del self._known[replica.endpoint]
        self.replicas = tuple(self._known.values())
        self._candidates.clear()

    def changed(self, replica: Replica) -> None:
        """To be called when something new is known of the replica."""
        self._candidates.clear()
        self.on_change(replica)

    def completed(self) -> None:
        """To be called when discovery has found all replicas that there are now."""
        if not self.complete:
            self.complete = True
            self.on_complete()

    def lost(self, replica: Replica, reason: str) -> None:
        """To be called when a request could not reach the replica."""
        replica.mark_unhealthy(reason)
        self.changed(replica)
        self.on_lost(replica, reason)

    def apply(self, endpoint: Endpoint, facts: Mapping[str, Any]) -> None:
        """Set what the control plane, in another process, knows of a replica."""
        replica = self._known.get(endpoint)
        if replica is None:
            replica = Replica(endpoint)
            self.add(replica)
        replica.apply(facts)
        self.changed(replica)

    def warm_up(self, now_s: float) -> None:
        """Let the capacity of replicas grow during their slow start."""
        for replica in self.replicas:
            replica.warm_up(now_s, self._slow_start_s)


def _ignore(*_: object) -> None:
    pass
