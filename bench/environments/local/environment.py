"""Environment `local`: engines and balancers as processes of this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from bench.config.config import Config
from bench.config.topology import Arm, EngineEntry, Model, Topology
from bench.environments.balancers import Balancers, require_free_port
from bench.environments.base import Environment
from bench.environments.local.engines import EngineSet
from bench.environments.local.host import engines_lock
from bench.environments.local.kept import end_all_balancers
from bench.environments.local.starting import StartedEngines, arm_ports, run_logs, start_engines
from bench.environments.peers import balancer_facts
from bench.processes import throttle
from bench.processes.local import LocalSite
from bench.progress import Progress
from bench.records import Replica


def make_environment(config: Config, progress: Progress) -> LocalEnvironment:
    """The environment as the options want it; nothing is started yet."""
    keep = config.options.keep_env
    arms = tuple(config.arms.values())
    return LocalEnvironment(config.cache, config.topology, progress, keep=keep, arms=arms)


class LocalEnvironment(Environment):
    """Real vLLM engines on the CPU, and the balancers in front of them.

    Everything is under `cache`: the engine's packages, model folders, logs, and the state
    file. With `keep` the engines run on after `stop`, for the next run. `arms` matter where they
    have engine flags: engines with other flags are others, and all are up at once.
    """

    name = "local"
    alternates = False

    def __init__(
        self,
        cache: Path,
        topology: Topology,
        progress: Progress,
        *,
        keep: bool = False,
        arms: Sequence[Arm] = (),
    ) -> None:
        self._cache = cache
        self._topology = topology
        self._progress = progress
        self._keep = keep
        self._arms = arms
        self._logs = run_logs(cache)
        self._engines = EngineSet(cache, self._logs, progress)
        # By the flags of the engines that they are in front of.
        self._balancers: dict[EngineEntry, Balancers] = {}
        self._started = StartedEngines({}, {}, {}, found=False)
        self._arm_facts: Mapping[str, Mapping[str, Any]] = {}
        self._cleanup = ExitStack()

    def site(self) -> LocalSite:
        return LocalSite()

    def start(self, models: Sequence[Model]) -> tuple[Replica, ...]:
        """Start every replica of `models`, or take those that an earlier run has kept.

        Balancers that have been deployed are ended: they would ask the engines for their state
        while others are measured.
        """
        self._arm_facts = balancer_facts(self._arms, self._logs)
        self._cleanup.enter_context(engines_lock(self._cache, self._progress))
        end_all_balancers(self._cache, self._progress, "this run starts its own")
        for arm in self._arms:  # engines take a minute or more
            require_free_port(arm)
        self._cleanup.callback(self._release_engines)
        self._started = start_engines(
            self._engines, self._cache, self._topology, models, self._arms, self._progress
        )
        for flags, replicas in self._started.groups.items():
            balancers = Balancers(self._logs, self._progress, reserved=arm_ports(self._topology))
            balancers.serve(replicas, flags.max_num_seqs)
            self._cleanup.callback(balancers.stop)
            self._balancers[flags] = balancers
        return self._started.replicas

    def arm_routes(
        self, arm: Arm, balancers: int, models: Sequence[str]
    ) -> Mapping[str, tuple[str, ...]]:
        own = self._balancers[self._topology.for_arm(arm).engine]
        return own.routes(arm, balancers, models)

    def replicas(self, arm: Arm) -> tuple[Replica, ...]:
        """Those with the flags of the arm's engines: arms share them."""
        return self._started.groups[self._topology.for_arm(arm).engine]

    def engines(self, arm: Arm) -> str:
        groups = list(self._started.groups)
        return f"group {groups.index(self._topology.for_arm(arm).engine)}" if groups[1:] else ""

    def slowed(self, replicas: Sequence[Replica], share: float) -> AbstractContextManager[None]:
        names = {replica.name for replica in replicas}
        return throttle.slowed(self._engines.processes(names), share)

    def tokenizer_folder(self, model: str) -> Path:
        return self._started.folders[model]

    def dead_replicas(self) -> tuple[str, ...]:
        return self._engines.dead()

    def processes(self) -> tuple[int, ...]:
        """The processes of the engines, which an earlier run may have started."""
        return self._engines.processes()

    def facts(self) -> Mapping[str, Any]:
        """Engine versions and flags, weights, pinning, hardware, the start of the engines.

        Also the folder of the logs, relative to that of the cache.
        """
        return {**self._started.facts, "logs": str(self._logs.relative_to(self._cache.parent))}

    def arm_facts(self, arm: Arm) -> Mapping[str, Any]:
        """The version of the arm's balancer, where that is a peer."""
        return self._arm_facts.get(arm.name, {})

    def stop(self) -> None:
        self._cleanup.close()

    def _release_engines(self) -> None:
        whole = bool(self._started.replicas) and not self._engines.dead()
        self._engines.release(keep=self._keep and whole)
