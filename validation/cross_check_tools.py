"""The tools of the cross-check, each as a function of a load: drivers, and `vllm bench serve`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path

import orjson

from bench.analysis.metrics import metric
from bench.drivers import Driver
from bench.drivers.aiperf import AiperfDriver
from bench.drivers.aiperf import make as make_aiperf
from bench.drivers.artifacts.reading import read_runs
from bench.drivers.builtin import BuiltinDriver
from bench.drivers.driver import Setup
from bench.drivers.openai_sdk import OpenAiDriver
from bench.environments.local import LocalEnvironment
from bench.environments.local.install import ensure_engine
from bench.errors import UserError
from bench.load.run.drive import DriveResult, Load
from bench.processes.guarded import last_lines
from bench.progress import Progress
from validation.figures import Metric
from validation.harness import command_line, output_of

Values = Mapping[str, float]
"""Values by the name of the metric; one that a tool does not report is left out."""

Measure = Callable[[Load], Mapping[str, Values]]
"""Does the work; values by the line of the table in which they stand."""

DRAIN_S = 60.0
VLLM_LIMIT_S = 420.0


def _metric(key: str, title: str, unit: str) -> Metric[Values]:
    """A column: times are in seconds here, and shown in milliseconds."""
    scale = 1000.0 if unit == "ms" else 1.0
    return Metric(key, title, unit, lambda values, _: values.get(key), scale=scale)


METRICS = (
    _metric("ttft_p50_s", "TTFT p50", "ms"),
    _metric("ttft_p95_s", "TTFT p95", "ms"),
    _metric("tpot_p50_s", "TPOT p50", "ms"),
    _metric("e2e_p50_s", "E2E p50", "ms"),
    _metric("output_tps", "output", "tok/s"),
    _metric("throughput_rps", "requests", "req/s"),
)
# The keys in vLLM's result file, which has values as they are shown here.
_VLLM_KEYS = {
    "ttft_p50_s": "p50_ttft_ms",
    "ttft_p95_s": "p95_ttft_ms",
    "tpot_p50_s": "p50_tpot_ms",
    "e2e_p50_s": "p50_e2el_ms",
    "output_tps": "output_throughput",
    "throughput_rps": "request_throughput",
}


def tools_for(
    environment: LocalEnvironment, cache: Path, logs: Path, progress: Progress
) -> dict[str, Measure]:
    """All tools, with what they need under `cache`; what they leave goes under `logs`."""
    folders = (logs / f"{number:03}" for number in count())
    site, tokenizer_folder = environment.site(), environment.tokenizer_folder
    aiperf = make_aiperf(Setup(cache, folders, tokenizer_folder, progress, site))
    python = ensure_engine(cache, progress).python
    return {
        "builtin": lambda load: {"builtin": by_driver("builtin", BuiltinDriver(site), load)},
        "openai": lambda load: {"openai": by_driver("openai", OpenAiDriver(), load)},
        "aiperf": lambda load: by_aiperf(aiperf, next(folders), load),
        "vllm bench": lambda load: {
            "vllm bench": by_vllm_bench(python, tokenizer_folder, next(folders), load)
        },
    }


def by_driver(name: str, driver: Driver, load: Load) -> Values:
    """A driver's samples by the definitions here. Raises UserError if a request failed."""
    result = driver.run(load, drain_timeout_s=DRAIN_S)
    failed = [sample for sample in result.samples if not sample.ok]
    if failed or len(result.samples) < len(load.prompts):
        first = f"; first: {failed[0].error} ({failed[0].detail})" if failed else ""
        raise UserError(f"{name}: {len(failed)} requests failed{first}; look at the engine")
    return measured(result)


def measured(result: DriveResult) -> Values:
    """The metrics of a drive by the definitions here, over the time that it took."""
    return _known(lambda key: metric(key).function(result.samples, result.elapsed_s, {}))


def by_aiperf(driver: AiperfDriver, folder: Path, load: Load) -> Mapping[str, Values]:
    """aiperf's records by the definitions here, and what aiperf itself reports of that run."""
    ours = by_driver("aiperf", replace(driver, folders=iter((folder,))), load)
    (own,) = read_runs(folder / "profile_export_aiperf.json").runs
    return {"aiperf": ours, "aiperf, own report": _known(own.values.get)}


def _known(value_of: Callable[[str], float | None]) -> Values:
    """The values of the table's metrics, by their keys, that are not None."""
    found = {one.key: value_of(one.key) for one in METRICS}
    return {key: value for key, value in found.items() if value is not None}


def by_vllm_bench(
    python: Path, tokenizer_folder: Callable[[str], Path], folder: Path, load: Load
) -> Values:
    """What `vllm bench serve` of the engine's `python` reports of equal requests."""
    folder.mkdir(parents=True)
    (folder / "input.json").write_bytes(_conversations(load))
    request, log, result = load.schedule.requests[0], folder / "log", folder / "result.json"
    command = command_line(
        *("vllm_bench", "vllm_bench_of_prompts"),
        python=python,
        url=load.urls[0],
        model=request.model,
        tokenizer=tokenizer_folder(request.model).resolve(),
        folder=folder,
        tokens=request.output_tokens,
        requests=len(load.prompts),
        streams=load.schedule.concurrency,
    )
    output_of(command, log, VLLM_LIMIT_S, name="vllm bench")
    if not result.exists():
        raise UserError(f"vllm bench measured nothing: {last_lines(log)[:200]}; see {log}")
    tokens = sum(request.output_tokens for request in load.schedule.requests)
    return vllm_values(orjson.loads(result.read_bytes()), len(load.prompts), tokens, log)


def _conversations(load: Load) -> bytes:
    """The prompts in the one format that it reads without packages that the engine lacks.

    The second turn stands for the answer; only that it is there counts.
    """
    turns = ([{"value": prompt}, {"value": prompt}] for prompt in load.prompts)
    return orjson.dumps([{"conversations": each} for each in turns])


def vllm_values(result: Mapping[str, float], requests: int, tokens: int, log: Path) -> Values:
    """The metrics of its result file. Raises UserError when a request failed or ended early."""
    if result["completed"] != requests:
        raise UserError(f"vllm bench completed {result['completed']} of {requests}; see {log}")
    if result["total_output_tokens"] != tokens:
        got = result["total_output_tokens"]
        raise UserError(f"vllm bench got {got} of {tokens} tokens: answers ended early; see {log}")
    return {one.key: result[_VLLM_KEYS[one.key]] / one.scale for one in METRICS}
