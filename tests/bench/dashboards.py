"""Folders with results for the tests of the dashboard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.cli.dashboard.command import INSTALL
from bench.records import Trial
from bench.store import TrialStore
from tests.bench.making import answered, failed
from tests.reports.cases import scraped_case

# A mark, since a module that is skipped while it is collected shows in every run of other tests.
NEEDS_STREAMLIT = pytest.mark.skipif(find_spec("streamlit") is None, reason=f"run {INSTALL}")
AIPERF = Path(__file__).parents[1] / "data" / "results" / "aiperf-0.13.0"
FIRST, SECOND = "20260131-120000-aaaa", "20260131-130000-bbbb"


def trials_of(run_id: str) -> list[Trial]:
    """Four blocks of two arms; each request of a trial waits a little longer than the one before.

    The last request of each trial of the control fails.
    """
    made = []
    for one in scraped_case().trials:
        first_s = one.samples[0].first_token_s or 0.0
        samples = [
            failed(index)
            if one.role == "control" and index == len(one.samples) - 1
            else answered(index, first_s * (1 + index / 40) + 0.01 * one.position)
            for index in range(len(one.samples))
        ]
        made.append(replace(one, run_id=run_id, samples=tuple(samples)))
    return made


def save(results: Path, trials: Sequence[Trial]) -> None:
    store = TrialStore(results)
    for one in trials:
        store.save(one)


def two_runs(results: Path) -> Path:
    """Two stored runs, the latter of which was sent by aiperf."""
    save(results, trials_of(FIRST))
    by_aiperf = [
        replace(one, driver=replace(one.driver, name="aiperf")) for one in trials_of(SECOND)
    ]
    save(results, by_aiperf)
    return results


def older_reports(folder: Path) -> Path:
    """Reports of aiperf that are older than the runs here."""
    reports = folder / AIPERF.name
    shutil.copytree(AIPERF, reports)
    for one in reports.rglob("*.json"):
        os.utime(one, (0, 0))
    return reports


def many_runs(results: Path, count: int) -> None:
    """As many runs as links to the files of one."""
    save(results, trials_of(FIRST))
    for arm in ("baseline", "managed"):
        folder = results / arm / "local"
        for number in range(1, count):
            name = f"2026{1 + number // 720:02}{1 + number // 24 % 30:02}-{number % 24:02}0000-cccc"
            shutil.copytree(folder / FIRST, folder / name, copy_function=_link)


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
