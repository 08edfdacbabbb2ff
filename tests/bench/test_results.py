"""What is stored of a run beside its trials: its results, and the noise of comparisons."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.judge import judge
from bench.analysis.judgement import Verdict
from bench.errors import UserError
from bench.store import NoiseStore, write_latest
from tests.bench.making import FACTS, failed, paired

BASE = (0.50, 0.52, 0.48, 0.51)
HALF = tuple(ttft_s / 2 for ttft_s in BASE)


def strictly(path: Path) -> Any:
    """Parse JSON, refusing the words for NaN and infinity that Python would accept."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_latest_holds_every_comparison_with_numbers_interval_and_verdict(tmp_path: Path) -> None:
    judgement = judge(paired(BASE, HALF))
    write_latest(tmp_path / "latest.json", [judgement], {"run_id": "r"})
    written = strictly(tmp_path / "latest.json")
    assert (written["version"], written["run"]) == (1, {"run_id": "r"})
    (scenario,) = written["scenarios"]
    assert (scenario["scenario"], scenario["valid"]) == ("heavy-tail", True)
    assert [one["metric"] for one in scenario["comparisons"]] == list(FACTS.metrics)
    primary, expected = scenario["comparisons"][0], judgement.primary
    assert expected is not None
    assert primary["verdict"] == Verdict.BETTER
    assert (primary["ratio"], primary["low"], primary["high"]) == (
        expected.ratio,
        expected.low,
        expected.high,
    )
    assert [one["outcome"] for one in scenario["slos"]] == ["met", "met"]


def test_latest_writes_null_with_a_reason_for_what_is_not_finite(tmp_path: Path) -> None:
    broken = [
        replace(one, samples=tuple(failed(index) for index in range(40)))
        for one in paired(BASE, HALF)
    ]
    write_latest(tmp_path / "latest.json", [judge(broken)], {})
    (scenario,) = strictly(tmp_path / "latest.json")["scenarios"]
    assert scenario["valid"] is False
    primary = scenario["comparisons"][0]
    assert (primary["control_value"], primary["verdict"]) == (None, "invalid")
    assert "control_value is inf" in primary["reasons"]
    assert {"value is inf"} <= {
        reason for one in scenario["summaries"] for reason in one.get("reasons", ())
    }


def test_latest_refuses_facts_that_json_has_no_word_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        write_latest(tmp_path / "latest.json", [], {"load": math.nan})
    assert not (tmp_path / "latest.json").exists()


def test_the_noise_of_runs_is_kept_by_kind_and_the_oldest_forgotten(tmp_path: Path) -> None:
    noise = NoiseStore(tmp_path / "noise.json")
    assert noise.known("a") == []
    for run in range(12):
        noise.remember("a", 0.1 * run + 0.1, 4)
    noise.remember("b", 0.5, 8)
    assert noise.known("b") == [(0.5, 8)]
    assert [round(spread, 1) for spread, _ in noise.known("a")] == [
        round(0.1 * run + 0.1, 1) for run in range(2, 12)
    ]


@pytest.mark.parametrize(
    "damaged", ["", "[]", '{"a": [[0.1]]}', '{"a": 3}', "\udcff", "[" * 99_999]
)
def test_a_damaged_file_of_noise_tells_nothing(tmp_path: Path, damaged: str) -> None:
    path = tmp_path / "noise.json"
    path.write_bytes(damaged.encode(errors="surrogateescape"))
    assert NoiseStore(path).known("a") == []
