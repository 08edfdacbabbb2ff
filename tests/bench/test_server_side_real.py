"""What real engines say of a trial, against what the client has seen of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.analysis.judge import judge
from bench.config.profiles import Profile
from bench.config.topology import load_topology
from bench.drivers.builtin import BuiltinDriver
from bench.environments.base import targets_of
from bench.environments.local import LocalEnvironment
from bench.environments.local.install import ensure_engine
from bench.experiment.capacity import EngineCalibration
from bench.experiment.experiment import Experiment
from bench.experiment.scenario import Question, Scenario
from bench.experiment.trial import RunContext
from bench.load.plan.arrivals import Poisson
from bench.load.plan.workload import Bimodal, Fixed, Workload
from bench.processes.local import LocalSite
from bench.progress import make_progress
from bench.records import Expectation, Slo, Trial
from bench.store import TrialStore
from bench.telemetry.scraping import scraping
from reports.terminal import summary_text
from tests.bench.making import ACCURACY

pytestmark = pytest.mark.engines

ROOT = Path(__file__).parents[2]
# Ports of their own, so that engines which somebody has kept are not in the way.
BASE = load_topology()
TOPOLOGY = replace(
    BASE,
    engine=replace(BASE.engine, kv_cache_mib=64, first_port=8500),
    arms={"baseline": replace(BASE.arm("baseline"), port=8590)},
)
MODEL = "tiny-llama"
PROFILE = Profile("test", looks=(1,), trial_s=4.0, capacity_s=2.0, drain_s=60.0)
SCENARIO = Scenario(
    name="server-side",
    description="More than the replicas can do at once, so that queues form.",
    arrival=Poisson(load=1.2),
    workload=Workload(prompt=Fixed(64), output=Bimodal(short=8, long=64, long_share=0.2)),
    primary="scheduled_ttft_p50_s",
    expect=Expectation.NOT_WORSE,
)
PERIOD_S = 0.25


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured; several trials where others disturbed the first ones."""

    trials: tuple[Trial, ...]
    store: TrialStore

    @property
    def trial(self) -> Trial:
        return self.trials[0]


@pytest.fixture(scope="module")
def environment(
    tmp_path_factory: pytest.TempPathFactory, machine: None
) -> Iterator[LocalEnvironment]:
    """Two replicas, with the engine's packages of the project's cache."""
    folder = tmp_path_factory.mktemp("cache")
    venv = ensure_engine(ROOT / ".cache", make_progress())
    (folder / "engine-venv").symlink_to(venv.folder)
    environment = LocalEnvironment(folder, TOPOLOGY, make_progress())
    try:
        yield environment
    finally:
        environment.stop()


@pytest.fixture(scope="module")
def measured(environment: LocalEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """A trial of the baseline, which is round robin, through the whole experiment."""
    replicas = environment.start(TOPOLOGY.select_models([MODEL], "cpu", "local"))
    calibration = EngineCalibration(
        site=LocalSite(),
        targets=lambda: targets_of(replicas),
        tokenizers={MODEL: environment.tokenizer_folder(MODEL)},
        max_num_seqs=TOPOLOGY.engine.max_num_seqs,
        window_s=PROFILE.capacity_s,
        drain_s=PROFILE.drain_s,
        run_id="20260131-235959-a1b2",
        seed=1,
        progress=make_progress(),
    )
    store = TrialStore(tmp_path_factory.mktemp("results"))
    context = RunContext(
        environment=environment,
        site=calibration.site,
        calibration=calibration,
        driver=BuiltinDriver(calibration.site),
        store=store,
        progress=make_progress(),
        run_id=calibration.run_id,
        seed=1,
        arms={"control": TOPOLOGY.arm("baseline")},
        profile=PROFILE,
        provenance={},
        accuracy=ACCURACY,
    )
    question = Question(SCENARIO, SCENARIO.facts({MODEL: Slo()}), (MODEL,))
    trials = Experiment(context).run(question)
    return Measured(trials, store)


def test_round_robin_splits_requests_evenly(measured: Measured) -> None:
    server = judge([measured.trial]).server("control")
    # One request more on one side, where their number is odd.
    assert server.imbalance is not None
    assert server.imbalance <= 1 + 1 / len(measured.trial.samples)
    shares = [server.share(one.replica) for one in server.replicas]
    assert shares == pytest.approx([0.5, 0.5], abs=1 / len(measured.trial.samples))


def test_what_the_server_counted_agrees_with_the_samples(measured: Measured) -> None:
    samples = measured.trial.samples
    assert all(sample.ok for sample in samples)
    server = judge([measured.trial]).server("control")
    served = Counter(sample.replica for sample in samples)
    for one in server.replicas:
        mine = [sample for sample in samples if sample.replica == one.replica]
        assert one.load.requests == one.load.finished == served[one.replica]
        assert one.load.generation_tokens == sum(sample.output_tokens or 0 for sample in mine)
        assert one.load.prompt_tokens == sum(sample.prompt_tokens or 0 for sample in mine)
        assert one.load.prefix_queries == one.load.prompt_tokens
    assert server.total.finished == len(samples)


def test_queues_are_seen_where_more_is_asked_than_fits(measured: Measured) -> None:
    total = judge([measured.trial]).server("control").total
    assert total.waiting_max is not None
    assert total.waiting_max >= 1
    assert total.running_mean is not None
    assert 0 < total.running_mean <= TOPOLOGY.engine.max_num_seqs
    assert total.kv_cache_usage_max is not None
    assert 0 < total.kv_cache_usage_max <= 1
    assert total.preemptions is not None


def test_readings_span_the_trial_and_none_failed(measured: Measured) -> None:
    for series in measured.trial.server:
        assert series.readings[0].at_s <= 0
        assert series.readings[-1].at_s >= measured.trial.elapsed_s
        assert [reading.error for reading in series.readings if reading.error] == []
        times = [reading.at_s for reading in series.readings]
        assert times == sorted(times)
        # A busy machine may leave instants out, but not most of them.
        assert len(times) > measured.trial.elapsed_s / PERIOD_S / 2


def test_a_stored_run_says_the_same_again(measured: Measured) -> None:
    again = judge(measured.store.load_run())
    assert again == judge(measured.trials)
    text = summary_text([again], width=100, colour=False)
    assert "server's side" in text


def test_a_replica_without_metrics_is_missing_and_its_neighbour_is_not(
    environment: LocalEnvironment, measured: Measured
) -> None:
    one, other = measured.trial.replicas
    gone = replace(other, url="http://127.0.0.1:1")
    with scraping((one, gone), environment.site(), PERIOD_S) as scraper:
        pass
    alive, lost = scraper.since(0.0)
    assert all(reading.error is None and reading.finished for reading in alive.readings)
    assert all(reading.error and reading.finished is None for reading in lost.readings)
