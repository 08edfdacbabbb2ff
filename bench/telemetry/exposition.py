"""Reads the few series that are wanted out of vLLM's /metrics.

The whole text is some 56 KB with hundreds of series. One compiled expression finds those
that are wanted; nothing else of the text is parsed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

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
_FIELDS = {name.encode(): field for field, name in SERIES.items()}

_QUOTED = rb'"(?:[^"\\\n]|\\.)*"'
_SAMPLE = re.compile(
    # The expression begins with a literal, which makes the search much faster; that the
    # line begins there is checked afterwards.
    rb"vllm:(?:(?<=\Avllm:)|(?<=\nvllm:))"
    rb"(?P<name>" + b"|".join(name.removeprefix(b"vllm:") for name in _FIELDS) + rb")"
    # What follows the name is a label set or a blank, or it would be another name.
    rb"(?:\{(?P<labels>(?:[^\"}\n]|" + _QUOTED + rb")*)\}|(?=[ \t]))"
    rb"[ \t]*(?P<value>[^ \t\r\n]+)"
)
_MODEL_NAME = re.compile(rb"(?:^|,)[ \t]*model_name[ \t]*=[ \t]*(" + _QUOTED + rb")")
_ESCAPED = re.compile(rb"\\(.)")


def read_series(text: bytes, model: str) -> dict[str, float]:
    """The wanted series of `model` by field; what is not exported, or no number, is left out.

    A replica may have several engines (data parallelism), and a series one more label:
    these are summed. KV cache usage, a share in [0, 1], is that of the fullest engine,
    which is the first to preempt.
    """
    values: dict[str, list[float]] = {}
    for match in _SAMPLE.finditer(text):
        value = _number(match["value"])
        if value is not None and _model_name(match["labels"] or b"") == model:
            values.setdefault(_FIELDS[b"vllm:" + match["name"]], []).append(value)
    return {
        field: max(read) if field == "kv_cache_usage" else math.fsum(read)
        for field, read in values.items()
    }


def _number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _model_name(labels: bytes) -> str | None:
    match = _MODEL_NAME.search(labels)
    if match is None:
        return None
    name = _ESCAPED.sub(lambda escaped: b"\n" if escaped[1] == b"n" else escaped[1], match[1][1:-1])
    return name.decode("utf-8", errors="replace")
