"""Load generators measured side by side: what is said, and real runs of our own."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.load.accuracy.running import ask_report
from bench.load.run.drive import run_load
from bench.load.run.processes import run_spread
from bench.processes.local import LocalSite
from validation.__main__ import main, parser
from validation.harness import ROOT
from validation.load_clients import closed_load
from validation.load_generators import COMPARISON, Measurement, compare, cost_of, remarks_of
from validation.open_streams import ramp_load, trial_of
from validation.programs import BARE, OURS, Job, LoadGenerator, known_load_generators
from validation.servers import Servers

pytestmark = [pytest.mark.slow, pytest.mark.serial]

PLAIN = Measurement(
    chunk_cpu_s=10e-6,
    chunk_kernel_s=4e-6,
    start_cpu_s=0.3,
    rss_bytes=50 * 2**20,
    requests=256,
    lost=0,
    turn_s=0.002,
)
CORE = min(os.sched_getaffinity(0))


@pytest.mark.parametrize("generator", known_load_generators(ROOT), ids=lambda one: one.name)
def test_every_program_is_given_the_same_work(generator: LoadGenerator, tmp_path: Path) -> None:
    job = Job(
        "http://127.0.0.1:18100",
        "synthetic",
        tmp_path,
        tmp_path,
        streams=77,
        requests=777,
        chunks=555,
    )
    words = " ".join(generator.start(job))
    assert job.url in words
    assert all(number in words for number in ("77", "777", "555"))


def test_a_program_is_absent_until_its_environment_has_it(tmp_path: Path) -> None:
    known = {one.name: one for one in known_load_generators(tmp_path)}
    assert [name for name, one in known.items() if one.path] == [OURS, BARE]
    assert known["aiperf"].install.endswith("install aiperf==0.13.0")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--rounds", "0"], "--rounds: '0' is not a whole number from 1"),
        (["--only", "bench,wrk"], "'wrk' is not one of bench, bare reads, vllm-bench, aiperf, "),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["load-generators", *arguments]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert expected in output.err


def test_cost_per_chunk_is_compared_with_ours() -> None:
    rounds = [{OURS: PLAIN, "other": replace(PLAIN, chunk_cpu_s=50e-6)}]
    figure = COMPARISON.figures(rounds)["other"]["chunk_cpu_us"]
    assert (figure.median, figure.ratio) == pytest.approx((50.0, 5.0))


def test_lost_requests_and_lateness_are_said() -> None:
    rounds = [{OURS: PLAIN, "a": replace(PLAIN, lost=3), "b": replace(PLAIN, turn_s=0.5)}]
    remarks = list(remarks_of(rounds))
    assert "a: 3 requests were not completed; its figures do not count" in remarks
    assert any(line.startswith("b may not have kept up: 500 ms") for line in remarks)
    assert not any(line.startswith(OURS) for line in remarks)
    assert COMPARISON.note in COMPARISON.text(COMPARISON.figures(rounds), remarks, width=9999)


def test_the_cost_of_a_command_is_that_of_its_children_too(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    family = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
    cost = cost_of([sys.executable, "-c", family], tmp_path / "log")
    assert cost.cpu_s > 0.3
    assert 0 <= cost.kernel_s < cost.cpu_s


def test_a_command_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sh ended with 3: no such option; see"):
        cost_of(["sh", "-c", "echo no such option; exit 3"], tmp_path / "log")


def test_a_short_run_fills_table_and_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, size = tmp_path / "record.json", ["--streams", "4", "--requests", "8"]
    options = ["load-generators", "--only", OURS, "--rounds", "1", "--chunks", "40", *size]
    compare(parser().parse_args(options), output)
    assert COMPARISON.note in capsys.readouterr().out.replace("\n", " ")
    record = json.loads(output.read_text())
    assert list(record["figures"][OURS]) == [metric.key for metric in COMPARISON.metrics]
    assert (record["rounds"][0][OURS]["requests"], record["rounds"][0][OURS]["lost"]) == (16, 0)
    assert {"date", "cpu", "kernel", "streams", "chunk_every_ms"} <= record.keys()


def test_the_source_counts_what_a_client_was_sent(tmp_path: Path) -> None:
    with closing(Servers(tmp_path)) as servers:
        source = servers.start_source(5, {CORE})
        ask_report(source.url)
        load = closed_load(source.url, streams=3, requests=9, chunks=7)
        result = run_load(load, drain_timeout_s=30)
        counts, anew = ask_report(source.url).counts, ask_report(source.url).counts
    assert [len(sample.chunk_s) for sample in result.samples] == [7] * 9
    assert all(sample.ok and sample.output_tokens == 7 for sample in result.samples)
    assert (counts.begun, counts.complete, counts.chunks, counts.open_most) == (9, 9, 63, 3)
    assert (anew.begun, anew.chunks, anew.open_now) == (0, 0, 0)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_thousand_streams_are_open_at_once_and_every_chunk_is_read(
    processes: int, tmp_path: Path
) -> None:
    with closing(Servers(tmp_path)) as servers:
        source = servers.start_source(200, {CORE})
        load = ramp_load(source.url, streams=1000, seconds=4, every_ms=200)
        ask_report(source.url)
        (result,) = run_spread([load], LocalSite(), processes=processes, drain_timeout_s=60)
        counts = ask_report(source.url).counts
    assert counts.open_most == 1000
    assert sum(len(sample.chunk_s) for sample in result.samples) == counts.chunks
    assert trial_of(load, result).samples == result.samples
    assert all(sample.ok for sample in result.samples)
    # What a quiet machine has is 5 ms; this is about an instrument that drowns.
    assert (result.instrument.loop_lag_p99_s or 0.0) < 1.0
    assert result.instrument.dispatch_lag_p99_s < 1.0
