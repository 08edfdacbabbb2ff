"""The bench's own client against a real source process."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.load.accuracy.check import check_client
from bench.load.accuracy.measurement import Level, Reading, measure
from bench.load.accuracy.running import running_source
from bench.processes.local import LocalSite
from bench.progress import PlainProgress

CORES = os.sched_getaffinity(0)
LEVEL = Level(streams=8, first_ms=20, every_ms=20, chunks=6, turns=2)
# How late the source claims not to have been: far more than any machine takes to notice.
LATE_MS, LATE_S = 5000, 5.0
NOISE_S = 2.0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_source(tmp_path_factory.mktemp("source") / "log") as source:
        yield source.url


@pytest.fixture(scope="module")
def honest(url: str) -> Reading:
    return measure(LEVEL, url, CORES)


def test_every_request_in_the_window_counts_once(honest: Reading) -> None:
    accuracy = honest.accuracy
    requests = LEVEL.streams * LEVEL.turns
    # The first arrival has a random phase, so that one more or less falls into the window.
    assert accuracy.ttft.n == pytest.approx(requests, abs=1)
    assert accuracy.e2e.n == accuracy.ttft.n
    assert accuracy.itl.n == accuracy.ttft.n * (LEVEL.chunks - 1)


def test_an_honest_source_finds_a_small_error(honest: Reading) -> None:
    accuracy = honest.accuracy
    assert 0 < accuracy.ttft.p50_s < NOISE_S
    assert 0 < accuracy.e2e.p50_s < NOISE_S
    assert accuracy.itl.p50_s < NOISE_S


def test_as_many_streams_are_open_as_the_level_says(honest: Reading) -> None:
    assert honest.open_streams > 0.9 * LEVEL.streams


def test_the_sources_own_lateness_is_a_figure_of_its_own(honest: Reading) -> None:
    assert 0 <= honest.source_late.p50_s < NOISE_S


def test_a_source_that_is_late_by_its_own_account_shows_just_that_error(url: str) -> None:
    accuracy = measure(LEVEL, url, CORES, late_ms=(LATE_MS,)).accuracy
    for error in (accuracy.ttft, accuracy.e2e):
        assert LATE_S <= error.p50_s < LATE_S + NOISE_S
        assert error.max_s >= LATE_S
    assert accuracy.itl.p50_s < NOISE_S


def test_gaps_that_are_late_by_turns_show_as_error_of_itl_alone(url: str) -> None:
    # Six chunks of which the second, fourth and sixth are late: so are all gaps, and E2E.
    accuracy = measure(LEVEL, url, CORES, late_ms=(0, LATE_MS)).accuracy
    assert accuracy.ttft.p50_s < NOISE_S
    assert LATE_S - NOISE_S < accuracy.itl.p50_s < LATE_S + NOISE_S
    assert LATE_S <= accuracy.e2e.p50_s < LATE_S + NOISE_S


def test_the_check_of_a_run_says_what_it_found() -> None:
    said = io.StringIO()
    accuracy = check_client(PlainProgress(said), LocalSite(), LEVEL)
    assert accuracy.streams == LEVEL.streams
    assert "load generator at 8 open streams: TTFT" in said.getvalue()


def test_without_a_source_there_is_one_line(tmp_path: Path) -> None:
    with running_source(tmp_path / "log") as source:
        pass
    with pytest.raises(UserError, match="the synthetic source does not report its times"):
        measure(Level(1, 1, 1, 2, 1), source.url, CORES)
