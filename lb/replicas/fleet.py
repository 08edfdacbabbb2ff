"""All replicas together, and the accounting of what is in flight on each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lb.http.endpoint import Endpoint
from lb.replicas.board import Board
from lb.replicas.replica import Replica, Request

# How old the other workers' counts may be, for each number of theirs: about ten times as
# long as it takes to read it. With two replicas and two workers that is 40 µs.
_REFRESH_S = 10e-6


class Flight:
    """A request on a replica; whatever ends it has to call `end`, which counts once."""

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
        """The first byte has come: the prompt is no longer outstanding work."""
        if not self._answered:
            self._answered = True
            self._replica.prompt_tokens -= self._tokens
            if self._fleet.row is not None:
                self._fleet.row.answered(self._replica.slot, self._tokens)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self.answered()
            self._fleet.in_flight -= 1
            self._replica.in_flight -= 1
            if self._fleet.row is not None:
                self._fleet.row.end(self._replica.slot)


class Fleet:
    """All replicas, in the order in which they were found.

    One process serves alone, or several share a `board`, on which each worker has the row
    of its `index`; the control plane has none and only reads. `in_flight` is the number of
    requests on all replicas.

    `on_change` is called with a replica of which something new is known, `on_lost` with
    one that requests have found to be gone, and how. It is `complete` once discovery has
    told of all replicas; `on_complete` is called then.
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

    # What there is.

    def candidates(self, model: str) -> tuple[Replica, ...]:
        """Replicas that serve `model` ("": any) and may get requests."""
        found = self._candidates.get(model)
        if found is None:
            found = tuple(
                one for one in self.replicas if one.serving and (not model or model in one.models)
            )
            if found:  # names that users make up are not kept
                self._candidates[model] = found
        return found

    def find(self, endpoint: Endpoint) -> Replica | None:
        return self._known.get(endpoint)

    def has(self, name: str) -> bool:
        """Whether a replica is called so. One whose pod moved has its name twice for a while."""
        return any(replica.name == name for replica in self.replicas)

    def keepers(self, model: str) -> list[Replica]:
        """Replicas that may have stored a response, healthy or not.

        To go on from it they have to serve `model`, and not be drained; with "" they have
        only to hand it out, which is a part of finishing what they have.
        """
        if not model:
            return list(self.replicas)
        return [one for one in self.replicas if model in one.models and not one.draining]

    def default_models(self) -> set[str]:
        """What replicas take for the model of a request that names none: the first they list."""
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

    # What is in flight.

    def begin(self, replica: Replica, request: Request) -> Flight:
        """Count `request` on `replica` until the flight that is returned ends.

        Its turn begins when the one before it has ended, but not before the latest turn
        of any replica of this model: who was away does not catch up.
        """
        latest = self._latest.get(request.model, replica).last_turn
        replica.last_turn = max(replica.last_turn + replica.turn, latest)
        self._latest[request.model] = replica
        if self.row is not None:
            self.row.begin(replica.slot, request.prompt_tokens, replica.last_turn)
        return Flight(self, replica, request.prompt_tokens)

    def refresh(self, now_s: float) -> None:
        """Count in what other workers have in flight, unless that was done just now."""
        board = self._board
        if board is None or now_s < self._refresh_s:
            return
        self._refresh_s = now_s + _REFRESH_S * len(self.replicas) * board.rows
        changes = board.changes(self._index)
        if changes == self._changes or not self.replicas:
            return
        self._changes = changes
        counts = board.counts(self._index, 1 + max(replica.slot for replica in self.replicas))
        for replica in self.replicas:
            slot = replica.slot
            self.in_flight += replica.share(
                counts.in_flight[slot], counts.prompt_tokens[slot], counts.last_turn[slot]
            )

    # What changes.

    def add(self, replica: Replica) -> None:
        self._known[replica.endpoint] = replica
        self.replicas += (replica,)
        self._changes = []  # its counts are still to be read

    def remove(self, replica: Replica) -> None:
        """Forget a replica, which must have nothing in flight."""
        del self._known[replica.endpoint]
        self.replicas = tuple(self._known.values())
        self._candidates.clear()

    def changed(self, replica: Replica) -> None:
        """Something new is known of the replica."""
        self._candidates.clear()
        self.on_change(replica)

    def completed(self) -> None:
        """Discovery has told of all replicas that there are now."""
        if not self.complete:
            self.complete = True
            self.on_complete()

    def lost(self, replica: Replica, reason: str) -> None:
        """A request has found the replica gone."""
        replica.mark_unhealthy(reason)
        self.changed(replica)
        self.on_lost(replica, reason)

    def take(self, endpoint: Endpoint, facts: Mapping[str, Any]) -> None:
        """What the control plane, in another process, has found out of a replica."""
        replica = self._known.get(endpoint)
        if replica is None:
            replica = Replica(endpoint)
            self.add(replica)
        replica.take(facts)
        self.changed(replica)

    def warm_up(self, now_s: float) -> None:
        """Let the capacity grow of replicas that have come up or back a while ago."""
        for replica in self.replicas:
            replica.warm_up(now_s, self._slow_start_s)


def _ignore(*_: object) -> None:
    pass
