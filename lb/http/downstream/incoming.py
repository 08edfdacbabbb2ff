"""A client's request as a value, what is checked in its head, and limits on it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lb.http.api_errors import bad_request, unsupported_transfer_coding
from lb.http.http1 import Header, unsupported_codings

_ABSOLUTE = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on one connection, and on the bodies of all connections of a process together.

    `head_bytes` is for a head, and for the trailers of a body. A head has to be complete `head_s`
    after its first byte. A body has to bring something every `body_s` and, after the first
    `body_s`, `body_bytes_per_s` on average. A connection without a request is closed after
    `idle_s`, one whose client does not read an answer after `stalled_s`.
    """

    head_bytes: int = 32 * 1024
    body_bytes: int = 64 * 1024 * 1024
    bodies_bytes: int = 256 * 1024 * 1024
    head_s: float = 10.0
    body_s: float = 30.0
    body_bytes_per_s: float = 32 * 1024
    idle_s: float = 75.0
    stalled_s: float = 60.0
    # How long the client's data is read after an error, so that it gets the answer.
    linger_s: float = 2.0


@dataclass(slots=True)
class BodyMemory:
    """The bytes of bodies that a process holds."""

    limit_bytes: int
    held_bytes: int = 0


# Not frozen, although little changes it: that would take six times as long to make.
@dataclass(slots=True)
class Incoming:
    """A whole request. `target` is path and query, header names are lower case.

    `body` is emptied when it is no longer needed, `body_bytes` stays. `keep_alive` is what the
    client wants; `http10` clients cannot read chunks. `complete_s` is when the last byte came, on
    the monotonic clock.
    """

    method: bytes
    target: bytes
    headers: list[Header]
    body: bytes
    keep_alive: bool
    http10: bool
    complete_s: float
    body_bytes: int


def origin_form(target: bytes) -> bytes:
    """Path and query of a target that is a URL. Raises ApiError 400 if it is not one."""
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        raise bad_request("The request target must begin with '/' or be an http:// URL")
    rest = target[absolute.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def expects_continue(headers: list[Header], version: str) -> bool:
    """Whether the client waits for a `100 Continue` before it sends the body.

    Raises ApiError for a head that is refused. The parser (llhttp, strict) has refused what is used
    for request smuggling: two lengths, a length beside chunks, chunks that are not the last
    coding, folded lines, bare CR and NUL.
    """
    if version not in {"1.1", "1.0"}:
        raise bad_request(f"HTTP/{version} is not spoken here, use HTTP/1.1")
    hosts, waits, coded = 0, False, False
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"expect":
            waits = waits or b"100-continue" in value.lower()
        elif name == b"transfer-encoding":
            coded = True
    if coded and (coding := unsupported_codings(headers)).endswith(" chunked"):
        raise unsupported_transfer_coding(coding)  # else it has no end: the parser refuses it
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise bad_request(f"A request has one Host header, seen {hosts}")
    if version == "1.1":
        return waits
    if coded:
        raise bad_request("HTTP/1.0 has no Transfer-Encoding")
    return False


def stated_length(headers: list[Header]) -> int:
    """The body's length as the head states it, 0 if it does not. The parser has checked it."""
    # It takes any number of leading zeros; `int` does not.
    return int(dict(headers).get(b"content-length", b"").lstrip(b"0") or 0)


def without_upgrade(method: bytes, target: bytes, headers: list[Header], version: str) -> bytes:
    """The head of a request without `Upgrade`, which a server may ignore.

    Raises ApiError 400 for CONNECT and WebSocket, which make no sense without.
    """
    if method == b"CONNECT":
        raise bad_request("CONNECT is not supported")
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode("ascii"))]
    for name, value in headers:
        if name != b"upgrade":
            lines.append(b"%b: %b" % (name, value))
        elif b"websocket" in value.lower():
            raise bad_request("WebSocket is not supported")
    return b"\r\n".join((*lines, b"", b""))
