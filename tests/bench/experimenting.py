"""An experiment on one replica, for tests of how trials are run and stored.

A scripted server stands in for the replica; nothing here says how one serves.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config.profiles import Profile
from bench.config.topology import DEFAULT_TOPOLOGY, Arm, Model, load_topology
from bench.drivers import Driver
from bench.environments.base import Environment
from bench.environments.cpu_engine.models import model_folder
from bench.experiment.capacity import EngineCalibration
from bench.experiment.experiment import Experiment
from bench.experiment.scenario import Question, Scenario
from bench.experiment.trial import RunContext
from bench.load.plan.arrivals import ClosedLoop, Constant
from bench.load.plan.workload import Fixed, Workload
from bench.processes.local import LocalSite
from bench.progress import PlainProgress
from bench.records import Expectation, Replica, Slo
from bench.store import TrialStore
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
SITE = LocalSite()
RUN_ID = "run"
HALF = Constant(load=0.5)
ANSWER = delta(content="one ") + delta(content="two") + STOP + usage(70, 2) + DONE


async def answer(call: Call) -> None:
    await asyncio.sleep(0.02)
    await call.write(CHUNKED + chunk(ANSWER) + LAST_CHUNK)


@dataclass
class Served(Environment):
    """An environment whose one replica is its balancer as well."""

    url: str
    serving: tuple[int, ...] | None
    name: str = "local"
    alternates: bool = False

    def site(self) -> LocalSite:
        return SITE

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


@contextmanager
def replica() -> Iterator[str]:
    """The URL of a replica that answers within 20 ms."""
    with source(answer) as served:
        yield served.url


def question(arrival: Constant | ClosedLoop = HALF) -> Question:
    """What latency one model has, at half the load that its replica carries if not told else."""
    scenario = Scenario(
        name="latency",
        description="",
        arrival=arrival,
        workload=Workload(prompt=Fixed(32), output=Fixed(2)),
        primary="scheduled_ttft_p50_s",
        expect=Expectation.NOT_WORSE,
    )
    return Question(scenario, scenario.facts({MODEL.name: Slo()}), (MODEL.name,))


def experiment(environment: Served, driver: Driver, folder: Path, blocks: int = 1) -> Experiment:
    """One that stores under `folder`/results, and takes half a second for a trial."""
    profile = Profile("short", looks=(blocks,), trial_s=0.5, capacity_s=0.2, drain_s=20.0)
    progress = PlainProgress(io.StringIO())
    calibration = EngineCalibration(
        site=SITE,
        targets=lambda: environment.targets({"control": ARM}),
        tokenizers={MODEL.name: model_folder(MODEL, folder)},
        max_num_seqs=1,
        window_s=profile.capacity_s,
        drain_s=profile.drain_s,
        run_id=RUN_ID,
        seed=1,
        progress=progress,
    )
    assert INSTRUMENT.accuracy is not None
    return Experiment(
        RunContext(
            environment=environment,
            site=SITE,
            calibration=calibration,
            driver=driver,
            store=TrialStore(folder / "results"),
            progress=progress,
            run_id=RUN_ID,
            seed=1,
            arms={"control": ARM},
            profile=profile,
            provenance={},
            accuracy=INSTRUMENT.accuracy,
        )
    )
