"""`python -m bench watch` over stored runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.cli.commands import main
from bench.records import Trial
from bench.store import TrialStore
from tests.bench.making import paired

STEADY = (0.40, 0.41, 0.39, 0.40, 0.42, 0.40)
SLOWER = tuple(1.5 * value for value in STEADY)


def store(folder: Path, ttfts_s: tuple[float, ...], first: int = 0, **changes: Any) -> None:
    """A run for each of these, in which managed has that TTFT and baseline 1 s."""
    for day, ttft_s in enumerate(ttfts_s, first):
        for one in paired((1.0,) * 4, (ttft_s,) * 4, n=60):
            TrialStore(folder).save(replace(one, **(of_day(one, day) | changes)))


def of_day(one: Trial, day: int) -> dict[str, Any]:
    found = {"commit": f"{day:040x}", "profile": "quick", "environment": {"cpu": "a CPU"}}
    return {"run_id": f"202601{day + 1:02}-010000-abcd", "provenance": one.provenance | found}


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moved")
    store(folder, STEADY + SLOWER)
    return folder


def watched(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    code = main(["watch", "--results", str(folder), *options])
    return code, capsys.readouterr().out


def test_a_move_names_the_run_and_the_commit(
    moved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = watched(moved, capsys)
    title, line, outcome = said.splitlines()
    assert code == 1
    assert title == (
        "heavy-tail · tiny-llama · Scheduled TTFT p95, ratio managed / baseline"
        " (local, a CPU, ? cores, quick, builtin)"
    )
    assert "moved at run 20260107-010000-abcd, commit 000000000000 (before it run 20260106" in line
    assert "): 0.40 -> 0.60, by a factor of 1.50 [" in line
    assert outcome == "outcome: failed (1 moved)"


def test_json_has_the_same_for_programs(moved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = watched(moved, capsys, "--format", "json")
    found = json.loads(said)
    (series,) = found["series"]
    (move,) = series["moves"]
    assert (code, found["outcome"], series["state"]) == (1, "failed", "moved")
    assert (move["run"], move["commit"]) == ("20260107-010000-abcd", f"{6:040x}")
    assert move["low"] < 1.5 < move["high"]
    assert len(series["points"]) == 12
    assert series["points"][0]["value"] == pytest.approx(0.4)


def test_a_move_that_was_meant_is_left_behind(
    moved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = watched(moved, capsys, "--since", "20260107-010000-abcd")
    assert code == 3
    assert "insufficient data: 6 runs; about " in said


def test_figures_of_the_arms_are_watched_if_asked_for(
    moved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = watched(moved, capsys, "--absolute", "--metric", "output_tps")
    titles = [line for line in said.splitlines() if line.startswith("heavy-tail")]
    assert code == 0
    assert [title.split(", ")[1].split(" (")[0] for title in titles] == [
        *("ratio managed / baseline", "control baseline", "treatment managed"),
    ]


def test_few_runs_are_undecided_and_say_how_many_are_lacking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, STEADY[:2])
    code, said = watched(tmp_path, capsys)
    assert code == 3
    assert "insufficient data: 2 runs; about 4 more until a move of 20% would be found" in said
    assert watched(tmp_path, capsys, "--undecided", "pass")[0] == 0


def test_other_machines_and_second_rounds_are_no_part_of_a_series(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, STEADY[:3])
    store(tmp_path, SLOWER[:3], round=2)
    store(tmp_path, SLOWER[:3], 3, provenance={"profile": "quick", "environment": {"cpu": "B"}})
    _, said = watched(tmp_path, capsys, "--format", "json")
    runs = {one["machine"]: len(one["points"]) for one in json.loads(said)["series"]}
    assert runs == {"a CPU, ? cores": 3, "B, ? cores": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "has no valid comparison: measure first"),
        (("--metric", "ttft_p59_s"), "did you mean 'ttft_p99_s'?"),
        (("--since", "2027"), "since run 2027: measure first"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert main(["watch", "--results", str(tmp_path), *options]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "stored runs" not in line]
    assert line.startswith("error: ")
    assert message in line
