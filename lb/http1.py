"""Requests to replicas as bytes, and the headers that end at a proxy."""

from __future__ import annotations

from collections.abc import Iterable

Header = tuple[bytes, bytes]

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
# Set anew for the replica, or settled with the client before.
_OF_THIS_HOP = frozenset({b"host", b"content-length", b"expect"})


def end_to_end(headers: Iterable[Header]) -> list[Header]:
    """`headers` (lower-case names) without those that concern one connection only."""
    headers = list(headers)
    listed = (_tokens(value) for name, value in headers if name == b"connection")
    dropped = _HOP_BY_HOP.union(*listed)
    return [header for header in headers if header[0] not in dropped]


def post(target: bytes, authority: str, headers: Iterable[Header], body: bytes) -> list[bytes]:
    """A POST of `body` in pieces to be written one after the other."""
    lines = [
        b"POST %b HTTP/1.1\r\nhost: %b\r\n" % (target, authority.encode("ascii")),
        b"content-length: %d\r\n" % len(body),
    ]
    lines += [
        b"%b: %b\r\n" % header for header in end_to_end(headers) if header[0] not in _OF_THIS_HOP
    ]
    return [b"".join(lines) + b"\r\n", body]


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip() for token in value.lower().split(b",")]
