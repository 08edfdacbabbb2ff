"""Folders with results for the tests of the dashboard."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.records import Trial
from bench.store import TrialStore
from tests.reports.cases import scraped_case

AIPERF = Path(__file__).parents[1] / "data" / "results" / "aiperf-0.13.0"
FIRST, SECOND = "20260131-120000-aaaa", "20260131-130000-bbbb"


def trials_of(run_id: str, share: float = 1.0) -> list[Trial]:
    """Four blocks of two arms; each request was sent so late that `share` of its wait is left."""
    return [
        replace(
            one,
            run_id=run_id,
            samples=tuple(
                replace(sample, sent_s=(sample.first_token_s or 0.0) * (1 - share))
                if share < 1
                else sample
                for sample in one.samples
            ),
        )
        for one in scraped_case().trials
    ]


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
