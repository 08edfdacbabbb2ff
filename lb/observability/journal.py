"""Records what happens to each request, counts it, and writes it to the access log."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus

from lb.http.api_errors import ApiError
from lb.http.downstream import ClientConnection, Incoming
from lb.http.http1 import REQUEST_ID_HEADER, Header
from lb.http.keys import tenant_of
from lb.http.relay import Relay
from lb.observability.counters import Counters, Series
from lb.observability.logs import AccessLog

# Bytes of a client's text in the log: longer ones are cut.
_MAX_LOGGED = 200

# A request id of a client that is kept; others are replaced.
_VALID_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


@dataclass(slots=True, eq=False, repr=False)
class Record:
    """What is known of a request; each method counts an event at once.

    `headers` include the request's id. `tenant` is the name of its API key, None where no keys
    are checked. `model` and `prompt_tokens` are None unless the request is for replicas and its
    model is known; `model` is "" where any will do. `error` is the balancer's own answer.
    """

    counters: Counters
    client: ClientConnection
    incoming: Incoming
    request_id: bytes
    headers: list[Header]
    tenant: bytes | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    error: ApiError | None = None
    replica: str = ""
    reason: str = ""
    attempts: int = 0
    queued_s: float = 0.0
    _series: Series = field(init=False)
    _waits_since_s: float = field(init=False)

    def wait_begins(self, model: str) -> None:
        """The request is queued until `wait_ends`."""
        self._waits_since_s = time.monotonic()
        self.counters.queues[model].length += 1

    def wait_ends(self, model: str) -> None:
        self.queued_s = time.monotonic() - self._waits_since_s
        queue = self.counters.queues[model]
        queue.length -= 1
        queue.wait.observe(self.queued_s)

    def attempt_begins(self, replica: str, model: str, reason: str) -> None:
        """The request is sent to `replica`, and in flight there until `attempt_ends`."""
        self.replica = replica
        self.reason = reason
        self.attempts += 1
        self._series = series = self.counters.series[replica, model]
        series.choices[reason] += 1
        series.in_flight += 1

    def attempt_ends(self) -> None:
        self._series.in_flight -= 1

    def failed(self, kind: str) -> None:
        """The replica gave no whole answer."""
        self._series.errors[kind] += 1

    def retried(self) -> None:
        """The request is sent once more."""
        self._series.retries += 1

    def uncount_attempt(self) -> None:
        """The balancer could not open a connection for the attempt."""
        self.attempts -= 1
        if not self.attempts:
            self.replica = self.reason = ""

    def ejected(self, replica: str, model: str) -> None:
        """`replica` refuses what others accept."""
        self.counters.series[replica, model].ejections += 1

    def refused(self, error: ApiError) -> None:
        """The balancer answers with an error of its own."""
        # Its traceback would keep the body, and this record, in memory.
        error.__context__ = None
        self.error = error.with_traceback(None)
        if error.status == HTTPStatus.UNAUTHORIZED:
            self.tenant = b""  # the request has no valid key
        self.counters.refused(error.status, error.code)

    def ended(self, status: int, relay: Relay, now_s: float) -> None:
        """The request has ended: count its status and its times."""
        if not self.attempts:
            self.counters.unsent(self.model or "", status)
            return
        series, arrived_s = self._series, self.incoming.complete_s
        series.requests[status] += 1
        series.duration.observe(now_s - arrived_s)
        if relay.sent_s:
            series.added.observe(relay.sent_s - arrived_s - self.queued_s)
        if relay.begun_s:
            series.first_byte.observe(relay.begun_s - arrived_s)


class RequestIds:
    """Makes ids that no other process makes."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(8).encode("ascii")
        self._numbers = itertools.count()

    def identify(self, headers: list[Header]) -> tuple[bytes, list[Header]]:
        """The id of a request, the client's own if that is valid, and the headers with it."""
        for name, value in headers:
            if name == REQUEST_ID_HEADER:
                others = [header for header in headers if header[0] != REQUEST_ID_HEADER]
                if _VALID_ID.fullmatch(value) and len(others) + 1 == len(headers):
                    return value, headers
                headers = others
                break
        made = b"%b-%x" % (self._prefix, next(self._numbers))
        return made, [*headers, (REQUEST_ID_HEADER, made)]


@dataclass(frozen=True, slots=True)
class Journal:
    """Makes a record of each request; writes it to `access_log`, if there is one, at the end."""

    counters: Counters
    access_log: AccessLog | None = None
    ids: RequestIds = field(default_factory=RequestIds)

    def begun(self, client: ClientConnection, incoming: Incoming) -> Record:
        return Record(self.counters, client, incoming, *self.ids.identify(incoming.headers))

    def ended(self, record: Record, relay: Relay, status: int, *, counted: bool = True) -> None:
        """A request has ended; those to the balancer itself are not `counted`."""
        now_s = time.monotonic()
        if counted:
            record.ended(status, relay, now_s)
        if self.access_log is not None:
            self.access_log.write(_entry(record, relay, status, now_s))

    def unanswered(self, client: ClientConnection, status: int, code: str | None) -> None:
        """A client sent no whole valid request: it got an error with `code`, or left (None)."""
        self.counters.unsent("", status)
        if code is not None:
            self.counters.refused(status, code)
        if self.access_log is not None:
            facts = {"client": client.peer, "status": status, "error": code}
            self.access_log.write({"time": datetime.now(UTC), **facts})


def _entry(record: Record, relay: Relay, status: int, now_s: float) -> dict[str, object]:
    """The fields of the request's line in the access log: no keys, queries or prompts."""
    incoming, error = record.incoming, record.error
    path = incoming.target.partition(b"?")[0]
    since_s = incoming.complete_s
    tenant = tenant_of(incoming.headers) if record.tenant is None else record.tenant
    return {
        "time": datetime.now(UTC),
        "request_id": record.request_id.decode("ascii"),
        "client": record.client.peer,
        "tenant": _text(tenant),
        "method": incoming.method.decode("ascii"),
        "path": _text(path),
        "model": record.model or None,
        "replica": record.replica or None,
        "reason": record.reason or None,
        "attempts": record.attempts,
        "status": status,
        "error": None if error is None else error.code,
        "prompt_tokens": record.prompt_tokens,
        "bytes_in": incoming.body_bytes,
        "bytes_out": relay.body_bytes or _error_bytes(record),
        "queued_ms": _ms(record.queued_s) if record.queued_s else None,
        "added_ms": _ms(relay.sent_s - record.queued_s - since_s) if relay.sent_s else None,
        "first_byte_ms": _ms(relay.begun_s - since_s) if relay.begun_s else None,
        "duration_ms": _ms(now_s - since_s),
    }


def _error_bytes(record: Record) -> int:
    if record.error is None or record.incoming.method == b"HEAD":
        return 0
    return len(record.error.body())


def _text(value: bytes) -> str | None:
    return value[:_MAX_LOGGED].decode("ascii", "replace") or None


def _ms(seconds: float) -> float:
    """Milliseconds, rounded down to whole microseconds."""
    return int(1e6 * seconds) / 1e3
