"""What went over the wire for one request: raw, and cheap to record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from bench.records import ErrorKind


class Failure(NamedTuple):
    """Why a request did not succeed, with one line for people."""

    kind: ErrorKind
    detail: str


@dataclass(slots=True)
class Exchange:
    """One request and its answer, filled in while it is under way.

    Bytes are only kept: what they say is worked out by `read_answer` after the
    trial, because parsing in between would delay the time stamps of other streams.
    It has ended when it is `complete` or has the transport's `failure`. Header
    names are in lower case. `body_s` has the arrival of each piece of `body`, in seconds
    of time.monotonic().
    """

    sent_s: float | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: list[bytes] = field(default_factory=list)
    body_s: list[float] = field(default_factory=list)
    complete: bool = False
    failure: Failure | None = None

    def add(self, at_s: float, piece: bytes) -> None:
        """A piece of the body arrived at `at_s`."""
        self.body.append(piece)
        self.body_s.append(at_s)

    @property
    def ended(self) -> bool:
        return self.complete or self.failure is not None
