"""What is noted of a request while it runs, and counted as it happens."""

from __future__ import annotations

import time

from lb.apierror import ApiError
from lb.counters import Counters, Series
from lb.downstream import ClientConnection, Incoming
from lb.replicas import Request
from lb.request_id import RequestIds


class Record:
    """One request's. Times are counted from its last byte on.

    `headers` are its own, with its id among them. `tenant` is the name of its key; None
    where none is asked for. `model` is empty unless it is one that is known. `error` is
    the balancer's own that ended it.
    """

    __slots__ = (
        "_counters",
        "_series",
        "_waits_since_s",
        "added_s",
        "attempts",
        "client",
        "error",
        "first_byte_s",
        "headers",
        "incoming",
        "model",
        "prompt_tokens",
        "queued_s",
        "reason",
        "replica",
        "request_id",
        "tenant",
    )

    def __init__(
        self, counters: Counters, ids: RequestIds, client: ClientConnection, incoming: Incoming
    ) -> None:
        self.client = client
        self.incoming = incoming
        self.request_id, self.headers = ids.identify(incoming.headers)
        self.tenant: bytes | None = None
        self.model = ""
        self.error: ApiError | None = None
        self.replica = self.reason = ""
        self.attempts = self.prompt_tokens = 0
        self.queued_s = self.added_s = self.first_byte_s = 0.0
        self._counters = counters
        self._series: Series
        self._waits_since_s: float

    def asked(self, request: Request) -> None:
        """Its body has been read."""
        self.model = request.model
        self.prompt_tokens = request.prompt_tokens

    def waits(self) -> None:
        """It waits for a place."""
        self._waits_since_s = time.monotonic()
        self._counters.queue(self.model).length += 1

    def waited(self) -> None:
        """It waits no longer: it has a place, or none in time."""
        self.queued_s = time.monotonic() - self._waits_since_s
        queue = self._counters.queue(self.model)
        queue.length -= 1
        queue.wait.observe(self.queued_s)

    def attempt(self, replica: str, reason: str) -> None:
        """It is on this replica until it has `landed`."""
        self.replica, self.reason = replica, reason
        self.attempts += 1
        self._series = series = self._counters.of(replica, self.model)
        series.choices[reason] += 1
        series.in_flight += 1

    def sent(self) -> None:
        """It has been handed to a connection, which may be the second one."""
        if not self.added_s:
            self.added_s = self.age_s() - self.queued_s
            self._series.added.observe(self.added_s)

    def begun(self) -> None:
        """The first byte of an answer's body has come."""
        self.first_byte_s = self.age_s()
        self._series.first_byte.observe(self.first_byte_s)

    def failed(self, kind: str) -> None:
        """Its replica gave no whole answer."""
        self._series.errors[kind] += 1

    def retried(self) -> None:
        """It goes elsewhere."""
        self._series.retries += 1

    def landed(self) -> None:
        """It is no longer on its replica."""
        self._series.in_flight -= 1

    def refused(self, error: ApiError) -> None:
        """The balancer answers it with an error of its own."""
        self.error = error
        self._counters.refused(error.status, error.code)

    def ended(self, status: int) -> None:
        """Nothing more happens."""
        if self.attempts:
            self._series.requests[status] += 1
            self._series.duration.observe(self.age_s())
        else:
            self._counters.unsent(self.model, status)

    def age_s(self) -> float:
        return time.monotonic() - self.incoming.complete_s
