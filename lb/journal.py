"""The books on all requests: they are counted, and logged if that is wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from lb.access_log import AccessLog
from lb.counters import Counters
from lb.downstream import ClientConnection, Incoming
from lb.generation import tenant_of
from lb.record import Record
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

    def ended(self, record: Record, status: int, body_bytes: int) -> None:
        """A generation request ended after so many bytes of an answer's body."""
        record.ended(status)
        self.log(record, status, body_bytes)

    def log(self, record: Record, status: int, body_bytes: int) -> None:
        """Any request ended."""
        if self.access_log is not None:
            self.access_log.write(_entry(record, status, body_bytes))

    def unanswered(self, client: ClientConnection, status: int, code: str | None) -> None:
        """What never became a request got an error with this code, or its client left."""
        self.counters.unsent("", status)
        if code is not None:
            self.counters.refused(status, code)
        if self.access_log is not None:
            self.access_log.write(
                {"time": _now(), "client": client.peer, "status": status, "error": code}
            )


def _entry(record: Record, status: int, body_bytes: int) -> dict[str, object]:
    """What may be known of a request: no key, no query and no prompt."""
    incoming, error = record.incoming, record.error
    path = incoming.target.partition(b"?")[0]
    tenant = tenant_of(incoming.headers) if record.tenant is None else record.tenant
    return {
        "time": _now(),
        "request_id": _text(record.request_id),
        "client": record.client.peer,
        "tenant": _text(tenant),
        "method": _text(incoming.method),
        "path": _text(path),
        "model": record.model or None,
        "replica": record.replica or None,
        "reason": record.reason or None,
        "attempts": record.attempts,
        "status": status,
        "error": None if error is None else error.code,
        "prompt_tokens": record.prompt_tokens,
        "bytes_in": len(incoming.body),
        "bytes_out": body_bytes or (0 if error is None else len(error.body())),
        "queued_ms": _ms(record.queued_s),
        "added_ms": _ms(record.added_s),
        "first_byte_ms": _ms(record.first_byte_s),
        "duration_ms": _ms(record.age_s()),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _text(value: bytes) -> str | None:
    return value[:_MOST_LOGGED].decode("ascii", errors="replace") or None


def _ms(seconds: float) -> float | None:
    """To the microsecond; None for what has not happened."""
    return round(1e3 * seconds, 3) if seconds else None
