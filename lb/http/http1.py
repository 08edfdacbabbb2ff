"""HTTP/1.1 as bytes: heads of messages, and the hop-by-hop headers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus

Header = tuple[bytes, bytes]

REQUEST_ID_HEADER = b"x-request-id"

LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Bytes of a head that `lines_size` may not count: the first line, and spaces.
UNCOUNTED_BYTES = 256
CLOSE = (b"connection", b"close")
KEEP_ALIVE = (b"connection", b"keep-alive")

# Headers that a proxy does not pass on.
HOP_BY_HOP = frozenset(
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
# Options of `connection` that are not names of headers.
_OPTIONS = frozenset({b"keep-alive", b"close"})
# Always passed on, even if `connection` lists it: it says where a body ends.
_FRAMING = frozenset({b"content-length"})
# Set anew for the replica, or handled before.
_OF_REQUEST_HOP = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_NEWLINE = b"\r\n"
# Those of nearly all messages.
_USUAL_CODINGS = frozenset({b"", b"chunked"})
_END = (b"", b"")  # an empty line ends the head
_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode("ascii"))
    for status in HTTPStatus
}


def request_head(
    method: bytes,
    target: bytes,
    authority: str,
    headers: Sequence[Header],
    more: Iterable[Header],
    body_bytes: int,
) -> bytes:
    """The head of a request to an upstream: the client's `headers`, and `more`.

    Header names are lower case. Headers that `connection` lists are left out, but not of `more`.
    """
    first = b"%b %b HTTP/1.1" % (method, target)
    lines = [first, b"host: " + authority.encode("ascii"), *_lines(headers, _OF_REQUEST_HOP)]
    lines += map(b": ".join, more)
    lines += (b"content-length: %d" % body_bytes, *_END)
    return _NEWLINE.join(lines)


def answer_head(
    status: int,
    headers: Sequence[Header],
    more: Iterable[Header],
    dropped: frozenset[bytes] = HOP_BY_HOP,
) -> bytes:
    """The head of an answer to a client: `headers` without those `dropped`, and `more`."""
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status, *_lines(headers, dropped)]
    lines += map(b": ".join, more)
    lines += _END
    return _NEWLINE.join(lines)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; `data` must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def unsupported_codings(headers: Iterable[Header]) -> str:
    """The transfer codings of a message; "" if there are none, or `chunked` alone."""
    values = b""
    for name, value in headers:
        if name == b"transfer-encoding":
            values += b"," + value if values else value
    if values in _USUAL_CODINGS:
        return ""
    codings = [coding for coding in map(bytes.strip, values.lower().split(b",")) if coding]
    if codings in ([], [b"chunked"], [b"identity"]):
        return ""
    return b", ".join(codings).decode("ascii", "replace")


def lines_size(headers: Iterable[Header]) -> int:
    """Bytes of `headers` as lines, without optional spaces."""
    return sum(len(name) + len(value) + 4 for name, value in headers)


def head_grown(size: int, headers: Iterable[Header], piece: bytes) -> int:
    """A lower bound for the bytes of a head after one more `piece` that does not complete it.

    `size` is the bound before, 0 if the head begins in this piece, behind other bytes. `headers`
    are those that the parser has reported: all but the last line.
    """
    return size + len(piece) if size else lines_size(headers) + len(piece) - piece.rfind(b"\n")


def _lines(headers: Sequence[Header], dropped: frozenset[bytes]) -> list[bytes]:
    """`headers` as lines, without `dropped` ones and those that `connection` lists."""
    lines = []
    for header in headers:
        name = header[0]
        if name not in dropped:
            lines.append(b": ".join(header))
        elif name == b"connection" and not _tokens(header[1]) <= _OPTIONS:
            listed = _tokens(b",".join(value for one, value in headers if one == name))
            others = [one for one in headers if one[0] != name]
            return _lines(others, dropped | (listed - _FRAMING))
    return lines


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip() for token in value.lower().split(b","))
