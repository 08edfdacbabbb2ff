"""What is enforced, by which rule, and why: as JSON values and as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bench.analysis.checks import DEFAULT_BOUNDS, checks
from bench.analysis.gates import EXIT_CODES, Gate, Outcome, gate_of, outcome_of_gates
from bench.analysis.judgement import Verdict
from bench.analysis.verdict import ALIKE, ALPHA, LOOKS, MATERIAL, RULE
from bench.cli.scenarios import MeasuredScenario, measured_scenarios
from bench.config.slo import Slos
from bench.console import as_text
from bench.paths import PACKAGES
from bench.records import Expectation, Slo
from reports import wording

_NARROWEST = 80
_OBJECTIVES = ("ttft_s", "tpot_s", "e2e_s")


def gates_json(slos: Slos) -> dict[str, Any]:
    """All that is enforced. Raises UserError if there are no scenarios here."""
    return {
        "rule": {
            "version": RULE,
            "alpha": ALPHA,
            "looks": list(LOOKS),
            "material": _share(MATERIAL),
            "equivalent_within": _share(ALIKE),
        },
        "verdicts": {
            expect: {verdict: _outcome(verdict, expect) for verdict in Verdict}
            for expect in Expectation
        },
        "gates": {gate: outcome_of_gates([gate]) for gate in Gate},
        "exit_codes": {
            one: {"compare": code, "pytest": int(one is not Outcome.HELD)}
            for one, code in EXIT_CODES.items()
        },
        "instrument": {
            "checks": [check.what for check in checks(DEFAULT_BOUNDS)],
            "bounds": asdict(DEFAULT_BOUNDS),
        },
        "slo_file": str(
            slos.path.relative_to(PACKAGES) if slos.path.is_relative_to(PACKAGES) else slos.path
        ),
        "scenarios": [_scenario_json(one, slos) for one in measured_scenarios()],
    }


def _share(logarithm: float) -> float:
    return round(math.expm1(logarithm), 6)


def _outcome(verdict: Verdict, expect: Expectation) -> Outcome:
    if verdict is Verdict.INVALID:
        return outcome_of_gates([Gate.INVALID])
    gate = gate_of(verdict, expect)
    return outcome_of_gates([] if gate is None else [gate])


def _scenario_json(one: MeasuredScenario, slos: Slos) -> dict[str, Any]:
    scenario = one.scenario
    return {
        "scenario": scenario.name,
        "module": one.module,
        "summary": one.summary,
        "why": one.why,
        "models": one.models,
        "primary": scenario.primary,
        "expect": scenario.expect,
        # In a search, attainment is what the load is searched for, and no gate.
        "searched": scenario.search is not None,
        "tests": [asdict(test) for test in one.tests],
        "slos": [
            {
                "model": model,
                "tenant": tenant,
                **asdict(slos.resolve(scenario.name, model, tenant)),
                "lines": slos.lines(scenario.name, model, tenant),
            }
            for model in ("", *slos.models_of(scenario.name))
            for tenant in scenario.tenants or ("",)
        ],
    }


def gates_text(found: Mapping[str, Any], *, width: int, colour: bool) -> str:
    """What `gates_json` returns, for people: scenarios, then verdicts, then the rule."""
    parts = (_scenario_table(found), "", _verdict_table(found), Text("\n".join(_rule(found))))
    return as_text(parts, width=width, narrowest=_NARROWEST, colour=colour)


def _scenario_table(found: Mapping[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, leading=1)
    table.add_column("scenario", no_wrap=True)
    table.add_column(Text(f"enforced; [n] is a line of {found['slo_file']}"), ratio=1)
    table.add_column("why", ratio=1)
    for one in found["scenarios"]:
        enforced, why = "\n".join(_enforced(one)), f"{one['summary']} {one['why']}".strip()
        table.add_row(one["scenario"], Text(enforced), Text(why))
    return table


def _enforced(one: Mapping[str, Any]) -> Iterator[str]:
    """`managed: treatment better in Scheduled TTFT p95; SLO of the treatment`, and the SLOs."""
    words = {"verdict": f"{_words(one['expect'])} in {wording.metric(one['primary'])}"}
    for test in one["tests"]:
        required = [what for what in test["requires"] if what in words or not one["searched"]]
        each = [*(words.get(what, what) for what in required), *test["asserts"]]
        if not each:
            each = ["a valid measurement" if test["requires"] else "recorded only"]
        yield f"-m {', '.join(test['markers'])}: {'; '.join(each)}"
    yield f"models: {one['models']}"
    what = "load searched at SLO" if one["searched"] else "SLO"
    for slo in one["slos"]:
        whose = " ".join(filter(None, (slo["model"], slo["tenant"])))
        yield f"{what}{f' of {whose}' if whose else ''}: {_objectives(slo) or 'none'}"


def _objectives(slo: Mapping[str, Any]) -> str:
    """`TTFT ≤ 2 s [11], 90 % of requests [13]`; empty where none is set."""
    limits = {name: wording.objectives(Slo(**{name: slo[name]})) for name in _OBJECTIVES}
    if not any(limits.values()):
        return ""
    texts = limits | {"attainment": f"{wording.target(slo['attainment'])} of requests"}
    lines = slo["lines"]
    return ", ".join(
        f"{text} [{lines[name]}]" if name in lines else f"{text} [default]"
        for name, text in texts.items()
        if text
    )


def _verdict_table(found: Mapping[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("expected", *Verdict):
        table.add_column(heading)
    for expect, outcomes in found["verdicts"].items():
        table.add_row(_words(expect), *outcomes.values())
    return table


def _words(expect: str) -> str:
    return expect.replace("-", " ")


def _rule(found: Mapping[str, Any]) -> Iterator[str]:
    rule = found["rule"]
    material = wording.target(rule["material"])
    alike = wording.target(rule["equivalent_within"])
    looks = ", ".join(map(str, rule["looks"]))
    yield f"better, worse: the interval excludes 1, and the change is at least {material}"
    yield f"equivalent: the interval lies within ±{alike}; inconclusive: none of these"
    level = wording.target(1 - rule["alpha"])
    yield f"the interval has {level} at each look; looks are after {looks} blocks"
    yield f"invalid: {', '.join(found['instrument']['checks'])}; or too few requests"
    for outcome, codes in found["exit_codes"].items():
        gates = [gate for gate, comes_to in found["gates"].items() if comes_to == outcome]
        why = f" ({', '.join(gates)})" if gates else ""
        yield (
            f"outcome {outcome}{why}: exit code {codes['compare']} of compare,"
            f" {codes['pytest']} of pytest"
        )
    yield "--undecided pass makes the exit code of undecided 0"
    yield "an SLO is missed where the whole interval of the share lies below the target"
