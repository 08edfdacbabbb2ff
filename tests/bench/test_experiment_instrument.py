"""What a trial holds of the instrument: from the run's start, and from beside the load.

A scripted server stands in for a replica; nothing here says how one serves.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.calibration import Calibration
from bench.drivers.builtin import BuiltinDriver
from bench.environments.cpu_engine.models import model_folder
from bench.experiment import Experiment, Plan, Question
from bench.load.arrivals import Constant
from bench.load.workload import Fixed, Workload
from bench.profile import Profile
from bench.progress import PlainProgress
from bench.records import Expectation, Replica, Slo, Trial
from bench.scenario import Scenario
from bench.sites.local import LocalSite
from bench.slots import CONTROL
from bench.store import TrialStore
from bench.topology import DEFAULT_TOPOLOGY, Arm, Model, load_topology
from tests.bench.load_source import (
    CHUNKED,
    DONE,
    LAST_CHUNK,
    STOP,
    Call,
    chunk,
    delta,
    source,
    usage,
)
from tests.bench.making import INSTRUMENT

TOPOLOGY = load_topology(DEFAULT_TOPOLOGY)
MODEL = TOPOLOGY.models["tiny-llama"]
ARM = TOPOLOGY.arm("baseline")
PROFILE = Profile("short", looks=(1,), trial_s=0.5, capacity_s=0.2, drain_s=20.0)
ANSWER = delta(content="one ") + delta(content="two") + STOP + usage(70, 2) + DONE


async def answer(call: Call) -> None:
    await asyncio.sleep(0.02)
    await call.write(CHUNKED + chunk(ANSWER) + LAST_CHUNK)


@dataclass
class Served:
    """An environment whose one replica is its balancer as well."""

    url: str
    serving: tuple[int, ...] | None
    name: str = "local"
    alternates: bool = False

    def site(self) -> LocalSite:
        return LocalSite()

    def start(self, models: Sequence[Model]) -> tuple[Replica, ...]:
        return self.replicas(ARM)

    def replicas(self, arm: Arm) -> tuple[Replica, ...]:
        return (Replica(MODEL.name, "tiny-llama-0", self.url),)

    def arm_routes(
        self, arm: Arm, balancers: int, models: Sequence[str]
    ) -> Mapping[str, tuple[str, ...]]:
        return dict.fromkeys(models, (self.url,) * balancers)

    def slowed(self, replicas: Sequence[Replica], share: float) -> AbstractContextManager[None]:
        return nullcontext()

    def tokenizer_folder(self, model: str) -> Path:
        raise NotImplementedError

    def dead_replicas(self) -> tuple[str, ...]:
        return ()

    def processes(self) -> tuple[int, ...] | None:
        return self.serving

    def facts(self) -> Mapping[str, Any]:
        return {}

    def stop(self) -> None:
        """Nothing was started."""


@pytest.fixture
def url() -> Iterator[str]:
    with source(answer) as served:
        yield served.url


def stored(environment: Served, folder: Path) -> Trial:
    """The only trial of a question, as it is read back from disk."""
    progress = PlainProgress(io.StringIO())
    scenario = Scenario(
        name="latency",
        description="",
        arrival=Constant(load=0.5),
        workload=Workload(prompt=Fixed(32), output=Fixed(2)),
        primary="scheduled_ttft_p50_s",
        expect=Expectation.NOT_WORSE,
    )
    calibration = Calibration(
        site=LocalSite(),
        replicas=lambda: environment.start(()),
        tokenizers={MODEL.name: model_folder(MODEL, folder)},
        slots=1,
        window_s=PROFILE.capacity_s,
        drain_s=PROFILE.drain_s,
        run_id="run",
        seed=1,
        progress=progress,
    )
    assert INSTRUMENT.accuracy is not None
    plan = Plan("run", 1, {"control": ARM}, PROFILE, {}, INSTRUMENT.accuracy)
    store = TrialStore(folder / "results")
    site = LocalSite()
    experiment = Experiment(
        environment, site, calibration, BuiltinDriver(site), store, progress, plan
    )
    facts = scenario.facts({MODEL.name: Slo()})
    experiment.run(Question(scenario, facts, (MODEL.name,)), CONTROL)
    (trial,) = store.load_run("run")
    return trial


def test_a_trial_holds_the_accuracy_of_the_start_and_what_others_did(
    url: str, tmp_path: Path
) -> None:
    instrument = stored(Served(url, serving=()), tmp_path).instrument
    assert instrument.accuracy == INSTRUMENT.accuracy
    assert instrument.foreign_cpu_share is not None
    assert 0 <= instrument.foreign_cpu_share <= 1
    assert instrument.stolen_cpu_share is not None


def test_where_engines_run_elsewhere_what_others_did_is_unknown(url: str, tmp_path: Path) -> None:
    instrument = stored(Served(url, serving=None), tmp_path).instrument
    assert instrument.foreign_cpu_share is None
    assert instrument.stolen_cpu_share is not None
