"""aiperf, the openai SDK and the built-in client against one real vLLM engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.config.topology import EngineEntry, load_topology
from bench.drivers import Driver, make_driver
from bench.drivers.aiperf import REQUIREMENTS
from bench.environments.base import targets_of
from bench.environments.local import LocalEnvironment, stop_kept
from bench.environments.local.install import ensure_engine
from bench.experiment.capacity import EngineCalibration
from bench.load.plan.arrivals import Poisson
from bench.load.plan.schedule import plan_closed_loop, plan_open_loop
from bench.load.plan.workload import Fixed, Uniform, Workload
from bench.load.run.drive import Ending, Load
from bench.processes.venv import ensure_venv
from bench.progress import make_progress
from bench.records import Schedule

pytestmark = pytest.mark.engines

ROOT = Path(__file__).parents[2]
MODEL = "tiny-llama"
# Ports of its own, so that engines which somebody has kept are not in the way.
TOPOLOGY = replace(load_topology(), engine=EngineEntry(kv_cache_mib=64, first_port=8400))
WORKLOAD = Workload(prompt=Uniform(48, 96), output=Uniform(4, 12))


@dataclass(frozen=True)
class Served:
    """An engine, how to make prompts for it, and the drivers."""

    calibration: EngineCalibration
    drivers: dict[str, Driver]

    def load(self, schedule: Schedule, salt: str) -> Load:
        prompts = self.calibration.prompts(schedule, salt)
        return Load(schedule, prompts, [self.calibration.targets()[0].url] * len(prompts))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, machine: None) -> Iterator[Served]:
    cache, progress = tmp_path_factory.mktemp("cache"), make_progress()
    (cache / "engine-venv").symlink_to(ensure_engine(ROOT / ".cache", progress).folder)
    aiperf = ensure_venv("aiperf", REQUIREMENTS, ROOT / ".cache", progress)
    (cache / "aiperf-venv").symlink_to(aiperf.folder)
    environment = LocalEnvironment(cache, TOPOLOGY, progress)
    try:
        models = [
            replace(one, replicas=1) for one in TOPOLOGY.select_models([MODEL], "cpu", "local")
        ]
        replicas = environment.start(models)
        calibration = EngineCalibration(
            site=environment.site(),
            targets=lambda: targets_of(replicas),
            tokenizers={MODEL: environment.tokenizer_folder(MODEL)},
            max_num_seqs=4,
            window_s=1.0,
            drain_s=60.0,
            run_id="test",
            seed=1,
            progress=progress,
        )
        drivers = {
            name: make_driver(
                name, cache, environment.tokenizer_folder, progress, environment.site()
            )
            for name in ("builtin", "openai", "aiperf")
        }
        yield Served(calibration, drivers)
    finally:
        environment.stop()
        stop_kept(cache, progress)


@pytest.mark.parametrize("name", ["builtin", "openai", "aiperf"])
def test_every_driver_sends_an_open_loop_as_it_was_planned(served: Served, name: str) -> None:
    schedule = plan_open_loop(
        seed=3,
        rates_rps={MODEL: 4.0},
        workload=WORKLOAD,
        arrival=Poisson(load=1.0),
        duration_s=4.0,
    )
    result = served.drivers[name].run(served.load(schedule, f"open {name}"), drain_timeout_s=60)
    assert result.driver.name == name
    assert result.ending is Ending.COMPLETE
    assert [sample.index for sample in result.samples] == list(range(16))
    for planned, sample in zip(schedule.requests, result.samples, strict=True):
        assert sample.ok, sample
        assert sample.scheduled_s == pytest.approx(planned.at_s)
        # by the server's count, the template included
        assert (sample.prompt_tokens, sample.output_tokens) == (
            planned.prompt_tokens,
            planned.output_tokens,
        )
        assert sample.sent_s is not None
        assert sample.first_token_s is not None
        assert sample.scheduled_s - 1e-6 <= sample.sent_s < sample.first_token_s


@pytest.mark.parametrize("name", ["openai", "aiperf"])
def test_a_closed_loop_ends_with_its_window(served: Served, name: str) -> None:
    schedule = plan_closed_loop(
        seed=4,
        models=(MODEL,),
        workload=Workload(Fixed(48), Fixed(8)),
        concurrency=2,
        duration_s=2.0,
        count=2000,
    )
    result = served.drivers[name].run(served.load(schedule, f"closed {name}"), drain_timeout_s=60)
    samples = result.samples
    assert 2 < len(samples) < 2000
    assert all(sample.ok for sample in samples)
    assert max(sample.scheduled_s for sample in samples) < 2.5
    assert [sample.index for sample in samples] == list(range(len(samples)))
    spans = [(one.sent_s or 0.0, one.last_token_s or 0.0) for one in samples]
    assert max(sum(sent <= at < last for sent, last in spans) for at, _ in spans) <= 2
