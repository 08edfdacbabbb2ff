"""The tools of the cross-check, each as a function of a load: drivers, and `vllm bench serve`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path

import orjson

from bench.analysis.metrics import metric
from bench.drivers import Driver
from bench.drivers.aiperf import AiperfDriver
from bench.drivers.aiperf import make as make_aiperf
from bench.drivers.artifacts.summary import AIPERF, read_summary
from bench.drivers.builtin import BuiltinDriver
from bench.drivers.driver import Setup
from bench.drivers.openai_sdk import OpenAiDriver
from bench.drivers.tools import run_bounded
from bench.environments.local import LocalEnvironment
from bench.environments.local.install import ensure_engine
from bench.errors import UserError
from bench.load.drive import Load
from bench.load.outcome import DriveResult
from bench.processes.guarded import last_lines
from bench.progress import Progress
from validation.harness import VLLM_BENCH

Values = Mapping[str, float]
"""Values by the name of the metric; one that a tool does not report is left out."""

Measure = Callable[[Load], Mapping[str, Values]]
"""Does the work; values by the line of the table in which they stand."""

DRAIN_S = 60.0
VLLM_LIMIT_S = 420.0
_OF_AIPERF = {
    "ttft_p50_s": ("time_to_first_token", "p50"),
    "ttft_p95_s": ("time_to_first_token", "p95"),
    "tpot_p50_s": ("inter_token_latency", "p50"),
    "e2e_p50_s": ("request_latency", "p50"),
    "output_tps": ("output_token_throughput", "avg"),
    "throughput_rps": ("request_throughput", "avg"),
}
_OF_VLLM = {
    "ttft_p50_s": ("p50_ttft_ms", 1e-3),
    "ttft_p95_s": ("p95_ttft_ms", 1e-3),
    "tpot_p50_s": ("p50_tpot_ms", 1e-3),
    "e2e_p50_s": ("p50_e2el_ms", 1e-3),
    "output_tps": ("output_throughput", 1.0),
    "throughput_rps": ("request_throughput", 1.0),
}


def tools_for(
    environment: LocalEnvironment, cache: Path, logs: Path, progress: Progress
) -> dict[str, Measure]:
    """All tools, with what they need under `cache`; what they leave goes under `logs`."""
    folders = (logs / f"{number:03}" for number in count())
    tokenizer_folder = environment.tokenizer_folder
    aiperf = make_aiperf(Setup(cache, folders, tokenizer_folder, progress, environment.site()))
    python = ensure_engine(cache, progress).python
    return {
        "builtin": by_driver("builtin", BuiltinDriver(environment.site())),
        "openai": by_driver("openai", OpenAiDriver()),
        "aiperf": by_aiperf(aiperf, folders),
        "vllm bench": by_vllm_bench(python, tokenizer_folder, folders),
    }


def measured(result: DriveResult) -> dict[str, float]:
    """The metrics of a drive by the definitions here, over the time that it took."""
    found = {
        name: metric(name).function(result.samples, result.elapsed_s, {}) for name in _OF_AIPERF
    }
    return {name: value for name, value in found.items() if value is not None}


def by_driver(name: str, driver: Driver) -> Measure:
    """A driver's samples by the definitions here."""

    def measure(load: Load) -> Mapping[str, Values]:
        result = driver.run(load, drain_timeout_s=DRAIN_S).result
        failed = [sample for sample in result.samples if not sample.ok]
        if failed or len(result.samples) < len(load.prompts):
            first = f"; first: {failed[0].error} ({failed[0].detail})" if failed else ""
            raise UserError(f"{name}: {len(failed)} requests failed{first}; look at the engine")
        return {name: measured(result)}

    return measure


def by_aiperf(driver: AiperfDriver, folders: Iterator[Path]) -> Measure:
    """aiperf's records by the definitions here, and what aiperf itself reports of that run."""

    def measure(load: Load) -> Mapping[str, Values]:
        folder = next(folders)
        ours = by_driver("aiperf", replace(driver, folders=iter((folder,))))(load)
        summary = read_summary(folder / AIPERF)
        reported = {name: summary.statistic(*place) for name, place in _OF_AIPERF.items()}
        own = {name: value for name, value in reported.items() if value is not None}
        return {**ours, "aiperf, own report": own}

    return measure


def by_vllm_bench(
    python: Path, tokenizer_folder: Callable[[str], Path], folders: Iterator[Path]
) -> Measure:
    """What `vllm bench serve` of the engine's `python` reports of equal requests."""

    def measure(load: Load) -> Mapping[str, Values]:
        folder = next(folders)
        folder.mkdir(parents=True)
        (folder / "input.json").write_bytes(_conversations(load))
        log, result = folder / "log", folder / "result.json"
        arguments = _vllm_arguments(load, folder, tokenizer_folder)
        command = [str(python), "-c", VLLM_BENCH, *arguments]
        run_bounded("vllm bench", command, log=log, limit_s=VLLM_LIMIT_S)
        if not result.exists():
            raise UserError(f"vllm bench measured nothing: {last_lines(log)[:200]}; see {log}")
        tokens = sum(request.output_tokens for request in load.schedule.requests)
        values = vllm_values(orjson.loads(result.read_bytes()), len(load.prompts), tokens, log)
        return {"vllm bench": values}

    return measure


def _vllm_arguments(load: Load, folder: Path, tokenizer_folder: Callable[[str], Path]) -> list[str]:
    request = load.schedule.requests[0]
    options = {
        "--backend": "openai-chat",
        "--endpoint": "/v1/chat/completions",
        "--base-url": load.urls[0],
        "--model": request.model,
        "--tokenizer": str(tokenizer_folder(request.model).resolve()),
        "--dataset-name": "sharegpt",
        "--dataset-path": str(folder / "input.json"),
        "--sharegpt-output-len": str(request.output_tokens),
        "--num-prompts": str(len(load.prompts)),
        "--max-concurrency": str(load.schedule.concurrency),
        "--extra-body": orjson.dumps({"min_tokens": request.output_tokens}).decode(),
        "--temperature": "0",
        "--percentile-metrics": "ttft,tpot,e2el",
        "--metric-percentiles": "50,95",
        # Else it sends the first prompt once before, and so puts it into the prefix cache.
        "--ready-check-timeout-sec": "0",
        "--result-dir": str(folder),
        "--result-filename": "result.json",
    }
    flags = ["--ignore-eos", "--disable-shuffle", "--save-result"]
    return [part for option in options.items() for part in option] + [*flags, "--disable-tqdm"]


def _conversations(load: Load) -> bytes:
    """The prompts in the one format that it reads without packages that the engine lacks.

    The second turn stands for the answer; only that it is there counts.
    """
    turns = ([{"value": prompt}, {"value": prompt}] for prompt in load.prompts)
    return orjson.dumps([{"conversations": each} for each in turns])


def vllm_values(
    result: dict[str, float], requests: int, tokens: int, log: Path
) -> dict[str, float]:
    """The metrics of its result file. Raises UserError when a request failed or ended early."""
    if result["completed"] != requests:
        raise UserError(f"vllm bench completed {result['completed']} of {requests}; see {log}")
    if result["total_output_tokens"] != tokens:
        got = result["total_output_tokens"]
        raise UserError(f"vllm bench got {got} of {tokens} tokens: answers ended early; see {log}")
    return {name: result[key] * factor for name, (key, factor) in _OF_VLLM.items()}
