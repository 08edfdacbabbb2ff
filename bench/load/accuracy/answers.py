"""What the source is asked and what it answers: bytes, each chunk with its own time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import orjson

CHAT = "/v1/chat/completions"
TOLD = "/told"
MODEL = "calibration-source"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks of the source, in its prompt: when to send which chunk.

    The first of `chunks` comes `first_ms` after the request has arrived, each further one
    `every_ms` later. `late_ms` is for tests: a chunk claims to have been sent so much
    earlier than it was, those in the list over and over; empty is honest.
    """

    index: int
    first_ms: int
    every_ms: int
    chunks: int
    late_ms: tuple[int, ...] = ()

    def prompt(self) -> str:
        """The prompt that asks for it."""
        return orjson.dumps(asdict(self)).decode()

    def late_s(self, chunk: int) -> float:
        """By how much chunk number `chunk`, from 0, is to claim too early a time."""
        return self.late_ms[chunk % len(self.late_ms)] / 1000 if self.late_ms else 0.0


def read_wish(body: bytes) -> Wish:
    """The wish in a chat request. Raises ValueError, KeyError or TypeError for any other."""
    asked = orjson.loads(orjson.loads(body)["messages"][0]["content"])
    return Wish(**(asked | {"late_ms": tuple(asked["late_ms"])}))


def whole(body: bytes, status: bytes = b"200 OK") -> bytes:
    """A complete HTTP answer in JSON."""
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def chunk(sent_s: float) -> bytes:
    """A content chunk whose text is the time it was sent at, in monotonic seconds."""
    return _framed(
        b'data: {"object":"chat.completion.chunk","choices":[{"index":0,'
        b'"delta":{"content":"%.9f "},"finish_reason":null}]}\n\n' % sent_s
    )


def tail(chunks: int) -> bytes:
    """What follows the last content chunk: reason, usage, [DONE], end of the body."""
    usage = {"prompt_tokens": 1, "completion_tokens": chunks, "total_tokens": chunks + 1}
    events = (_event(_delta({}, "length")), _event({"choices": [], "usage": usage}))
    return _framed(b"".join(events) + b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _delta(content: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": content, "finish_reason": finish_reason}]}


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


# Sent when the request has arrived, as vLLM does: no part of it is a token.
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    + _framed(_event(_delta({"role": "assistant", "content": ""}, None)))
)
NOT_FOUND = whole(b"{}", status=b"404 Not Found")
