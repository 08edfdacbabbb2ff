"""The result of `vllm bench serve`, with or without `--save-detailed`."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bench.drivers.artifacts.entry import NS_PER_S, Duration, Entry, Tokens
from bench.drivers.artifacts.run import TO_S, Report, ToolRun, beside, latencies, models_of
from bench.load.client.answer import Answer
from bench.load.client.exchange import Failure
from bench.records import ErrorKind

KNOWN = "vllm bench serve of vLLM 0.10 to 0.30"
_LATENCY = re.compile(r"([a-z]+\d*)_(ttft|tpot|itl|e2el|e2e_latency)_ms")
_QUANTITIES = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2el": "e2e", "e2e_latency": "e2e"}
_DETAIL_CHARACTERS = 200


class FlatReport(BaseModel):
    """What the reports of `vllm bench serve` and of SGLang's bench have in common.

    Latencies are in milliseconds. A rate is infinite where it is not limited.
    """

    request_rate: float
    max_concurrency: int | None
    duration: float
    completed: int
    total_input_tokens: int
    total_output_tokens: int
    request_throughput: float
    output_throughput: float
    request_goodput: float | None = None
    burstiness: float = 1.0


def facts(report: Report, flat: FlatReport) -> dict[str, Any]:
    """The fields of a `ToolRun` that both tools report alike."""
    answered = flat.completed
    numbers = {name: one for name, one in report.items() if isinstance(one, int | float)}
    values = {
        "throughput_rps": flat.request_throughput,
        "output_tps": flat.output_throughput,
        "goodput_rps": flat.request_goodput,
    }
    for name, value in numbers.items():
        if found := _LATENCY.fullmatch(name):
            # Without streaming latencies are written as 0.
            values |= latencies({found[2]: {found[1]: value or None}}, _QUANTITIES, TO_S["ms"])
    return {
        "values": values,
        "requests": answered,
        "concurrency": flat.max_concurrency,
        "rate_rps": None if math.isinf(flat.request_rate) else flat.request_rate,
        "prompt_tokens": flat.total_input_tokens / answered if answered else None,
        "answer_tokens": flat.total_output_tokens / answered if answered else None,
        "duration_s": flat.duration,
        "unread": tuple(
            name for name in beside(numbers, flat.model_fields_set) if not _LATENCY.fullmatch(name)
        ),
    }


class _Result(FlatReport):
    """`date` is when the run ended. The lists have a value for each request."""

    model_id: str
    num_prompts: int
    failed: int | None = None
    date: str
    # By --metadata pair=3, or block=3.
    pair: str = ""
    block: str = ""
    input_lens: list[Tokens] = []
    output_lens: list[Tokens] = []
    ttfts: list[Duration] = []
    itls: list[list[Duration]] = []
    start_times: list[Duration] = []
    queue_times: list[Duration] = []
    errors: list[str] = []


def recognises(report: Report) -> bool:
    """Whether this is a result of `vllm bench serve`."""
    return {"model_id", "num_prompts", "completed"} <= report.keys()


def read(report: Report, path: Path) -> Iterator[ToolRun]:
    """The run of a result. Raises ValueError for one of another form."""
    result = _Result.model_validate(report)
    ended_s = datetime.strptime(result.date, "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
    unanswered = result.num_prompts - result.completed
    yield ToolRun(
        tool="vllm bench serve",
        models=models_of(result.model_id),
        failed=unanswered if result.failed is None else result.failed,
        started_s=ended_s - result.duration,
        ended_s=ended_s,
        entries=tuple(_entries(result)),
        pair=result.pair or result.block,
        path=path,
        **facts(report, result),
    )


def _entries(result: _Result) -> Iterator[Entry]:
    """The requests; none where the result does not have when they were sent."""
    queued_s = result.queue_times
    # In a closed loop a request is not due before another one has ended.
    if math.isinf(result.request_rate) or not queued_s:
        queued_s = [0.0] * len(result.start_times)
    columns = (result.input_lens, result.output_lens, result.ttfts, result.itls, result.errors)
    rows = zip(result.start_times, queued_s, *columns, strict=True) if result.start_times else ()
    for number, (sent_s, waited_s, prompt, tokens, ttft_s, gaps_s, error) in enumerate(rows):
        sent_ns = round(sent_s * NS_PER_S)
        failure = _failure(error) if error or not ttft_s else None
        yield Entry(
            name=str(number),
            issued_ns=sent_ns - round(waited_s * NS_PER_S),
            sent_ns=sent_ns,
            answer=Answer(
                status=None if failure else 200,
                chunk_s=[] if failure else list(itertools.accumulate((ttft_s, *gaps_s))),
                prompt_tokens=prompt,
                output_tokens=tokens or None,
                failure=failure,
            ),
        )


def _failure(error: str) -> Failure:
    """A traceback is of a connection that broke; all else is the phrase of an HTTP status."""
    lines = error.strip().splitlines() or ["no first token was recorded"]
    kind = ErrorKind.DISCONNECT if error.startswith("Traceback") else ErrorKind.STATUS
    return Failure(kind, lines[-1][:_DETAIL_CHARACTERS])
