"""`profile_export.json` of genai-perf, whose answers are read by the built-in client's rules."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, Json, ValidationError

from bench.drivers.artifacts.entry import NS_PER_S, Entry, Nanoseconds, damaged, read_text
from bench.load.client.answer import read_answer
from bench.load.client.exchange import Exchange

RECORDS = "profile_export.json"


class _Message(BaseModel):
    content: str


class _Payload(BaseModel):
    messages: list[_Message] = Field(min_length=1)


class _Inputs(BaseModel):
    payload: Json[_Payload]


class _Output(BaseModel):
    response: str


class _Request(BaseModel):
    timestamp: Nanoseconds
    request_inputs: _Inputs
    response_timestamps: list[Nanoseconds]
    response_outputs: list[_Output]


class _Experiment(BaseModel):
    requests: list[_Request]


class _Export(BaseModel):
    service_kind: Literal["openai"]
    endpoint: Literal["v1/chat/completions"]
    experiments: list[_Experiment]


def read_records(path: Path) -> tuple[Entry, ...]:
    """The requests in the order of sending, named by their prompts. Raises UserError."""
    try:
        export = _Export.model_validate_json(read_text(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise damaged(path, f"{place} {first['msg']}") from error
    requests = [request for one in export.experiments for request in one.requests]
    return tuple(map(_entry, sorted(requests, key=lambda request: request.timestamp)))


def _entry(request: _Request) -> Entry:
    # The status is not recorded; perf_analyzer gives up on any other.
    head = {"content-type": "text/event-stream"}
    exchange = Exchange(status=200, headers=head, complete=True)
    for at_ns, output in zip(request.response_timestamps, request.response_outputs, strict=False):
        exchange.add((at_ns - request.timestamp) / NS_PER_S, output.response.encode())
    prompt = request.request_inputs.payload.messages[-1].content
    return Entry(prompt, request.timestamp, request.timestamp, read_answer(exchange))
