"""The run of gpu-check that is stored in a folder: what it goes on with, and its report."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.kvcached import (
    Answer,
    ArmEvidence,
    EngineEvidence,
    GpuMemory,
    Segment,
    Token,
    as_provenance,
)
from bench.errors import UserError
from bench.progress import PlainProgress
from bench.records import MemoryReading, MemorySeries, Role, Trial
from bench.store import TrialStore
from tests.bench.making import answered, trial
from validation.gpu_check import measuring
from validation.gpu_check.command import measure_and_report, write_report
from validation.gpu_check.engines import Source, Up
from validation.gpu_check.measuring import RUN_FILE, measure, open_run
from validation.gpu_check.plan import ARMS, LOADS, ORDER, Plan
from validation.gpu_check.report import load, markdown

PLAN = Plan({"a": 60_000, "b": 40_000, "c": 20_000})


class Nowhere(Source):
    """A source whose engines nobody starts."""

    name, note = "gpu", ""

    def up(self, role: Role) -> AbstractContextManager[Up]:
        raise AssertionError(f"engines of {role} are wanted")

    def facts(self) -> Mapping[str, Any]:
        return {"gpu": "NVIDIA H100"}


def test_a_folder_with_another_plan_is_not_mixed_with_this_one(tmp_path: Path) -> None:
    run = open_run(PLAN, Nowhere(), tmp_path)
    assert open_run(PLAN, Nowhere(), tmp_path) == run
    with pytest.raises(UserError, match="has a run with another plan: give another folder"):
        open_run(replace(PLAN, seed=1), Nowhere(), tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '"run"'])
def test_a_file_that_is_no_run_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / RUN_FILE).write_text(text)
    with pytest.raises(UserError, match=f"{RUN_FILE} has no run of gpu-check"):
        open_run(PLAN, Nowhere(), tmp_path)
    with pytest.raises(UserError, match=f"{RUN_FILE} has no run of gpu-check"):
        load(tmp_path)


def test_what_is_measured_is_not_measured_again(tmp_path: Path) -> None:
    stored(tmp_path)
    measure(PLAN, Nowhere(), tmp_path, PlainProgress(io.StringIO()))


class Interrupted(Nowhere):
    """A source whose engines somebody does not wait for."""

    def up(self, role: Role) -> AbstractContextManager[Up]:
        raise KeyboardInterrupt


def test_after_ctrl_c_there_is_a_report_and_a_line_that_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measuring, "check_client", lambda *_: None)
    stored(tmp_path, turns=1)
    progress = PlainProgress(io.StringIO())
    assert measure_and_report(PLAN, Interrupted(), tmp_path, progress) == 130
    assert capsys.readouterr().err == "interrupted; the same command measures the rest\n"
    assert "3 of 12 loads" in (tmp_path / "report.md").read_text(encoding="utf-8")
    stored(tmp_path)
    assert measure_and_report(PLAN, Nowhere(), tmp_path, progress) == 0
    assert capsys.readouterr().out.startswith("# KVCached against a static split")


def evidence(role: Role, *, patched: bool) -> ArmEvidence:
    answers = (Answer("a", 0, (Token("token_id:5", "token_id:6", 1.0),)),)
    if role == "control":
        return ArmEvidence(False, 0.9, answers=answers)
    one = EngineEvidence(
        engine="a",
        ipc="gpucheck_a",
        patched=("elastic_block_pool",) if patched else (),
        vllm="0.30.0",
        kvcached="0.1.6",
        weights_gib=15.0,
        segments=(Segment("gpucheck_a", 1, 0),),
        gpus=(GpuMemory("GPU-1", "NVIDIA H100", 17.0, 79.6),),
    )
    return ArmEvidence(True, 0.9, engines=(one,), answers=answers)


def memory(role: Role) -> MemorySeries:
    kept = {"a": 3.0} if role == "treatment" else {}
    first = 60.0 if role == "control" else 20.0
    readings = (MemoryReading(-1.0, first), MemoryReading(1.0, first + len(kept) * 2 + 1, kept))
    return MemorySeries("GPU 0", readings)


def stored(folder: Path, turns: int = 4, *, patched: bool = True) -> list[Trial]:
    """Store trials with known timings: those of the second arm take half as long."""
    run = open_run(PLAN, Nowhere(), folder)
    store, made = TrialStore(folder), list[Trial]()
    for turn, role in enumerate(ORDER[:turns]):
        for one in LOADS:
            ttft_s = (0.2 if role == "control" else 0.1) * (1.1 if turn > 1 else 1.0)
            samples = [answered(index, ttft_s, model="a", replica="a") for index in range(60)]
            found = trial(
                role,
                0,
                turn,
                samples,
                run_id=run["run_id"],
                arm=ARMS[role],
                environment="gpu",
                scenario=one.facts(PLAN.models),
                models=PLAN.models,
                schedule_sha256=PLAN.schedule(one, turn).sha256,
                engines=f"start-{turn}",
                memory=(memory(role),),
                provenance=dict(as_provenance(evidence(role, patched=patched))),
            )
            store.save(found)
            made.append(found)
    return made


def test_the_report_has_each_turn_the_ratio_and_what_it_cannot_tell(tmp_path: Path) -> None:
    stored(tmp_path)
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    (row, *_) = re.findall(r"\| ttft_p50_s \|.*", text)
    assert row == "| ttft_p50_s | 0.2 | 0.22 | 0.1 | 0.11 | 0.5 |"
    assert "2 starts (static), 2 starts (kvcached)" in text
    assert "nothing here is a verdict" in text
    assert "**invalid**" not in text
    assert f"| 1 (static) | {LOADS[0].name} | 60 | 61 | static |" in text
    assert f"| 2 (kvcached) | {LOADS[0].name} | 20 | 23 | a 3.0 |" in text
    assert "vLLM 0.30.0, KVCached 0.1.6, 1 patches, segment there; 17.0 GiB at idle" in text


def test_what_is_not_proven_is_invalid_in_the_report(tmp_path: Path) -> None:
    stored(tmp_path, patched=False)
    text = markdown(load(tmp_path))
    told = "KVCached of kvcached is not proven: a: its log does not say that vLLM was patched"
    assert text.count(f"- **invalid**: {told}") == len(LOADS)


def test_a_run_that_was_interrupted_has_a_report_of_what_there_is(tmp_path: Path) -> None:
    stored(tmp_path, turns=1)
    text = markdown(load(tmp_path))
    assert "not complete: 3 of 12 loads are measured" in text
    assert "1 starts (static), 0 starts (kvcached)" in text
    with pytest.raises(UserError, match="has no run of gpu-check"):
        load(tmp_path / "absent")
