"""HTTP/1.1 as bytes: heads of messages, and the headers that end at a proxy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus

Header = tuple[bytes, bytes]

REQUEST_ID_HEADER = b"x-request-id"

LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Of a head, what `lines_size` does not count: its first line's rest, and spaces.
UNCOUNTED_BYTES = 256
CLOSE = (b"connection", b"close")
KEEP_ALIVE = (b"connection", b"keep-alive")

# Headers that are between two neighbours.
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
# What `connection` lists that is no name of a header.
_OPTIONS = frozenset({b"keep-alive", b"close"})
# Says where a body ends, whatever `connection` lists.
_FRAMING = frozenset({b"content-length"})
# Set anew for the replica, or settled with the client before.
_OF_REQUEST_HOP = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_NEWLINE = b"\r\n"
_END = (b"", b"")  # of a head: an empty line
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
    """The head of a request as an upstream gets it: the client's `headers`, and `more`.

    Header names are lower case. Nothing that the client says takes `more` away.
    """
    first = b"%b %b HTTP/1.1" % (method, target)
    lines = [first, b"host: " + authority.encode("ascii"), *_lines(headers, _OF_REQUEST_HOP)]
    lines += [b": ".join(header) for header in more]
    lines += (b"content-length: %d" % body_bytes, *_END)
    return _NEWLINE.join(lines)


def answer_head(
    status: int,
    headers: Sequence[Header],
    more: Iterable[Header],
    dropped: frozenset[bytes] = HOP_BY_HOP,
) -> bytes:
    """The head of an answer as a client gets it: `headers` but those `dropped`, and `more`."""
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status, *_lines(headers, dropped)]
    lines += [b": ".join(header) for header in more]
    lines += _END
    return _NEWLINE.join(lines)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; `data` must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def foreign_coding(headers: Iterable[Header]) -> str:
    """The transfer codings of a message, if they are other than `chunked` once; else "".

    Whoever cannot decode them all does not know the body, even where its end is known.
    """
    values = b",".join(value for name, value in headers if name == b"transfer-encoding")
    codings = [coding for coding in map(bytes.strip, values.lower().split(b",")) if coding]
    if codings in ([], [b"chunked"], [b"identity"]):
        return ""
    return b", ".join(codings).decode("ascii", "replace")


def lines_size(headers: Iterable[Header]) -> int:
    """Bytes of `headers` as lines, without spaces that say nothing."""
    return sum(len(name) + len(value) + 4 for name, value in headers)


def head_grown(size: int, headers: Iterable[Header], piece: bytes) -> int:
    """Bytes of a head, at least, after one more `piece` that does not complete it.

    `size` is what it was before, 0 when the head has begun in this piece, behind whatever
    else is in there. The parser has told of `headers`, but not yet of the last line.
    """
    return size + len(piece) if size else lines_size(headers) + len(piece) - piece.rfind(b"\n")


def _lines(headers: Sequence[Header], dropped: frozenset[bytes]) -> list[bytes]:
    """`headers` as lines, without `dropped` and those that `connection` lists."""
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
