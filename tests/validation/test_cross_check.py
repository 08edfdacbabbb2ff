"""The cross-check's arithmetic and table; it measures real engines only, by `make cross-check`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.load.run.drive import DriveResult, Ending
from bench.records import Instrument
from tests.bench.making import answered
from validation.cross_check import COMPARISON, STEADY, WHY, Work, remarks_of
from validation.cross_check_tools import measured, vllm_values

ROOT = Path(__file__).parents[2]
WORK = Work("tiny-llama", 4, 32, 128, 64)
VLLM = {
    "completed": 3,
    "total_output_tokens": 192,
    "p50_ttft_ms": 100.0,
    "p95_ttft_ms": 120.0,
    "p50_tpot_ms": 10.0,
    "p50_e2el_ms": 700.0,
    "output_throughput": 320.0,
    "request_throughput": 5.0,
}


METRICS = {metric.key for metric in COMPARISON.metrics}


def rounds(*e2e_s: float) -> list[dict[str, dict[str, float]]]:
    return [{tool: dict.fromkeys(METRICS, value) for tool in WHY} for value in e2e_s]


def shown(found: list[dict[str, dict[str, float]]], width: int) -> str:
    return COMPARISON.text(COMPARISON.figures(found), remarks_of(found, WORK), width=width)


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=7), st.floats(0.5, 2.0))
def test_a_ratio_is_that_within_rounds_however_much_they_differ(
    reference: list[float], factor: float
) -> None:
    seen = [
        {"builtin": {"e2e_p50_s": value}, "other": {"e2e_p50_s": value * factor}}
        for value in reference
    ]
    figures = COMPARISON.figures(seen)
    assert figures["other"]["e2e_p50_s"].ratio == pytest.approx(factor)
    assert figures["builtin"]["e2e_p50_s"].ratio == 1.0
    assert figures["builtin"]["e2e_p50_s"].low == min(reference)


def test_a_metric_that_a_tool_does_not_tell_is_left_out() -> None:
    figures = COMPARISON.figures(
        [{"builtin": {"e2e_p50_s": 1.0, "output_tps": 2.0}, "x": {"output_tps": 2.0}}]
    )
    assert list(figures["x"]) == ["output_tps"]


def test_a_drive_is_measured_by_the_definitions_here() -> None:
    samples = tuple(answered(index, 0.2) for index in range(20))
    instrument = Instrument(0.0, 0.0, 0.0)
    seen = measured(DriveResult(samples, instrument, None, 4.0, Ending.COMPLETE))
    assert seen["ttft_p50_s"] == pytest.approx(0.2)
    assert seen["tpot_p50_s"] == pytest.approx(0.01)
    assert seen["throughput_rps"] == pytest.approx(5.0)
    assert set(seen) == METRICS


def test_vllms_milliseconds_become_seconds() -> None:
    seen = vllm_values(VLLM, 3, 192, Path("log"))
    assert set(seen) == METRICS
    assert seen["ttft_p50_s"] == pytest.approx(0.1)
    assert seen["output_tps"] == 320.0


def test_a_run_of_vllm_bench_that_lost_requests_does_not_count() -> None:
    with pytest.raises(UserError, match="completed 3 of 4; see log"):
        vllm_values(VLLM, 4, 256, Path("log"))


def test_a_run_of_vllm_bench_whose_answers_ended_early_does_not_count() -> None:
    with pytest.raises(UserError, match="got 192 of 256 tokens: answers ended early; see log"):
        vllm_values(VLLM, 3, 256, Path("log"))


@pytest.mark.parametrize("width", [40, 200])
def test_every_line_of_the_table_is_explained(width: int) -> None:
    text = shown(rounds(1.0, 1.0), width)
    for tool in WHY:
        assert f"\n{tool}  " in text
        assert f"\n{tool}: " in text
    assert "differed" not in text


def test_a_restless_machine_is_said() -> None:
    assert "differed 1.50-fold" in shown(rounds(1.0, 1.0 * STEADY + 0.4), 120)


def test_a_model_that_does_not_exist_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "validation", "cross-check", "--model", "gpt"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown model 'gpt'")
    assert len(done.stderr.splitlines()) == 1
