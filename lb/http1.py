"""HTTP/1.1 as bytes: heads of messages, and the headers that end at a proxy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus

Header = tuple[bytes, bytes]

LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# What `connection` lists that is no name of a header.
_OPTIONS = frozenset({b"keep-alive", b"close"})
# Set anew for the replica, or settled with the client before.
_OF_REQUEST_HOP = _HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode("ascii"))
    for status in HTTPStatus
}


def request_head(
    method: bytes, target: bytes, authority: str, headers: Sequence[Header], body_bytes: int
) -> bytes:
    """The head of a request as an upstream gets it. Header names are lower case."""
    lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, target, authority.encode("ascii"))]
    lines += _lines(headers, _OF_REQUEST_HOP)
    lines.append(b"content-length: %d\r\n\r\n" % body_bytes)
    return b"".join(lines)


def answer_head(status: int, headers: Sequence[Header], more: Iterable[Header]) -> bytes:
    """The head of an answer as a client gets it: `headers` of the replica, and `more`."""
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    lines += _lines(headers, _HOP_BY_HOP)
    lines += [b"%b: %b\r\n" % header for header in more]
    lines.append(b"\r\n")
    return b"".join(lines)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; `data` must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _lines(headers: Sequence[Header], dropped: frozenset[bytes]) -> list[bytes]:
    """`headers` as lines, without `dropped` and those that `connection` lists."""
    kept = []
    for header in headers:
        name, value = header
        if name not in dropped:
            kept.append(header)
        elif name == b"connection":
            listed = _tokens(value)
            if not listed <= _OPTIONS:
                return _lines([one for one in headers if one[0] != b"connection"], dropped | listed)
    return [b"%b: %b\r\n" % header for header in kept]


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip() for token in value.lower().split(b","))
