"""What is asked of the source and what it answers: bytes, made once."""

from __future__ import annotations

import orjson

CHAT = "/v1/chat/completions"
SLOW = "/v1/completions"
TALLY = "/tally"
MODEL = "synthetic"

CHUNKS = 32
CHUNK_EVERY_MS = 5
SLOW_CHUNK_EVERY_MS = 1000

# The prompt of a stream whose events are all sent in one write. A prompt, since some
# routers write the body anew and leave out what they do not know.
AT_ONCE = "Tell it all at once, please"

_ANSWER_BYTES = 1024
_JSON = b"application/json"
_DONE = b"data: [DONE]\n\n"
_EVENT = {
    "id": "chatcmpl-synthetic",
    "object": "chat.completion.chunk",
    "created": 0,
    "model": MODEL,
}


def whole(body: bytes, content_type: bytes = _JSON, status: bytes = b"200 OK") -> bytes:
    """A complete HTTP answer."""
    head = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
    return head % (status, content_type, len(body)) + body


def chat_body(*, stream: bool, prompt: str = "How much does a proxy cost?") -> bytes:
    """The body of a request to `CHAT`."""
    return orjson.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": CHUNKS,
            "stream": stream,
        }
    )


def slow_body() -> bytes:
    """The body of a request to `SLOW`, which streams until the client leaves."""
    return orjson.dumps({"model": MODEL, "prompt": "Go on.", "max_tokens": 1000, "stream": True})


def _completion(content: str) -> bytes:
    message = {"role": "assistant", "content": content}
    return orjson.dumps(
        {
            "id": "chatcmpl-synthetic",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 8, "completion_tokens": 32, "total_tokens": 40},
        }
    )


def _chunk(finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": {"content": " word"}, "finish_reason": finish_reason}
    return b"data: " + orjson.dumps({**_EVENT, "choices": [choice]}) + b"\n\n"


def last_with_usage(tokens: int) -> bytes:
    """`LAST_CHUNK` for a stream of so many events whose client wants to know the usage."""
    counts = {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": 8 + tokens}
    event = {**_EVENT, "choices": [], "usage": counts}
    told = b"data: " + orjson.dumps(event) + b"\n\n"
    return _framed(_chunk("stop") + told + _DONE) + b"0\r\n\r\n"


def _framed(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


ANSWER = whole(_completion("x" * (_ANSWER_BYTES - len(_completion("")))))
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
CHUNK = _framed(_chunk(None))
LAST_CHUNK = _framed(_chunk("stop") + _DONE) + b"0\r\n\r\n"
BURST = STREAM_HEAD + CHUNK * (CHUNKS - 1) + LAST_CHUNK

# What routers and balancers ask for before they send a request, as an engine answers it.
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
