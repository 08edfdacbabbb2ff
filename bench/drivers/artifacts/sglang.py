"""The result of SGLang's `bench_serving`. It does not have when requests were sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.drivers.artifacts.run import Report, ToolRun, models_of
from bench.drivers.artifacts.vllm_bench import FlatReport, facts

KNOWN = "sglang.bench_serving of SGLang 0.4 to 0.5"


class _Result(FlatReport):
    """`server_info` is the server's own, None where it is no SGLang server.

    `errors` has a text for each request, with `--output-details`.
    """

    server_info: dict[str, Any] | None = None
    total_output_tokens_retokenized: int
    errors: list[str] | None = None


def recognises(report: Report) -> bool:
    """Whether this is a result of SGLang's bench."""
    return {"dataset_name", "completed", "total_output_tokens_retokenized"} <= report.keys()


def read(report: Report, path: Path) -> Iterator[ToolRun]:
    """The run of a result. Raises ValueError for one of another form."""
    result = _Result.model_validate(report)
    server = result.server_info or {}
    yield ToolRun(
        tool="sglang.bench_serving",
        models=models_of(server.get("served_model_name") or server.get("model_path")),
        version=server.get("version"),
        failed=None if result.errors is None else len(result.errors) - result.completed,
        path=path,
        **facts(report, result),
    )
