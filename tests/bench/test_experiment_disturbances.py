"""A block in which something kept the client from its work is replaced by another one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.checks import DEFAULT_BOUNDS
from bench.analysis.judge import judge
from bench.drivers.builtin import BuiltinDriver
from bench.errors import UserError
from bench.experiment.capacity import Capacity
from bench.experiment.experiment import MOST_WAITS, spare_blocks
from bench.load.plan.arrivals import ClosedLoop
from bench.load.run.drive import DriveResult, Ending, Load
from bench.progress import PlainProgress, Step
from bench.records import ErrorKind, Trial
from bench.telemetry.cpu import CpuShares, await_quiet
from tests.bench.experimenting import SITE, Served, experiment, question, replica

pytestmark = [pytest.mark.slow, pytest.mark.serial]

LATE = {"dispatch_lag_p99_s": 9.0}
IN_TIME: dict[str, Any] = {
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

    def run(self, load: Load, *, drain_timeout_s: float) -> DriveResult:
        self.loads.append(load)
        result = BuiltinDriver(SITE, 1).run(load, drain_timeout_s=drain_timeout_s)
        read = IN_TIME
        if len(self.loads) <= self.disturbed:
            read = IN_TIME | LATE
        instrument = replace(result.instrument, **read)
        samples = tuple(replace(one, sent_s=one.scheduled_s) for one in result.samples)
        return replace(result, samples=samples, instrument=instrument, ending=self.ending)


@dataclass
class HastyDriver:
    """The built-in driver; its first load is said to have ended in a small part of its time."""

    loads: list[Load] = field(default_factory=list)

    def run(self, load: Load, *, drain_timeout_s: float) -> DriveResult:
        self.loads.append(load)
        result = BuiltinDriver(SITE, 1).run(load, drain_timeout_s=drain_timeout_s)
        result = replace(result, instrument=replace(result.instrument, **IN_TIME))
        if len(self.loads) > 1:
            return result
        return replace(result, elapsed_s=result.elapsed_s / 50, ending=Ending.RAN_DRY)


class FailingDriver(DisturbedDriver):
    """The built-in driver, whose requests are all said to have been refused."""

    def __init__(self) -> None:
        super().__init__(disturbed=0)

    def run(self, load: Load, *, drain_timeout_s: float) -> DriveResult:
        result = super().run(load, drain_timeout_s=drain_timeout_s)
        refused = [replace(one, error=ErrorKind.RATE_LIMITED) for one in result.samples]
        return replace(result, samples=tuple(refused))


class QuietWatch:
    """Finds that nobody else did anything."""

    def __init__(self, roots: object, cores: object) -> None:
        pass

    def stop(self) -> CpuShares:
        return CpuShares(foreign=0.0, stolen=0.0)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else the machine of these tests does must not count as a disturbance."""
    monkeypatch.setattr("bench.experiment.trial.CpuWatch", QuietWatch)
    monkeypatch.setattr("bench.experiment.experiment.await_quiet", lambda *_: True)


@pytest.fixture
def url() -> Iterator[str]:
    with replica() as served:
        yield served


def measured(url: str, driver: DisturbedDriver, folder: Path, blocks: int = 1) -> list[Trial]:
    """The trials of one arm, a trial a block, as they are read back from disk."""
    made = experiment(Served(url, serving=()), driver, folder, blocks)
    made.run(question())
    return made.context.store.load_run()


def lags_s(trials: list[Trial]) -> list[float]:
    return [trial.instrument.dispatch_lag_p99_s for trial in trials]


def test_a_disturbed_block_is_kept_and_another_one_measured(url: str, tmp_path: Path) -> None:
    driver = DisturbedDriver(disturbed=1)
    first, second = measured(url, driver, tmp_path)
    assert (first.block, second.block) == (0, 1)
    assert lags_s([first, second]) == [LATE["dispatch_lag_p99_s"], IN_TIME["dispatch_lag_p99_s"]]
    judgement = judge([first, second])
    assert judgement.blocks == 1
    assert "dispatch lag" not in "".join(judgement.invalid_reasons)
    assert judgement.notes[0].startswith("block 0 is set aside: dispatch lag p99 9000 ms, bound ")


def test_a_machine_that_stays_busy_makes_no_run_without_end(url: str, tmp_path: Path) -> None:
    trials = measured(url, DisturbedDriver(disturbed=100), tmp_path, blocks=2)
    assert len(trials) == 2 + spare_blocks((2,))
    assert "dispatch lag p99 9000 ms" in "".join(judge(trials).invalid_reasons)


def test_a_machine_that_is_not_given_free_is_not_waited_for_again_and_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.experiment.experiment.await_quiet", lambda *_: False)
    told = io.StringIO()
    made = experiment(Served(url, serving=()), DisturbedDriver(disturbed=100), tmp_path, 8)
    made = replace(made, context=replace(made.context, progress=PlainProgress(told)))
    made.run(question())
    assert len(made.context.store.load_run()) == MOST_WAITS
    assert f"{question()}: ends here: other programs do not end" in told.getvalue()


def test_as_many_good_blocks_are_measured_as_were_wanted(url: str, tmp_path: Path) -> None:
    trials = measured(url, DisturbedDriver(disturbed=2), tmp_path, blocks=2)
    assert lags_s(trials).count(IN_TIME["dispatch_lag_p99_s"]) == 2
    assert len(trials) == 4


def test_a_list_of_requests_that_was_too_short_is_longer_in_the_next_block(
    url: str, tmp_path: Path
) -> None:
    driver = HastyDriver()
    made = experiment(Served(url, serving=()), driver, tmp_path)
    first, second = made.run(question(ClosedLoop(per_sequence=1)))
    assert (first.cut_short, second.cut_short) == (True, False)
    short, long = (len(load.prompts) for load in driver.loads)
    assert long > 3 * short
    judgement = judge([first, second])
    assert judgement.blocks == 1
    assert (
        "block 0 is set aside: block 0 trial 0 (control baseline) was cut short"
        in (judgement.notes[0])
    )


def test_an_arm_that_fails_most_of_its_requests_is_not_measured_further(
    url: str, tmp_path: Path
) -> None:
    (only,) = measured(url, FailingDriver(), tmp_path, blocks=4)
    assert "requests failed, bound 2.0 %; mostly rate-limited" in "".join(
        judge([only]).invalid_reasons
    )


def test_an_interrupted_trial_ends_the_run(url: str, tmp_path: Path) -> None:
    driver = DisturbedDriver(disturbed=1, ending=Ending.INTERRUPTED)
    made = experiment(Served(url, serving=()), driver, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        made.run(question())
    (trial,) = made.context.store.load_run()
    assert trial.cut_short


def test_the_capacity_at_the_end_is_stored_with_the_last_trial(url: str, tmp_path: Path) -> None:
    first, last = measured(url, DisturbedDriver(disturbed=0), tmp_path, blocks=2)
    assert first.capacity_after_rps is None
    # How fast the scripted server is depends on the machine; that it was looked at does not.
    assert last.capacity_rps is not None
    assert last.capacity_after_rps is not None
    assert last.capacity_after_rps > 0


def test_engines_whose_speed_cannot_be_told_cost_no_trial(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> Capacity:
        raise UserError("1 of 8 calibration requests failed")

    monkeypatch.setattr("bench.experiment.capacity.EngineCalibration.probe", failing)
    (only,) = measured(url, DisturbedDriver(disturbed=0), tmp_path)
    assert only.capacity_rps is not None
    assert only.capacity_after_rps is None


NOWHERE = Step(lambda _: None)


def test_a_busy_machine_is_waited_for_until_it_is_quiet() -> None:
    seen = iter([CpuShares(0.31, 0.0), CpuShares(0.0, 0.3), CpuShares(0.1, 0.05)])
    texts: list[str] = []
    step = Step(texts.append)
    assert await_quiet((), (0,), DEFAULT_BOUNDS, step, measure=lambda *_: next(seen))
    assert ["other programs, which take 31%" in text for text in texts] == [True, False]
    assert "the machine's host, which takes 30% of its time" in texts[1]


def test_a_machine_that_stays_busy_is_not_waited_for_without_end() -> None:
    busy = CpuShares(0.5, 0.0)
    assert not await_quiet((), (0,), DEFAULT_BOUNDS, NOWHERE, limit_s=0.0, measure=lambda *_: busy)


def test_where_nobody_knows_whose_time_it_was_nothing_is_waited_for() -> None:
    unknown = CpuShares(None, None)
    assert await_quiet(None, (0,), DEFAULT_BOUNDS, NOWHERE, measure=lambda *_: unknown)
