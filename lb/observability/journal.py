"""The books on all requests: they are counted, and logged if that is wanted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lb.downstream import ClientConnection, Incoming
from lb.generation import tenant_of
from lb.observability.access_log import AccessLog
from lb.observability.counters import Counters
from lb.observability.record import Record
from lb.passage import Passage
from lb.request_id import RequestIds

# What users write is cut off in the log.
_MOST_LOGGED = 200


@dataclass(frozen=True, slots=True)
class Journal:
    """Counts to `counters`, and writes to the access log where there is one."""

    counters: Counters
    access_log: AccessLog | None = None
    ids: RequestIds = field(default_factory=RequestIds)

    def begun(self, client: ClientConnection, incoming: Incoming) -> Record:
        return Record(self.counters, self.ids, client, incoming)

    def ended(self, record: Record, passage: Passage, status: int) -> None:
        """A generation request ended."""
        now_s = time.monotonic()
        record.ended(status, passage, now_s)
        if self.access_log is not None:
            self.access_log.write(_entry(record, passage, status, now_s))

    def log(self, record: Record, passage: Passage, status: int) -> None:
        """A request to the balancer itself ended: these are not counted."""
        if self.access_log is not None:
            self.access_log.write(_entry(record, passage, status, time.monotonic()))

    def unanswered(self, client: ClientConnection, status: int, code: str | None) -> None:
        """What never became a request got an error with this code, or its client left."""
        self.counters.unsent("", status)
        if code is not None:
            self.counters.refused(status, code)
        if self.access_log is not None:
            self.access_log.write(
                {
                    "time": datetime.now(UTC),
                    "client": client.peer,
                    "status": status,
                    "error": code,
                }
            )


def _entry(record: Record, passage: Passage, status: int, now_s: float) -> dict[str, object]:
    """What may be known of a request: no key, no query and no prompt."""
    incoming, request, error = record.incoming, record.request, record.error
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
        "model": None if request is None else request.model or None,
        "replica": record.replica or None,
        "reason": record.reason or None,
        "attempts": record.attempts,
        "status": status,
        "error": None if error is None else error.code,
        "prompt_tokens": None if request is None else request.prompt_tokens,
        "bytes_in": incoming.body_bytes,
        "bytes_out": passage.body_bytes or _error_bytes(record),
        "queued_ms": _ms(record.queued_s) if record.queued_s else None,
        "added_ms": _ms(passage.sent_s - record.queued_s - since_s) if passage.sent_s else None,
        "first_byte_ms": _ms(passage.begun_s - since_s) if passage.begun_s else None,
        "duration_ms": _ms(now_s - since_s),
    }


def _error_bytes(record: Record) -> int:
    if record.error is None or record.incoming.method == b"HEAD":
        return 0
    return len(record.error.body())


def _text(value: bytes) -> str | None:
    return value[:_MOST_LOGGED].decode("ascii", "replace") or None


def _ms(seconds: float) -> float:
    """To the microsecond."""
    return int(1e6 * seconds) / 1e3
