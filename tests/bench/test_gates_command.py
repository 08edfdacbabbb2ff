"""`python -m bench gates`: what it says is what gates do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

from bench.analysis.gates import EXIT_CODES, outcome_of
from bench.analysis.judgement import Verdict
from bench.cli.commands import main
from bench.cli.pytest_plugin import scenario_modules
from bench.cli.scenarios import measured_scenarios
from bench.experiment.scenario import scenario_name
from bench.records import Expectation
from tests.bench.test_gates import judgement

SLO = """\
default:
  ttft_s: 2.0
scenarios:
  latency:
    models:
      small:
        ttft_s: 0.5
  noisy-neighbour:
    tenants:
      quiet: {tpot_s: 0.05}
"""
FILE = Path(__file__).parents[2] / "bench" / "slo.yaml"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of a table is broken."""
    monkeypatch.setenv("COLUMNS", "250")


def found(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["gates", "--format", "json", *options]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def scenario(told: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = (one for one in told["scenarios"] if one["scenario"] == name)
    return dict(one)


def test_every_test_of_every_scenario_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    told = found(capsys)
    names = {one["scenario"] for one in told["scenarios"]}
    assert names == set(map(scenario_name, scenario_modules()))
    for one in told["scenarios"]:
        control, treatment = one["tests"]
        # A control that accepts more than it can serve meets no objective for long.
        wanted = [] if one["scenario"] == "overload" else ["SLO of the control"]
        assert (control["markers"], control["requires"]) == (["baseline"], wanted)
        assert treatment["markers"] == ["managed"]
        assert treatment["requires"] == ["verdict", "SLO of the treatment"]
        assert one["summary"]
        assert one["why"]


@pytest.mark.parametrize("expect", Expectation)
@pytest.mark.parametrize("verdict", sorted(set(Verdict) - {Verdict.INVALID}))
def test_a_verdict_comes_to_what_the_table_says(
    capsys: pytest.CaptureFixture[str], expect: Expectation, verdict: Verdict
) -> None:
    told, judged = found(capsys), judgement(verdict, expect)
    assert told["verdicts"][expect][verdict] == outcome_of(judged)
    invalid = replace(judged, invalid_reasons=("client CPU 97 %",))
    assert told["verdicts"][expect]["invalid"] == outcome_of(invalid)


def test_exit_codes_are_those_of_compare(capsys: pytest.CaptureFixture[str]) -> None:
    codes = found(capsys)["exit_codes"]
    assert {name: one["compare"] for name, one in codes.items()} == EXIT_CODES


def test_objectives_name_the_line_that_sets_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SLO, encoding="utf-8")
    told = found(capsys, "--slo", str(file))
    assert told["slo_file"] == str(file)
    for_all, small = scenario(told, "latency")["slos"]
    assert (for_all["ttft_s"], for_all["lines"]) == (2.0, {"ttft_s": 2})
    assert (small["model"], small["ttft_s"], small["lines"]) == ("small", 0.5, {"ttft_s": 7})
    quiet, noisy = scenario(told, "noisy-neighbour")["slos"]
    assert (quiet["tenant"], quiet["tpot_s"], quiet["lines"]["tpot_s"]) == ("quiet", 0.05, 10)
    assert (noisy["tenant"], noisy["tpot_s"]) == ("noisy", None)


def test_people_get_the_same_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gates"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    lines = FILE.read_text("utf-8").splitlines()
    ttft, share = (1 + lines.index(f"  {one}") for one in ("ttft_s: 2.0", "attainment: 0.9"))
    assert "[n] is a line of bench/slo.yaml" in text
    assert f"SLO: TTFT ≤ 2 s [{ttft}]" in text
    assert f"[{share}]" in text
    assert "-m managed: better in Scheduled TTFT p95" in text
    assert "load searched at SLO: TTFT ≤ 250 ms" in text
    assert "outcome undecided (inconclusive): exit code 3 of compare, 1 of pytest" in text


def test_what_a_test_asserts_itself_is_told_and_what_only_records_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "test_latency.py"
    source.write_text(
        (FILE.parents[1] / "tests/scenarios/test_latency.py")
        .read_text("utf-8")
        .replace("    require_slo(measure(SCENARIO, model))", "    measure(SCENARIO, model)")
        .replace(
            "    require_gates(measure(SCENARIO, model))",
            "    assert measure(SCENARIO, model).blocks > 3",
        ),
        encoding="utf-8",
    )
    module = ModuleType("tests.scenarios.test_latency")
    module.__file__ = str(source)
    exec(compile(source.read_text("utf-8"), str(source), "exec"), vars(module))
    monkeypatch.setattr("bench.cli.scenarios.SCENARIOS", tmp_path)
    monkeypatch.setattr("bench.cli.scenarios.import_module", lambda name: module)
    (one,) = measured_scenarios()
    assert all(
        isinstance(value, FunctionType) for value in (vars(module)[t.name] for t in one.tests)
    )
    assert main(["gates"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "-m baseline: recorded only" in text
    assert "-m managed: measure(SCENARIO, model).blocks > 3" in text


def test_without_scenarios_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.cli.scenarios.SCENARIOS", tmp_path)
    assert main(["gates"]) == 2
    assert capsys.readouterr().err == (
        f"error: no scenarios under {tmp_path}; run this in a checkout of the suite\n"
    )
