"""A trial in which something kept the client from its work is measured again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bench.cpu import CpuShares
from bench.drivers.builtin import BuiltinDriver
from bench.drivers.driver import Driven
from bench.experiment import REPEATS
from bench.load.drive import Load
from bench.load.outcome import Ending
from bench.records import Trial
from bench.slots import CONTROL
from tests.bench.experimenting import SITE, Served, experiment, question, replica

LATE = {"dispatch_lag_p99_s": 9.0}
IN_TIME = {
    "dispatch_lag_p99_s": 0.001,
    "loop_lag_p99_s": 0.001,
    "cpu_share": 0.1,
}


@dataclass
class DisturbedDriver:
    """The built-in driver, whose first loads are `disturbed`, and no others, come what may."""

    disturbed: int
    ending: Ending = Ending.COMPLETE
    loads: list[Load] = field(default_factory=list)

    def run(self, load: Load, *, drain_timeout_s: float) -> Driven:
        self.loads.append(load)
        driven = BuiltinDriver(SITE, 1).run(load, drain_timeout_s=drain_timeout_s)
        read: dict[str, Any] = IN_TIME
        if len(self.loads) <= self.disturbed:
            read = IN_TIME | LATE
        instrument = replace(driven.result.instrument, **read)
        samples = tuple(replace(one, sent_s=one.scheduled_s) for one in driven.result.samples)
        result = replace(driven.result, samples=samples, instrument=instrument, ending=self.ending)
        return replace(driven, result=result)


class QuietWatch:
    """Finds that nobody else did anything."""

    def __init__(self, roots: object, cores: object) -> None:
        pass

    def stop(self) -> CpuShares:
        return CpuShares(foreign=0.0, stolen=0.0)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else the machine of these tests does must not count as a disturbance."""
    monkeypatch.setattr("bench.experiment.CpuWatch", QuietWatch)


@pytest.fixture
def url() -> Iterator[str]:
    with replica() as served:
        yield served


def measured(url: str, driver: DisturbedDriver, folder: Path, blocks: int = 1) -> list[Trial]:
    """The trials of one arm, a trial a block, as they are read back from disk."""
    made = experiment(Served(url, serving=()), driver, folder, blocks)
    made.run(question(), CONTROL)
    return made.store.load_run()


def set_aside(folder: Path) -> list[dict[str, Any]]:
    found = sorted(folder.rglob("set-aside-*.json"))
    return [json.loads(path.read_text()) for path in found]


def test_a_disturbed_trial_is_measured_again_and_the_other_attempt_kept(
    url: str, tmp_path: Path
) -> None:
    driver = DisturbedDriver(disturbed=1)
    (trial,) = measured(url, driver, tmp_path)
    (first,) = set_aside(tmp_path)
    (why,) = trial.repeated
    assert why.startswith("dispatch lag p99 9000 ms, bound ")
    assert trial.instrument.dispatch_lag_p99_s == IN_TIME["dispatch_lag_p99_s"]
    assert first["instrument"]["dispatch_lag_p99_s"] == LATE["dispatch_lag_p99_s"]
    assert first["schedule_sha256"] == trial.schedule_sha256
    before, after = driver.loads[-2:]
    assert before.schedule == after.schedule
    assert not set(before.prompts) & set(after.prompts), "found in the cache of prefixes"


def test_a_machine_that_stays_busy_makes_no_trial_without_end(url: str, tmp_path: Path) -> None:
    driver = DisturbedDriver(disturbed=100)
    first, second = measured(url, driver, tmp_path, blocks=2)
    assert len(first.repeated) == REPEATS
    assert second.repeated == ()
    assert len(set_aside(tmp_path)) == REPEATS
    assert len(driver.loads) == REPEATS + 2
    for trial in (first, second):
        assert trial.instrument.dispatch_lag_p99_s == LATE["dispatch_lag_p99_s"]


def test_repeats_are_counted_over_a_whole_comparison(url: str, tmp_path: Path) -> None:
    driver = DisturbedDriver(disturbed=1)
    first, second = measured(url, driver, tmp_path, blocks=2)
    assert [len(trial.repeated) for trial in (first, second)] == [1, 0]


def test_a_trial_that_was_interrupted_is_not_measured_again(url: str, tmp_path: Path) -> None:
    driver = DisturbedDriver(disturbed=1, ending=Ending.INTERRUPTED)
    made = experiment(Served(url, serving=()), driver, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        made.run(question(), CONTROL)
    (trial,) = made.store.load_run()
    assert trial.cut_short
    assert set_aside(tmp_path) == []
