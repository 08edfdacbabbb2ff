"""Requests and answers as clients and vLLM send them, and a few that are merely allowed."""

from __future__ import annotations

from dataclasses import dataclass

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}'
TARGET = b"/v1/chat/completions?a=1"


@dataclass(frozen=True)
class Request:
    """Bytes of a client, and what the replica gets to see of them: `body` for `method`.

    `ends` is whether the connection ends with it, `interim` whether a 100 comes first.
    """

    data: bytes
    method: str = "POST"
    body: bytes = BODY
    asked_as: str = "POST"
    http10: bool = False
    ends: bool = False
    interim: bool = False


def _post(more: bytes = b"", *, target: bytes = TARGET, version: bytes = b"1.1") -> bytes:
    first = b"POST %b HTTP/%b\r\nHost: lb:8080\r\n" % (target, version)
    return first + b"X-Kept: \tyes \r\nX-Empty:\r\n" + more


_LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
_CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\n%b\r\n%X\r\n%b\r\n0\r\nX-Late: 1\r\n\r\n" % (
    BODY[:5],
    len(BODY) - 5,
    BODY[5:],
)
# As the JDK's client sends it.
_H2C = (
    b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\nUpgrade: h2c\r\n"
)

REQUESTS = {
    "length": Request(_post(_LENGTH)),
    "chunks": Request(_post(_CHUNKS)),
    "h2c, length": Request(_post(_H2C + _LENGTH)),
    "h2c, chunks": Request(_post(_H2C + _CHUNKS)),
    "other offers": Request(
        _post(b"Upgrade: TLS/1.0, HTTP/2.0\r\nconnection: keep-alive, upgrade\r\n" + _LENGTH)
    ),
    "h2c, close": Request(
        _post(b"Upgrade: h2c\r\nConnection: upgrade, close\r\n" + _LENGTH), ends=True
    ),
    "h2c without a body": Request(
        b"GET %b HTTP/1.1\r\nHost: lb\r\n%b\r\n" % (TARGET, _H2C), "GET", b"", "GET"
    ),
    "an offer that is none": Request(_post(b"Upgrade: h2c\r\n" + _LENGTH)),
    "absolute": Request(_post(_LENGTH, target=b"http://lb:8080" + TARGET)),
    "absolute, in capitals": Request(_post(_LENGTH, target=b"HTTPS://user@[::1]:1" + TARGET)),
    "expect": Request(_post(b"Expect: 100-Continue\r\n" + _LENGTH), interim=True),
    "expect, chunks": Request(_post(b"EXPECT: 100-CONTINUE\r\n" + _CHUNKS), interim=True),
    "close": Request(_post(b"connection: close\r\n" + _LENGTH), ends=True),
    "get": Request(b"GET %b HTTP/1.1\r\nHost: lb\r\n\r\n" % TARGET, "GET", b"", "GET"),
    "head": Request(b"HEAD %b HTTP/1.1\r\nHost: lb\r\n\r\n" % TARGET, "HEAD", b"", "GET"),
    "blank lines before": Request(b"\r\n\r\n" + _post(_LENGTH)),
    "1.0": Request(_post(_LENGTH, version=b"1.0"), http10=True, ends=True),
    "1.0, kept": Request(
        _post(b"Connection: Keep-Alive\r\n" + _LENGTH, version=b"1.0"), http10=True
    ),
    "1.0, expect": Request(
        _post(b"expect: 100-continue\r\n" + _LENGTH, version=b"1.0"), http10=True, ends=True
    ),
    "1.0, head": Request(
        b"HEAD %b HTTP/1.0\r\n\r\n" % TARGET, "HEAD", b"", "GET", http10=True, ends=True
    ),
}


@dataclass(frozen=True)
class Reply:
    """Bytes of a replica, and what they say. `framed`: they say themselves where they end."""

    data: bytes
    body: bytes
    status: int = 200
    framed: bool = True

    @property
    def chunked(self) -> bool:
        return b"chunked" in self.data.lower()

    @property
    def appendable(self) -> bool:
        """Whether an event can be appended to what has come: nothing states the length."""
        data = self.data.lower()
        return b"text/event-stream" in data and b"content-length" not in data


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_OK = b"HTTP/1.1 200 OK\r\ndate: Sat, 28 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\n"
_JSON = _OK + b"content-type: application/json\r\n"
_SSE = _OK + b"content-type: text/event-stream; charset=utf-8\r\n"
_EVENTS = [
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    'data: {"choices":[{"delta":{"content":"grün\\n"}}]}\n\n'.encode(),
    b": ping\r\n\r\n",
    b"data: [DONE]\n\n",
]
_TEXT = b"".join(_EVENTS)
_STREAM = b"transfer-encoding: chunked\r\n\r\n" + b"".join(map(_chunk, _EVENTS)) + b"0\r\n\r\n"
_ANSWER = b'{"choices":[{"message":{"content":"hello"}}]}'
_WITH_LENGTH = b"content-length: %d\r\n\r\n%b" % (len(_ANSWER), _ANSWER)

REPLIES = {
    "json": Reply(_JSON + _WITH_LENGTH, _ANSWER),
    "json in chunks": Reply(
        _JSON + b"Transfer-Encoding: Chunked\r\n\r\n" + _chunk(_ANSWER) + b"0\r\n\r\n", _ANSWER
    ),
    "json until closed": Reply(_JSON + b"\r\n" + _ANSWER, _ANSWER, framed=False),
    "json as it is until closed": Reply(
        _JSON + b"Transfer-Encoding: identity\r\n\r\n" + _ANSWER, _ANSWER, framed=False
    ),
    "stream": Reply(_SSE + _STREAM, _TEXT),
    "stream, other framing": Reply(
        _SSE.replace(b"text/event", b"Text/Event")
        + b"transfer-encoding: chunked\r\n\r\n"
        + b"000%X;ext=1\r\n%b\r\n" % (len(_TEXT), _TEXT)
        + b"0;last\r\nx-trailer: 1\r\n\r\n",
        _TEXT,
    ),
    "stream with length": Reply(
        _SSE + b"content-length: %d\r\n\r\n%b" % (len(_TEXT), _TEXT), _TEXT
    ),
    "stream until closed": Reply(_SSE + b"\r\n" + _TEXT, _TEXT, framed=False),
    "1.0 server": Reply(
        _JSON.replace(b"1.1", b"1.0") + b"connection: close\r\n" + _WITH_LENGTH, _ANSWER
    ),
    "error": Reply(
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\nx-empty:\r\n\r\n{}", b"{}", 400
    ),
    "no reason": Reply(b"HTTP/1.1 429 \r\ncontent-length: 0\r\n\r\n", b"", 429),
    "nothing": Reply(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", b"", 204),
    "not modified": Reply(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", b"", 304),
    "interim answers first": Reply(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        + _JSON
        + _WITH_LENGTH,
        _ANSWER,
    ),
}
