"""What is noted of a request while it runs, and counted as it happens."""

from __future__ import annotations

import time
from http import HTTPStatus

from lb.apierror import ApiError
from lb.downstream import ClientConnection, Incoming
from lb.observability.counters import Counters, Series
from lb.passage import Passage
from lb.replicas import Request
from lb.request_id import RequestIds


class Record:
    """One request's.

    `headers` are its own, with its id among them. `tenant` is the name of its key; None
    where none is asked for. `request` is what it asks for, None unless that is of a model
    that is known, or of none. `error` is the balancer's own that ended it.
    """

    __slots__ = (
        "_counters",
        "_series",
        "_waits_since_s",
        "attempts",
        "client",
        "error",
        "headers",
        "incoming",
        "queued_s",
        "reason",
        "replica",
        "request",
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
        self.request: Request | None = None
        self.error: ApiError | None = None
        self.replica = self.reason = ""
        self.attempts = 0
        self.queued_s = 0.0
        self._counters = counters
        self._series: Series
        self._waits_since_s: float

    def waits(self, model: str) -> None:
        """It waits for a place."""
        self._waits_since_s = time.monotonic()
        self._counters.queue(model).length += 1

    def waited(self, model: str) -> None:
        """It waits no longer: it has a place, or none in time."""
        self.queued_s = time.monotonic() - self._waits_since_s
        queue = self._counters.queue(model)
        queue.length -= 1
        queue.wait.observe(self.queued_s)

    def attempt(self, replica: str, model: str, reason: str) -> None:
        """It is on this replica until it has `landed`."""
        self.replica = replica
        self.reason = reason
        self.attempts += 1
        self._series = series = self._counters.of(replica, model)
        series.choices[reason] += 1
        series.in_flight += 1

    def failed(self, kind: str) -> None:
        """Its replica gave no whole answer."""
        self._series.errors[kind] += 1

    def retried(self) -> None:
        """It is tried again."""
        self._series.retries += 1

    def unsent(self) -> None:
        """The balancer itself could not send it."""
        self.attempts -= 1
        if not self.attempts:
            self.replica = self.reason = ""

    def ejected(self, replica: str, model: str) -> None:
        """Its answer has shown that this replica refuses what others accept."""
        self._counters.of(replica, model).ejections += 1

    def landed(self) -> None:
        """It is no longer on its replica."""
        self._series.in_flight -= 1

    def refused(self, error: ApiError) -> None:
        """The balancer answers it with an error of its own."""
        # What raised it holds the body, and this record.
        error.__context__ = None
        self.error = error.with_traceback(None)
        if error.status == HTTPStatus.UNAUTHORIZED:
            self.tenant = b""  # whoever they say they are
        self._counters.refused(error.status, error.code)

    def ended(self, status: int, passage: Passage, now_s: float) -> None:
        """Nothing more happens."""
        if not self.attempts:
            self._counters.unsent("" if self.request is None else self.request.model, status)
            return
        series, arrived_s = self._series, self.incoming.complete_s
        series.requests[status] += 1
        series.duration.observe(now_s - arrived_s)
        if passage.sent_s:
            series.added.observe(passage.sent_s - arrived_s - self.queued_s)
        if passage.begun_s:
            series.first_byte.observe(passage.begun_s - arrived_s)
