"""`python -m validation calibrate` as a user meets it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bench.load.accuracy.measurement import Level, Reading
from tests.bench.making import INSTRUMENT, OFF
from validation.__main__ import main, parser
from validation.calibrate import (
    LEVELS,
    NO_ENGINE,
    TITLES,
    calibrate,
    levels_named,
    remarks_of,
    rows_of,
)
from validation.figures import render

ROOT = Path(__file__).parents[2]
QUICK = Level(streams=4, first_ms=10, every_ms=10, chunks=3, turns=2)


def reading(level: Level = LEVELS[2]) -> Reading:
    assert INSTRUMENT.accuracy is not None
    accuracy = replace(INSTRUMENT.accuracy, streams=level.streams)
    return Reading(level, accuracy, level.streams, OFF, INSTRUMENT)


def shown(*readings: Reading) -> str:
    rows = (row for one in readings for row in rows_of(one))
    return " ".join(render(TITLES, rows, remarks_of(readings), width=200, colour=False).split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--streams", "7"], "'7' is not one of 1, 100, 1000"),
        (["--streams", ""], "'' is not one of"),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert expected in output.err


def test_levels_are_chosen_by_their_streams() -> None:
    assert [level.streams for level in levels_named("1000, 1,1000")] == [1000, 1]


def test_a_calibration_prints_a_table_and_keeps_every_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results" / "calibration.json"
    options = parser().parse_args(["calibrate"])
    options.streams = [QUICK]
    calibrate(options, output)
    printed = capsys.readouterr()
    assert " ".join(printed.out.split()).endswith(NO_ENGINE)
    assert "4 open streams" in printed.err
    kept = json.loads(output.read_text())
    assert kept["note"] == NO_ENGINE
    assert kept["cpu"]
    (level,) = kept["levels"]
    assert level["level"]["streams"] == 4
    assert set(level["accuracy"]["ttft"]) == {"p50_s", "p95_s", "p99_s", "max_s", "n"}
    assert level["accuracy"]["itl"]["n"] == 2 * level["accuracy"]["ttft"]["n"]


def test_a_source_that_was_late_itself_is_named() -> None:
    assert "itself was late" not in shown(reading())
    late = replace(reading(), source_late=replace(OFF, p99_s=0.02))
    assert "At 1,000 open streams the source itself was late, by 20.000 ms" in shown(late)


def test_what_other_processes_took_is_said() -> None:
    busy = replace(reading(), instrument=replace(INSTRUMENT, foreign_cpu_share=0.4))
    assert "other processes took 40 % of the CPU time" in shown(busy)
    unknown = replace(reading(), instrument=replace(INSTRUMENT, foreign_cpu_share=None))
    assert "is unknown" in shown(unknown)
    assert "other processes took" not in shown(reading())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python leaves SIGINT alone where it was started in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_nothing_behind() -> None:
    kept = ROOT / "results" / "calibration.json"
    before = kept.stat().st_mtime_ns if kept.exists() else None
    process = subprocess.Popen(
        [sys.executable, "-m", "validation", "calibrate", "--streams", "1"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    measuring = psutil.Process(process.pid)
    while not measuring.net_connections("tcp"):  # the first stream is open
        assert process.poll() is None
        time.sleep(0.02)
    started = measuring.children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert err.splitlines()[-1] == "interrupted; nothing was kept"
    assert started
    assert not psutil.wait_procs(started, timeout=20)[1]
    assert (kept.stat().st_mtime_ns if kept.exists() else None) == before
