"""The tools that are compared, each as a function of a load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from bench.drivers import Driver
from bench.drivers.aiperf import AiperfDriver
from bench.drivers.artifacts.summary import AIPERF, read_summary
from bench.errors import UserError
from bench.load.drive import Load
from validation.cross_check.figures import METRICS, Values, measured
from validation.cross_check.vllm_bench import VllmBench

DRAIN_S = 60.0
Measure = Callable[[Load], Mapping[str, Values]]
"""Does the work; values by the name of the line that they stand in."""

_OF_AIPERF = {
    "ttft_p50_s": ("time_to_first_token", "p50"),
    "ttft_p95_s": ("time_to_first_token", "p95"),
    "tpot_p50_s": ("inter_token_latency", "p50"),
    "e2e_p50_s": ("request_latency", "p50"),
    "output_tps": ("output_token_throughput", "avg"),
    "throughput_rps": ("request_throughput", "avg"),
}


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
    """aiperf's records by the definitions here, and what it reports itself of that run."""

    def measure(load: Load) -> Mapping[str, Values]:
        folder = next(folders)
        seen = by_driver("aiperf", replace(driver, folders=iter((folder,))))(load)
        summary = read_summary(folder / AIPERF)
        told = {metric: summary.statistic(*_OF_AIPERF[metric]) for metric in METRICS}
        own = {metric: value for metric, value in told.items() if value is not None}
        return {**seen, "aiperf, own report": own}

    return measure


def by_vllm_bench(bench: VllmBench, folders: Iterator[Path]) -> Measure:
    """What `vllm bench serve` reports."""
    return lambda load: {"vllm bench": bench.run(load, next(folders))}
