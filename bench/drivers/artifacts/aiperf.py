"""`profile_export.jsonl` of aiperf: one line for each request."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from bench.drivers.artifacts.entry import Duration, Entry, Nanoseconds, Tokens, damaged, read_text
from bench.load.client.answer import Answer, kind_of_status
from bench.load.client.exchange import Failure
from bench.records import ErrorKind

RECORDS = "profile_export.jsonl"
_TO_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "sec": 1.0}
_DETAIL_CHARACTERS = 200
# By the beginnings of errors' names. Errors by an HTTP status are named by its phrase; all others
# are connections that broke off.
_KINDS = {
    "ClientConnector": ErrorKind.CONNECT,
    "Timeout": ErrorKind.TIMEOUT,
    "RequestSendTimeout": ErrorKind.TIMEOUT,
    "RequestCancellation": ErrorKind.TIMEOUT,
    "InvalidInferenceResult": ErrorKind.EMPTY,
    "SSEResponse": ErrorKind.SERVER,
    "JSONDecode": ErrorKind.PROTOCOL,
}


_UNTIMED = Failure(ErrorKind.EMPTY, "aiperf recorded no first token")
_OF_STATUS = {ErrorKind.STATUS, ErrorKind.RATE_LIMITED, ErrorKind.UNAVAILABLE}


class _Durations(BaseModel):
    value: Duration | list[Duration]
    unit: Literal["ns", "us", "ms", "sec"]

    @property
    def seconds(self) -> list[float]:
        values = self.value if isinstance(self.value, list) else [self.value]
        return [value * _TO_S[self.unit] for value in values]


class _Count(BaseModel):
    value: Tokens


class _Metrics(BaseModel):
    """The metrics, of some hundred, that a sample is made from."""

    time_to_first_token: _Durations | None = None
    inter_chunk_latency: _Durations | None = None
    request_latency: _Durations | None = None
    usage_prompt_tokens: _Count | None = None
    usage_completion_tokens: _Count | None = None


class _Metadata(BaseModel):
    conversation_id: str = ""
    benchmark_phase: str = "profiling"
    credit_issued_ns: Nanoseconds | None = None
    request_start_ns: Nanoseconds
    was_cancelled: bool = False


class _Error(BaseModel):
    type: str = "error"
    message: str = ""
    code: int | None = None


class _Line(BaseModel):
    metadata: _Metadata
    metrics: _Metrics | None = None
    error: _Error | None = None


def read_records(path: Path) -> tuple[Entry, ...]:
    """The requests that were measured, not those of a warm-up, in the order of sending.

    Where the file does not have when a request was due, that is when it was sent. Raises
    UserError for a file of another kind.
    """
    entries = tuple(sorted(_entries(path), key=lambda entry: entry.sent_ns))
    untimed = any(entry.answer.failure is _UNTIMED for entry in entries)
    if untimed and not any(entry.answer.chunk_s for entry in entries):
        raise damaged(path, "no line has time_to_first_token; record with --streaming")
    return entries


def _entries(path: Path) -> Iterator[Entry]:
    texts = read_text(path).split("\n")
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        try:
            line = _Line.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            if number == len(texts) and first["type"] == "json_invalid":
                return  # it was being written when aiperf was ended
            place = ".".join(map(str, first["loc"]))
            raise damaged(path, f"line {number}: {place} {first['msg']}") from error
        if line.metadata.benchmark_phase == "profiling":
            yield _entry(line)


def _entry(line: _Line) -> Entry:
    failure, metrics = _failure(line), line.metrics or _Metrics()
    if not failure and not metrics.time_to_first_token:
        failure = _UNTIMED
    issued_ns, sent_ns = line.metadata.credit_issued_ns, line.metadata.request_start_ns
    return Entry(
        name=line.metadata.conversation_id,
        issued_ns=sent_ns if issued_ns is None else issued_ns,
        sent_ns=sent_ns,
        answer=Answer(
            status=_status(line, failure),
            chunk_s=_chunk_s(metrics),
            prompt_tokens=_count(metrics.usage_prompt_tokens),
            output_tokens=_count(metrics.usage_completion_tokens),
            failure=failure,
        ),
    )


def _chunk_s(metrics: _Metrics) -> list[float]:
    """The arrival of each chunk with content, after sending."""
    first, gaps, whole = (
        metrics.time_to_first_token,
        metrics.inter_chunk_latency,
        metrics.request_latency,
    )
    if first is None:
        return []
    if gaps is None and whole is not None and (_count(metrics.usage_completion_tokens) or 0) > 1:
        # Older versions keep only the end.
        return [*first.seconds, *whole.seconds]
    return list(itertools.accumulate((*first.seconds, *(gaps.seconds if gaps else ()))))


def _count(metric: _Count | None) -> int | None:
    return None if metric is None else metric.value


def _failure(line: _Line) -> Failure | None:
    error = line.error
    if error is None:
        cancelled = line.metadata.was_cancelled
        return Failure(ErrorKind.TIMEOUT, "cancelled by aiperf") if cancelled else None
    detail = " ".join(f"{error.type}: {error.message}".split())[:_DETAIL_CHARACTERS]
    for name, kind in _KINDS.items():
        if error.type.startswith(name):
            return Failure(kind, detail)
    if error.code:
        return Failure(kind_of_status(error.code), f"HTTP {error.code}: {detail}")
    return Failure(ErrorKind.DISCONNECT, detail)


def _status(line: _Line, failure: Failure | None) -> int | None:
    """The HTTP status; aiperf records it only where it is the error."""
    if failure is None or failure is _UNTIMED:
        return 200
    return line.error.code if line.error and failure.kind in _OF_STATUS else None
