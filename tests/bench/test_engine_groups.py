"""Groups of engines in containers: what each one shows of KVCached when it comes up."""

from __future__ import annotations

import io
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.kvcached import evidence_in
from bench.config.topology import (
    Arm,
    EngineFlags,
    GpuEnvironment,
    HardwareEntry,
    Layout,
    Model,
    Topology,
    load_topology,
)
from bench.environments.containers.engine import engine_group
from bench.environments.containers.environment import ContainerEnvironment
from bench.environments.kvcached.collecting import Console
from bench.errors import UserError
from bench.processes.local import LocalSite
from bench.progress import PlainProgress
from bench.records import Replica
from tests.bench.colocating import colocated_topology
from tests.bench.consoles import console

TOPOLOGY = load_topology()
BASELINE, MANAGED = map(TOPOLOGY.arm, ("baseline", "managed"))
SMALL = replace(MANAGED, name="small", port=9001, engine=EngineFlags(gpu_memory_utilization=0.25))
MODEL = TOPOLOGY.models["llama-3.1-8b"]


class Scripted(ContainerEnvironment):
    """An environment with an engine for each group, which tells nothing."""

    name = "scripted"

    def __init__(
        self,
        arms: Sequence[Arm],
        said: io.StringIO,
        folder: Path,
        *,
        fits: bool,
        topology: Topology = TOPOLOGY,
    ) -> None:
        progress = PlainProgress(said)
        super().__init__(topology, arms, folder, progress, timeout_s=1.0, keep=False)
        self._fits = fits
        self.there: set[str] = set()

    def site(self) -> LocalSite:
        return LocalSite()

    def arm_routes(
        self, arm: Arm, balancers: int, models: Sequence[str]
    ) -> Mapping[str, tuple[str, ...]]:
        self._bring_up(arm)
        return dict.fromkeys(models, ())

    def replicas(self, arm: Arm) -> tuple[Replica, ...]:
        return (Replica(MODEL.name, engine_group(arm), "http://127.0.0.1:9"),)

    def slowed(self, replicas: Sequence[Replica], share: float) -> AbstractContextManager[None]:
        return nullcontext()

    def processes(self) -> None:
        return

    def _prepare(self, models: object) -> None:
        del models

    def _all_fit(self) -> bool:
        return self._fits

    def _deploy(self, arm: Arm) -> Collection[str]:
        self.there.add(engine_group(arm))
        return {arm.name}

    def _stop_group(self, group: str) -> None:
        self.there.discard(group)

    _teardown = _stop_group

    def _latest_starts(self, group: str) -> Mapping[str, Hashable]:
        return {f"{group}-0": 0}

    def _dead(self, group: str, name: str, *, gone: bool) -> str:
        raise AssertionError(f"{name} of {group} is dead, gone: {gone}")

    def _consoles(self, group: str) -> Sequence[Console]:
        assert group in self.there

        def run(command: Sequence[str]) -> str:
            raise UserError(f"{command[-1]} is not there")

        return [replace(console(run), engine=f"{group}-0", model=MODEL.name, place=group)]

    def _provenance(self) -> Mapping[str, Any]:
        return {}


@pytest.mark.parametrize("fits", [True, False])
def test_each_group_is_looked_at_by_its_own_engines_and_share_of_memory(
    fits: bool, tmp_path: Path
) -> None:
    arms, said = (BASELINE, MANAGED, SMALL), io.StringIO()
    one = Scripted(arms, said, tmp_path, fits=fits)
    one.start([MODEL])
    seen = []
    for arm in arms:
        one.arm_routes(arm, 1, [MODEL.name])
        evidence = evidence_in(one.arm_facts(arm))
        assert evidence is not None
        names = [engine.engine for engine in evidence.engines]
        seen.append((evidence.wanted, evidence.utilization, names))
    small = "managed-gpu-memory-utilization-0-25"
    assert seen == [
        (False, 0.9, []),
        (True, 0.9, ["managed-0"]),
        (True, 0.25, [f"{small}-0"]),
    ]
    assert [one.engines(arm) for arm in arms] == ["baseline 1", "managed 1", f"{small} 1"]
    for name in ("managed", "small"):
        assert f"KVCached of {name} is not proven" in said.getvalue()
    assert "KVCached of baseline" not in said.getvalue()
    one.stop()
    assert not one.there


@pytest.mark.parametrize(
    ("arms", "layout", "model", "read"),
    [
        ((BASELINE, MANAGED), "dedicated", MODEL, True),
        ((BASELINE,), "dedicated", MODEL, False),
        ((BASELINE,), "colocated", MODEL, True),
        ((BASELINE, MANAGED), "dedicated", TOPOLOGY.models["tiny-llama"], False),
    ],
)
def test_memory_is_read_where_engines_share_gpus_or_an_arm_has_kvcached(
    arms: Sequence[Arm], layout: Layout, model: Model, read: bool, tmp_path: Path
) -> None:
    topology = replace(TOPOLOGY, layout=layout)
    one = Scripted(arms, io.StringIO(), tmp_path, fits=True, topology=topology)
    one.start([model])
    for arm in arms:
        one.arm_routes(arm, 1, [model.name])
        with one.memory(arm) as watch:
            pass
        assert [series.place for series in watch.since(0.0)] == [engine_group(arm)] * read
    one.stop()


def test_where_a_gain_is_possible_is_said_once_and_of_each_arms_own_flags(tmp_path: Path) -> None:
    """A request of 2,560 tokens, and one that is as long as engines take by default."""
    hardware: dict[GpuEnvironment, HardwareEntry] = {"docker": HardwareEntry("H100", 8, 79.6)}
    topology = replace(colocated_topology(), hardware=hardware)
    models = topology.models_for("gpu", "docker")
    short = replace(MANAGED, name="short", port=9001, engine=EngineFlags(max_model_len=2560))

    def notes(*arms: Arm) -> list[str]:
        said = io.StringIO()
        one = Scripted(arms, said, tmp_path, fits=True, topology=topology)
        one.name = "docker"
        one.start(models)
        one.stop()
        return [line for line in said.getvalue().splitlines() if "KV cache for" in line]

    alike = notes(BASELINE, MANAGED)
    assert [line.partition(":")[0] for line in alike] == [model.name for model in models]
    assert all("requests of 8,192 tokens" in line for line in alike)
    unlike = notes(BASELINE, MANAGED, short)
    assert unlike[:3] == [f"baseline, managed: {line}" for line in alike]
    assert [line.startswith("short: ") and "of 2,560 tokens" in line for line in unlike[3:]] == (
        [True] * 3
    )
