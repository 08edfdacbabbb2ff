"""Tools as programs: what they are told, that they end, and what is said where they cannot run."""

from __future__ import annotations

import itertools
import json
import os
import select
from pathlib import Path

import pytest

from bench.cli.options import read_options
from bench.config.options import PYTEST
from bench.drivers import make_driver
from bench.drivers.aiperf import AiperfDriver
from bench.drivers.genai_perf import GenaiPerfDriver, check_glibc
from bench.errors import UserError
from bench.load.run.drive import Ending, Load
from bench.processes.guarded import run_bounded
from bench.processes.local import LocalSite
from bench.progress import make_progress
from bench.records import Schedule
from tests.bench.artifacts import aiperf_line
from tests.bench.load_source import closed, opened

PATIENCE_S = 30.0
# Holds the FIFO open in itself and in a child, and heeds no SIGTERM.
HANGING = "#!/bin/sh\ntrap '' TERM\nexec 3>{fifo}\nsleep 600 &\necho ready >&3\nwait\n"
TELLING = "#!/bin/sh\nprintf '%s\\n' \"$@\" >told\nenv >environment\necho 'Reason: told enough'\n"


def load(schedule: Schedule, *urls: str) -> Load:
    count = len(schedule.requests)
    places = tuple(itertools.islice(itertools.cycle(urls or ("http://localhost:1",)), count))
    return Load(schedule, tuple(f"prompt {index}" for index in range(count)), places)


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(script)
    path.chmod(0o755)
    return path


def aiperf(folder: Path, script: str, **changes: float) -> AiperfDriver:
    made = program(folder, "aiperf", script)
    return AiperfDriver(made, "0", iter((folder / "run",)), Path, **changes)


def genai_perf(folder: Path, script: str) -> GenaiPerfDriver:
    program(folder, "genai-perf", script)
    return GenaiPerfDriver(folder, "0", iter((folder / "run",)), Path)


def told(folder: Path) -> str:
    return " ".join((folder / "run" / "told").read_text().split())


def test_a_tool_that_hangs_is_ended_and_none_of_its_processes_stays(tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    driver = aiperf(tmp_path, HANGING.format(fifo=fifo), start_and_end_s=1.0)
    with pytest.raises(UserError, match="aiperf had not ended after 1 s and was ended; see"):
        driver.run(load(opened([0.0], 0.1)), drain_timeout_s=0.1)
    assert os.read(reader, 100) == b"ready\n"
    # The kernel reports the end of a FIFO once nobody has it open for writing.
    readable, _, _ = select.select([reader], [], [], PATIENCE_S)
    assert readable
    assert os.read(reader, 100) == b""
    os.close(reader)


@pytest.mark.usefixtures("ctrl_c_works")
def test_ctrl_c_keeps_what_aiperf_has_written(tmp_path: Path) -> None:
    whole, half = json.dumps(aiperf_line("0")), json.dumps(aiperf_line("1"))[:80]
    script = (
        f"#!/bin/sh\nprintf '%s\\n%s' '{whole}' '{half}' >profile_export.jsonl\n"
        f"kill -INT {os.getpid()}\nsleep 600\n"
    )
    result = aiperf(tmp_path, script).run(load(opened([0.0, 0.1], 0.2)), drain_timeout_s=5)
    assert result.ending is Ending.INTERRUPTED
    assert [sample.index for sample in result.samples] == [0]


def test_the_exit_code_of_a_tool_is_told(tmp_path: Path) -> None:
    assert run_bounded("sh", ["sh", "-c", "exit 3"], log=tmp_path / "log", limit_s=PATIENCE_S) == 3


def test_aiperf_gets_the_schedule_the_prompts_and_the_lengths(tmp_path: Path) -> None:
    driver = aiperf(tmp_path, TELLING)
    with pytest.raises(UserError, match="aiperf measured nothing: Reason: told enough"):
        driver.run(load(opened([0.0, 0.25], 1.0)), drain_timeout_s=5)
    assert "--fixed-schedule" in told(tmp_path)
    assert "--benchmark-duration 1 --benchmark-grace-period 5" in told(tmp_path)
    assert "--concurrency" not in told(tmp_path)
    sent = [
        json.loads(line) for line in (tmp_path / "run" / "input.jsonl").read_text().split("\n")[:-1]
    ]
    assert [(line["session_id"], line["timestamp"]) for line in sent] == [("0", 0.0), ("1", 250.0)]
    assert [line["text"] for line in sent] == ["prompt 0", "prompt 1"]
    assert [line["output_length"] for line in sent] == [2, 2]
    assert sent[0]["extra"] == {
        "model": "m",
        "min_tokens": 2,
        "ignore_eos": True,
        "temperature": 0,
    }


def test_aiperf_keeps_the_number_of_a_closed_loop(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        aiperf(tmp_path, TELLING).run(load(closed(9, 3, 1.0)), drain_timeout_s=5)
    assert "--concurrency 3 --request-count 9" in told(tmp_path)
    assert "--fixed-schedule" not in told(tmp_path)


def test_aiperf_finds_its_local_tokenizer_whatever_the_user_has_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    with pytest.raises(UserError):
        aiperf(tmp_path, TELLING).run(load(opened([0.0], 0.1)), drain_timeout_s=5)
    assert "OFFLINE" not in (tmp_path / "run" / "environment").read_text()


def test_several_balancers_are_named_in_turn(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="told enough"):
        aiperf(tmp_path, TELLING).run(
            load(opened([0.0, 0.1, 0.2], 0.3), "http://a:1", "http://b:2"), drain_timeout_s=5
        )
    assert "--url http://a:1 --url http://b:2" in told(tmp_path)


def test_a_load_past_the_balancer_is_refused_in_one_line(tmp_path: Path) -> None:
    schedule = opened([0.0, 0.1, 0.2], 0.3)
    places = ("http://a:1", "http://a:1", "http://b:2")
    with pytest.raises(UserError, match="driver aiperf cannot bypass the balancer"):
        aiperf(tmp_path, TELLING).run(Load(schedule, ("x", "y", "z"), places), drain_timeout_s=5)


def test_genai_perf_is_offered_the_mean_rate_or_the_concurrency(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"genai-perf measured nothing.*told enough"):
        genai_perf(tmp_path, TELLING).run(load(opened([0.0, 0.1, 0.2], 1.5)), drain_timeout_s=5)
    assert "--request-rate 2" in told(tmp_path)
    assert "--request-distribution poisson" in told(tmp_path)
    assert "--max-threads 1 --request-count 3" in told(tmp_path)
    assert "--url localhost:1 " in told(tmp_path)


def test_genai_perf_sends_to_one_balancer_only(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sends to one base URL, this load has 2"):
        genai_perf(tmp_path, TELLING).run(
            load(opened([0.0, 0.1], 0.2), "http://a:1", "http://b:2"), drain_timeout_s=5
        )


@pytest.mark.parametrize("seen", [("glibc", "2.38"), ("glibc", "2.41"), ("glibc", "3.0")])
def test_genai_perf_runs_on_a_recent_libc(seen: tuple[str, str]) -> None:
    check_glibc(seen)


@pytest.mark.parametrize("seen", [("glibc", "2.36"), ("", ""), ("glibc", "2.4")])
def test_an_older_libc_is_named_with_what_to_do(seen: tuple[str, str]) -> None:
    with pytest.raises(
        UserError, match=r"needs glibc 2\.38.*container: docs/reference/drivers\.md"
    ) as caught:
        check_glibc(seen)
    assert "\n" not in str(caught.value)


def test_an_unknown_driver_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--driver takes builtin, openai, aiperf"):
        read_options({"driver": "locust"}, PYTEST)
    with pytest.raises(UserError, match="known: builtin, openai, aiperf, genai-perf"):
        make_driver("locust", tmp_path, Path, make_progress(), LocalSite())
