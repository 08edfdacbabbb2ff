"""Small artifacts as aiperf 0.13.0 and genai-perf 0.0.16 write them. No result rests on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

START_NS = 1_795_442_434_000_000_000


def aiperf_line(
    name: str,
    *,
    issued_ms: float = 0.0,
    late_ms: float = 1.0,
    ttft_ms: float = 100.0,
    gaps_ms: tuple[float, ...] = (20.0, 20.0),
    tokens: tuple[int, int] | None = (16, 3),
    phase: str = "profiling",
    error: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A line of profile_export.jsonl."""
    issued_ns = START_NS + round(issued_ms * 1e6)
    metrics: dict[str, Any] = {"time_to_first_token": {"value": ttft_ms, "unit": "ms"}}
    metrics["inter_chunk_latency"] = {"value": list(gaps_ms), "unit": "ms"}
    metrics["output_sequence_length"] = {"value": 4, "unit": "tokens"}
    if tokens:
        metrics["usage_prompt_tokens"] = {"value": tokens[0], "unit": "tokens"}
        metrics["usage_completion_tokens"] = {"value": tokens[1], "unit": "tokens"}
    metadata = {
        "session_num": 0,
        "conversation_id": name,
        "benchmark_phase": phase,
        "credit_issued_ns": issued_ns,
        "request_start_ns": issued_ns + round(late_ms * 1e6),
        "was_cancelled": False,
    }
    if error:
        return {"metadata": metadata, "metrics": {}, "error": error}
    return {"metadata": metadata, "metrics": metrics}


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def aiperf_report(requests: int, *, model: str = "tiny", **changes: Any) -> dict[str, Any]:
    """profile_export_aiperf.json, with the parts that are read."""
    report = {
        "schema_version": "1.4",
        "aiperf_version": "0.13.0",
        "time_to_first_token": {"unit": "ms", "avg": 101.0, "p50": 100.0, "p95": 110.0},
        "inter_token_latency": {"unit": "ms", "avg": 21.0, "p50": 20.0, "p95": 25.0},
        "request_latency": {"unit": "ms", "avg": 141.0, "p50": 140.0, "p95": 150.0},
        "request_throughput": {"unit": "requests/sec", "avg": 4.0},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 64.0},
        "request_count": {"unit": "requests", "avg": float(requests)},
        "telemetry_data": {"summary": {}},
        "was_cancelled": False,
        "input_config": {
            "models": {"items": [{"name": model}]},
            "datasets": [{"type": "synthetic", "prompts": {"osl": {"mean": 3.0}}}],
            "phases": [
                {"kind": "warmup", "concurrency": 2},
                {"kind": "profiling", "type": "concurrency", "concurrency": 4},
            ],
            "slos": {"time_to_first_token": 500.0, "inter_token_latency": 50.0},
        },
    }
    return report | changes


def aiperf_loadgen_report(requests: int) -> dict[str, Any]:
    """The same as aiperf 0.8.0 writes it."""
    config = {
        "endpoint": {"model_names": ["tiny"], "type": "chat", "streaming": True},
        "input": {
            "prompt": {"output_tokens": {"mean": 3.0}},
            "goodput": {"time_to_first_token": 500.0},
        },
        "loadgen": {"concurrency": 4, "request_count": requests},
    }
    return aiperf_report(requests, aiperf_version="0.8.0", input_config=config)


def genai_perf_flat_report() -> dict[str, Any]:
    """profile_export_genai_perf.json as versions up to 0.0.13 write it."""
    config = {
        "model": ["tiny"],
        "concurrency": 4,
        "request_rate": None,
        "output_tokens_mean": 16,
        "output_tokens_stddev": 0,
        "goodput": {"time_to_first_token": 500.0},
    }
    return genai_perf_report() | {"input_config": config}


def genai_perf_report() -> dict[str, Any]:
    """profile_export_genai_perf.json, with the parts that are read."""
    return {
        "time_to_first_token": {"unit": "ms", "avg": 101.0, "p50": 100.0, "p95": 110.0},
        "inter_token_latency": {"unit": "ms", "avg": 21.0, "p50": 20.0, "p95": 25.0},
        "request_latency": {"unit": "ms", "avg": 141.0, "p50": 140.0, "p95": 150.0},
        "request_throughput": {"unit": "requests/sec", "avg": 4.0},
        "request_goodput": {"unit": "requests/sec", "avg": 3.0},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 64.0},
        "request_count": {"unit": "count", "avg": 20.0},
        "input_config": {
            "model_names": ["tiny"],
            "perf_analyzer": {"stimulus": {"concurrency": 4}},
            "input": {
                "goodput": {"time_to_first_token": 500.0},
                "output_tokens": {"mean": 16, "stddev": 0},
            },
        },
    }


def genai_perf_request(
    prompt: str, *, sent_ms: float = 0.0, answers: list[tuple[float, bytes]]
) -> dict[str, Any]:
    """A request of profile_export.json; `answers` are milliseconds after sending, and bytes."""
    sent_ns = START_NS + round(sent_ms * 1e6)
    payload = {"model": "tiny", "messages": [{"role": "user", "content": prompt}]}
    return {
        "timestamp": sent_ns,
        "request_inputs": {"payload": json.dumps(payload)},
        "response_timestamps": [sent_ns + round(after * 1e6) for after, _ in answers],
        "response_outputs": [{"response": text.decode()} for _, text in answers],
    }


def genai_perf_export(requests: list[dict[str, Any]]) -> dict[str, Any]:
    """profile_export.json: what perf_analyzer writes."""
    return {
        "version": "0.0.0",
        "service_kind": "openai",
        "endpoint": "v1/chat/completions",
        "experiments": [
            {
                "experiment": {"mode": "concurrency", "value": 4},
                "requests": requests,
                "window_boundaries": [],
            }
        ],
    }
