"""The raw record of one request and its answer, cheap to fill in."""

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
    """One request and its answer, filled in while it is sent and received.

    Bytes are only kept; `read_answer` parses them after the trial, because parsing in
    between would delay the time stamps of other streams. The exchange has ended when it is
    `complete` or has a `failure`. Header names are in lower case. `body_s` is the time of
    arrival of each piece of `body`, in seconds of time.monotonic().
    """

    sent_s: float | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: list[bytes] = field(default_factory=list)
    body_s: list[float] = field(default_factory=list)
    complete: bool = False
    failure: Failure | None = None

    def add(self, at_s: float, piece: bytes) -> None:
        """Add a piece of the body that arrived at `at_s`."""
        self.body.append(piece)
        self.body_s.append(at_s)

    @property
    def ended(self) -> bool:
        return self.complete or self.failure is not None
