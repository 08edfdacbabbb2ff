"""The requests that the synthetic source understands, and the bytes of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from time import monotonic
from typing import Any

import orjson

CHAT = "/v1/chat/completions"
ENDLESS = "/v1/completions"
REPORT = "/report"
MODEL = "synthetic"

# The chunks of a stream whose request does not say how many it wants.
CHUNKS = 32
ENDLESS_CHUNK_EVERY_MS = 1000
# With this prompt all events of a stream are sent in one write. It is a prompt, not a field,
# since some routers write the body anew and leave out unknown fields.
AT_ONCE = "Tell it all at once, please"

# What the prompt of a planned stream begins with.
_PLAN = "stream by this plan: "
_ANSWER_BYTES = 1024
_JSON = b"application/json"
_END_OF_BODY = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """When the source is to send each chunk of a stream; sent as JSON in the prompt.

    The first of `chunks` is sent `first_ms` after the request has arrived, each further one
    `every_ms` later. `index` is the request's, under which the source reports its times.

    `late_ms` is for tests: chunk number n claims to have been sent `late_ms[n % length]`
    earlier than it was. Empty: every chunk has its true time.
    """

    index: int
    first_ms: int
    every_ms: int
    chunks: int
    late_ms: tuple[int, ...] = ()

    def prompt(self) -> str:
        """The prompt that asks for this stream."""
        return _PLAN + orjson.dumps(asdict(self)).decode()

    def late_s(self, chunk: int) -> float:
        """By how many seconds chunk number `chunk`, from 0, is to claim a time too early."""
        return self.late_ms[chunk % len(self.late_ms)] / 1000 if self.late_ms else 0.0


def read_plan(prompt: object) -> StreamPlan | None:
    """The plan that a prompt holds, None where it holds none.

    Raises ValueError, KeyError or TypeError where the plan cannot be read.
    """
    if not isinstance(prompt, str) or not prompt.startswith(_PLAN):
        return None
    fields = orjson.loads(prompt.removeprefix(_PLAN))
    return StreamPlan(**(fields | {"late_ms": tuple(fields["late_ms"])}))


@dataclass(slots=True)
class StreamCounts:
    """Streams and their chunks since the last report.

    A stream that the client left early is counted in `begun` only. `open_most` is the greatest
    number open at once. `first_s` is when the first stream began and `last_s` when the last
    one ended, of time.monotonic(); `open_s` is the sum of the durations of those that ended.
    """

    begun: int = 0
    complete: int = 0
    chunks: int = 0
    open_now: int = 0
    open_most: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    open_s: float = 0.0

    def begin(self) -> float:
        """Count a stream that begins; the time, which `end` is to be given."""
        now_s = monotonic()
        if not self.begun:
            self.first_s = now_s
        self.begun += 1
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        return now_s

    def end(self, begun_s: float, *, complete: bool) -> None:
        """Count the end of a stream that began at `begun_s`."""
        self.open_now -= 1
        self.complete += complete
        self.last_s = monotonic()
        self.open_s += self.last_s - begun_s

    def take(self) -> StreamCounts:
        """The counts until now; they then start again from zero."""
        taken = replace(self)
        self.begun = self.complete = self.chunks = 0
        self.open_s = 0.0
        self.open_most = self.open_now
        return taken


def chat_body(*, stream: bool, prompt: str = "How much does a proxy cost?") -> bytes:
    """The body of a request to `CHAT`."""
    messages = [{"role": "user", "content": prompt}]
    return orjson.dumps(
        {"model": MODEL, "messages": messages, "max_tokens": CHUNKS, "stream": stream}
    )


def endless_body() -> bytes:
    """The body of a request to `ENDLESS`, which streams until the client leaves."""
    return orjson.dumps({"model": MODEL, "prompt": "Go on.", "max_tokens": 1000, "stream": True})


def whole(body: bytes, content_type: bytes = _JSON, status: bytes = b"200 OK") -> bytes:
    """A complete HTTP answer."""
    head = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
    return head % (status, content_type, len(body)) + body


def timed_chunk(sent_s: float) -> bytes:
    """A chunk of a stream whose text is the time at which it is sent (time.monotonic())."""
    return framed(_TIMED_EVENT % sent_s)


def timed_tail(chunks: int) -> bytes:
    """What follows the last chunk of a timed stream: finish reason, usage, [DONE], end."""
    return _last(_event(_choice({}, "length")), _usage(chunks))


@lru_cache(maxsize=64)
def last_chunk(chunks: int, *, with_usage: bool) -> bytes:
    """The last of `chunks`, with the finish reason, [DONE] and the end of the body."""
    word = _event(_choice({"content": " word"}, "stop"))
    return _last(word, _usage(chunks)) if with_usage else _last(word)


def framed(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def _last(*events: bytes) -> bytes:
    return framed(b"".join(events) + b"data: [DONE]\n\n") + _END_OF_BODY


def _event(*choices: Mapping[str, Any], **fields: Any) -> bytes:
    head = {"id": "chatcmpl-synthetic", "object": "chat.completion.chunk", "created": 0}
    return (
        b"data: " + orjson.dumps({**head, "model": MODEL, "choices": choices, **fields}) + b"\n\n"
    )


def _choice(delta: Mapping[str, str], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def _usage(tokens: int) -> bytes:
    return _event(usage=_counts(tokens))


def _counts(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": 8 + tokens}


def _completion(content: str) -> bytes:
    message = {"role": "assistant", "content": content}
    return orjson.dumps(
        {
            "id": "chatcmpl-synthetic",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": _counts(CHUNKS),
        }
    )


ANSWER = whole(_completion("x" * (_ANSWER_BYTES - len(_completion("")))))
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
# A timed stream begins as vLLM's do: at once, with a role, which is no token.
TIMED_HEAD = STREAM_HEAD + framed(_event(_choice({"role": "assistant", "content": ""}, None)))
_TIMED_EVENT = _event(_choice({"content": "%.9f "}, None))
CHUNK = framed(_event(_choice({"content": " word"}, None)))
BURST = STREAM_HEAD + CHUNK * (CHUNKS - 1) + last_chunk(CHUNKS, with_usage=False)

# What routers and balancers ask an engine for before they send a request.
PAGES = {
    "/health": whole(b"{}"),
    "/v1/models": whole(
        orjson.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
    ),
    "/metrics": whole(
        b"".join(
            b'# TYPE %s gauge\n%s{model_name="%s"} 0.0\n' % (name, name, MODEL.encode())
            for name in (b"vllm:num_requests_running", b"vllm:num_requests_waiting")
        ),
        b"text/plain; version=0.0.4",
    ),
}
NOT_FOUND = whole(b"{}", status=b"404 Not Found")
BAD_REQUEST = whole(b'{"error":"no chat request"}', status=b"400 Bad Request")
