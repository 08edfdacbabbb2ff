"""The series that are wanted out of vLLM's /metrics, for each engine of one replica."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lb.discovery.engine_metrics import compile_series, samples

# Fields of `ServerReading`, and where vLLM exports them. Counters are exported a second time
# as `..._created`, the time at which they began: names are matched whole.
SERIES: Mapping[str, str] = {
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "kv_cache_usage": "vllm:kv_cache_usage_perc",
    "preemptions": "vllm:num_preemptions_total",
    "prefix_queries": "vllm:prefix_cache_queries_total",
    "prefix_hits": "vllm:prefix_cache_hits_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "generation_tokens": "vllm:generation_tokens_total",
    "finished": "vllm:request_success_total",
}
_FIELDS = {name: field for field, name in SERIES.items()}
_WANTED = compile_series(_FIELDS)


def read_series(text: bytes, model: str) -> dict[str, float]:
    """The wanted series of `model` by field; what is not exported, or no number, is left out.

    A replica may have several engines (data parallelism), and a series one more label:
    these are summed. KV cache usage, a share in [0, 1], is that of the fullest engine,
    which is the first to preempt.
    """
    values: dict[str, list[float]] = {}
    for name, value in samples(_WANTED, text, {model}):
        values.setdefault(_FIELDS[name], []).append(value)
    return {
        field: max(read) if field == "kv_cache_usage" else math.fsum(read)
        for field, read in values.items()
    }
