"""From what went over the wire to what it says."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from bench.load.exchange import Exchange, Failure
from bench.load.sse import Event, events
from bench.records import ErrorKind

_DETAIL_CHARACTERS = 200
# Engines stream the reasoning of a model beside its answer; both are output.
_CONTENT_KEYS = ("content", "reasoning_content", "reasoning")
_HTTP_OK = 200
_STATUS_KINDS = {429: ErrorKind.RATE_LIMITED, 503: ErrorKind.UNAVAILABLE}


@dataclass(slots=True)
class Answer:
    """A streamed chat completion. Times are those of the pieces that were read."""

    chunk_s: list[float] = field(default_factory=list)
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    failure: Failure | None = None
    finished: bool = False
    done: bool = False


def read_answer(exchange: Exchange) -> Answer:
    """Read the body of an exchange that has ended. The first cause of failure counts."""
    if exchange.status is None:
        return Answer(failure=exchange.failure)
    if exchange.status != _HTTP_OK:
        return Answer(failure=_status_failure(exchange))
    content_type = exchange.headers.get("content-type", "none")
    if not content_type.lower().startswith("text/event-stream"):
        seen = f"not server-sent events but content type {content_type}: {_text(exchange)}"
        return Answer(failure=Failure(ErrorKind.PROTOCOL, _shorten(seen)))
    answer = _read_events(exchange)
    answer.failure = answer.failure or exchange.failure or _incompleteness(answer)
    return answer


def _read_events(exchange: Exchange) -> Answer:
    answer = Answer()
    for event in events(exchange.body):
        if event.data == "[DONE]":
            answer.done = True
        else:
            answer.failure = _read_event(event, answer)
        if answer.done or answer.failure:
            break
    return answer


def _read_event(event: Event, answer: Answer) -> Failure | None:
    try:
        content = orjson.loads(event.data)
    except orjson.JSONDecodeError:
        content = None
    if event.name == "error" or (isinstance(content, dict) and content.get("error")):
        return Failure(ErrorKind.SERVER, _shorten(_message(content) or event.data))
    if not isinstance(content, dict):
        return Failure(ErrorKind.PROTOCOL, _shorten(f"not a JSON object: {event.data}"))
    try:
        _read_chunk(content, event.at_s, answer)
    except (AttributeError, TypeError):
        return Failure(ErrorKind.PROTOCOL, _shorten(f"not a completion chunk: {event.data}"))
    return None


def _read_chunk(chunk: dict[str, Any], at_s: float, answer: Answer) -> None:
    """Take over one chunk. Raises AttributeError or TypeError when it has another shape."""
    if usage := chunk.get("usage"):
        answer.prompt_tokens = _count(usage, "prompt_tokens")
        answer.output_tokens = _count(usage, "completion_tokens")
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        if any(delta.get(key) for key in _CONTENT_KEYS):
            answer.chunk_s.append(at_s)
        if choice.get("finish_reason"):
            answer.finished = True


def _count(usage: dict[str, Any], key: str) -> int | None:
    value = usage.get(key)
    if not isinstance(value, int | None):
        raise TypeError(f"{key} is {value!r}")
    return value


def _incompleteness(answer: Answer) -> Failure | None:
    if not answer.finished:
        return Failure(ErrorKind.TRUNCATED, "the stream ended without a finish reason")
    if not answer.done:
        return Failure(ErrorKind.TRUNCATED, "the stream ended without [DONE]")
    if not answer.chunk_s:
        return Failure(ErrorKind.EMPTY, "the answer has no content")
    return None


def _status_failure(exchange: Exchange) -> Failure:
    text = _text(exchange)
    with suppress(orjson.JSONDecodeError):  # not every server answers errors in JSON
        text = _message(orjson.loads(text)) or text
    kind = kind_of_status(exchange.status or 0)
    return Failure(kind, _shorten(f"HTTP {exchange.status}: {text}"))


def kind_of_status(status: int) -> ErrorKind:
    """Which kind of failure an HTTP status other than 200 is."""
    return _STATUS_KINDS.get(status, ErrorKind.STATUS)


def _message(content: object) -> str | None:
    """The message of an error object in the shapes that OpenAI-like servers use."""
    while isinstance(content, dict):
        content = content.get("error") or content.get("message") or content.get("detail")
    return str(content) if content else None


def _text(exchange: Exchange) -> str:
    return b"".join(data for _, data in exchange.body).decode(errors="replace")


def _shorten(text: str) -> str:
    return " ".join(text[:_DETAIL_CHARACTERS].split())
