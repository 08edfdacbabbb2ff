"""Both sides of the balancer's HTTP in memory: bytes go in piece by piece, and come out.

The connections and the relay between them are the balancer's own; what comes out is
taken apart by a reader that is not.
"""

from __future__ import annotations

import math
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from lb.http.api_errors import ApiError, replica_failed
from lb.http.downstream import BodyMemory, ClientConnection, Incoming, Limits
from lb.http.endpoint import Endpoint
from lb.http.http1 import Header
from lb.http.relay import Relay
from lb.http.upstream.client import Upstream
from lb.http.upstream.connection import Connection
from lb.http.upstream.errors import UpstreamError

ENDPOINT = Endpoint("replica", 80, "replica:80")
STOPPING = replica_failed("r", "is gone")


class Wire:
    """The transport of one connection: what was written, and how it `ended`."""

    def __init__(self) -> None:
        self.written = b""
        self.ended = ""
        self._reset = False

    def write(self, data: bytes) -> None:
        assert not self.ended, "written after its end"
        self.written += data

    def write_eof(self) -> None:
        self.ended = "closed"

    def close(self) -> None:
        self.ended = self.ended or ("reset" if self._reset else "closed")

    def abort(self) -> None:
        self.ended = "reset" if self._reset else self.ended or "closed"

    def is_closing(self) -> bool:
        return self.ended != ""

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Any:
        return self if name == "socket" else None

    def fileno(self) -> int:
        return 3

    def setsockopt(self, _level: int, option: int, value: bytes) -> None:
        assert option == socket.SO_LINGER
        self._reset = value == struct.pack("ii", 1, 0)


class Replica(Upstream):
    """Makes connections in memory; `asked` is each request with the connection it came on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Connection, Wire]] = []
        self._free: list[Connection] = []
        self._wires: dict[Connection, Wire] = {}

    def take(self, _endpoint: Endpoint) -> Connection:
        connection = self._free.pop() if self._free else Connection(self._free.append)
        wire = Wire()  # one for each request, so that it is known what belongs to it
        connection.connection_made(cast(Any, wire))
        self._wires[connection] = wire
        self.asked.append((connection, wire))
        return connection


class Through(Relay):
    """A relay without policies: to the one replica, and back."""

    def start(self) -> None:
        self.send(ENDPOINT)

    def on_upstream_error(self, error: UpstreamError) -> None:
        self.cut(replica_failed("r", str(error)))

    def on_end(self, status: int) -> None:
        pass


class Proxy:
    """A client's connection, and the replica that its requests are passed on to."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.replica = Replica()
        self.client = Wire()
        self.refused: list[tuple[int, str | None]] = []
        limits = limits or Limits()
        self._bodies = BodyMemory(limits.bodies_bytes)
        self._connection = ClientConnection(
            self._handler,
            self._unanswered,
            self._reject_early,
            set(),
            limits,
            self._bodies,
        )
        self._connection.connection_made(cast(Any, self.client))
        self._relays: list[Relay] = []
        self._answered = 0

    def send(self, pieces: Iterable[bytes]) -> None:
        """The client sends."""
        for piece in pieces:
            self._connection.data_received(piece)

    def answer(self, pieces: Iterable[bytes]) -> Connection | None:
        """The replica answers the next request, if there is one."""
        if self._answered == len(self.replica.asked):
            return None
        connection, wire = self.replica.asked[self._answered]
        self._answered += 1
        for piece in pieces:
            if not wire.ended:
                connection.data_received(piece)
        return connection

    def stop(self) -> None:
        self._connection.give_up(STOPPING)

    def expire(self) -> None:
        """The replica's time is over."""
        self._relays[-1].expire(math.inf)

    def stall(self) -> None:
        """The client takes nothing, until its time is over."""
        self._connection.pause_writing()
        self._connection.expire(time.monotonic() + 1000)

    def leave(self) -> None:
        """The client leaves."""
        self._connection.connection_lost(None)

    @property
    def held_bytes(self) -> int:
        """What is held of bodies."""
        return self._bodies.held_bytes

    @property
    def asked(self) -> list[bytes]:
        """What the replica has got, request by request."""
        return [wire.written for _, wire in self.replica.asked]

    def _handler(self, client: ClientConnection, incoming: Incoming) -> Relay:
        relay = Through(self.replica, client, incoming, stall_s=math.inf)
        self._relays.append(relay)
        return relay

    def _unanswered(self, _client: ClientConnection, status: int, code: str | None) -> None:
        self.refused.append((status, code))

    def _reject_early(self, _target: bytes, _headers: list[Header]) -> ApiError | None:
        return None


@dataclass(frozen=True)
class Answer:
    """An answer as a client understands it; `whole` is whether its end is where it says."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool


_FRAMING = {"content-length", "transfer-encoding", "connection"}


def read_answers(data: bytes, methods: Sequence[str], ended: str) -> list[Answer]:
    """The answers to requests of these methods in all that a connection has brought.

    Raises AssertionError for anything that a strict client would choke on.
    """
    answers: list[Answer] = []
    left = list(methods)
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"half a head: {head!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        version, code, _ = (first + " ").split(" ", 2)
        assert version == "HTTP/1.1"
        headers = dict(line.lower().split(": ", 1) for line in lines)
        assert len(headers) == len(lines)
        status = int(code)
        if status < 200:
            assert not headers
            answers.append(Answer(status, {}, b"", True))
            continue
        assert left, f"an answer to nothing: {first!r}"
        method = left.pop(0)
        if method == "HEAD" or status in {204, 304}:
            body, whole = b"", True
        elif headers.get("transfer-encoding") == "chunked":
            assert "content-length" not in headers
            body, whole, data = _chunks(data)
        elif "content-length" in headers:
            length = int(headers["content-length"])
            body, data = data[:length], data[length:]
            whole = len(body) == length
        else:
            body, data, whole = data, b"", ended == "closed"
        rest = {name: value for name, value in headers.items() if name not in _FRAMING}
        answers.append(Answer(status, rest, body, whole))
    return answers


def _chunks(data: bytes) -> tuple[bytes, bool, bytes]:
    """The body, whether it is whole, and what comes after it."""
    body = b""
    while data:
        line, end, rest = data.partition(b"\r\n")
        assert end, "half a chunk size"
        size = int(line, 16)
        chunk, after = rest[:size], rest[size : size + 2]
        assert after == b"\r\n", "a chunk without its end"
        data = rest[size + 2 :]
        if not size:
            return body, True, data
        body += chunk
    return body, False, b""
