"""What every environment offers to the rest of the suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.config.topology import Arm, Model
from bench.environments.kvcached.memory import MemoryWatch, watching
from bench.load.client.api import Api
from bench.processes.machine import hold_machine
from bench.processes.program import Site
from bench.progress import Progress
from bench.records import Replica, Role


@dataclass(frozen=True, slots=True)
class Target:
    """A base URL that serves a model, and how requests to it are written.

    `arm` is the only arm that it serves; empty if it serves both.
    """

    model: str
    name: str
    url: str
    api: Api = field(default_factory=Api)
    arm: str = ""


class Environment(Protocol):
    """A place that runs engines and balancers.

    Within the context of `hold` call `site` and `start` once, then `arm_routes` and `slowed` any
    number of times, and `stop` at the end, also after an error. An environment reports to its
    progress what it waits for.

    If `alternates` is true after `start`, only one arm is up at a time: the one that was passed to
    `arm_routes` last. Its replicas are new ones each time it comes up.
    """

    name: str
    alternates: bool

    def hold(self, what: str, progress: Progress, timeout_s: float) -> AbstractContextManager[None]:
        """A context in which no other run uses what this environment measures on.

        That is this machine where load is sent from it. `what` names the run to others. Waits at
        most `timeout_s` seconds for another run, and then raises UserError that names it.
        """
        return hold_machine(what, progress, timeout_s)

    def site(self) -> Site:
        """Where load is sent from and replicas are scraped from. Needs no engines.

        Raises UserError if that does not come up.
        """
        ...

    def start(self, models: Sequence[Model]) -> tuple[Replica, ...]:
        """Start the replicas of `models`; return them when each has answered a completion.

        Raises UserError, with the path of the log, if a replica does not come up.
        """
        ...

    def arm_routes(
        self, arm: Arm, balancers: int, models: Sequence[str]
    ) -> Mapping[str, tuple[str, ...]]:
        """By model: the base URLs that reach it through the arm, to be used in turn.

        On return, `balancers` balancers run and know all replicas: missing ones have been started,
        others stopped. An environment may have more than one balancer behind a URL.
        """
        ...

    def replicas(self, arm: Arm) -> tuple[Replica, ...]:
        """The replicas that serve the arm, as far as they are known.

        Call `arm_routes` for it first.
        """
        ...

    def api(self, arm: Arm) -> Api:
        """How the requests of an arm are written."""
        del arm
        return Api()

    def targets(self, arms: Mapping[Role, Arm]) -> tuple[Target, ...]:
        """Where requests go that warm the engines and measure capacity."""
        return targets_of(self.replicas(arms["control"]), self.api(arms["control"]))

    def other_targets(self, arms: Mapping[Role, Arm]) -> tuple[tuple[Target, ...], ...]:
        """What else is to be warmed: the replicas of each arm that are none of those before.

        There are none where only one arm is up at a time.
        """
        if self.alternates:
            return ()
        seen = set(self.replicas(arms["control"]))
        found = []
        for arm in arms.values():
            if own := tuple(one for one in self.replicas(arm) if one not in seen):
                found.append(targets_of(own, self.api(arm)))
                seen.update(own)
        return tuple(found)

    def slowed(self, replicas: Sequence[Replica], share: float) -> AbstractContextManager[None]:
        """A context in which each of `replicas` gets only `share` of a core's time.

        They run at full speed again afterwards, even if this process is killed. Raises UserError at
        the end of the context if they were not slowed throughout.
        """
        ...

    def memory(self, arm: Arm) -> AbstractContextManager[MemoryWatch]:
        """A context in which memory of the GPUs that serve the arm is read, where it may matter.

        Call `arm_routes` for it first.
        """
        del arm
        return watching(())

    def tokenizer_folder(self, model: str) -> Path | None:
        """Folder with the model's tokenizer.json and chat template; None where it is not known."""
        ...

    def dead_replicas(self) -> tuple[str, ...]:
        """One text for each replica that has ended: its name, and where its log is."""
        ...

    def processes(self) -> tuple[int, ...] | None:
        """Ids of the serving processes on this machine that this process has not started.

        None if engines run elsewhere, or it is not known which processes they are.
        """
        ...

    def engines(self, arm: Arm) -> str:
        """A name for the engines that serve an arm since their start; empty if all arms have these.

        Call `arm_routes` for it first.
        """
        del arm
        return ""

    def facts(self) -> Mapping[str, Any]:
        """Provenance as JSON values: engine version, kind of weights, pinning, hardware."""
        ...

    def arm_facts(self, arm: Arm) -> Mapping[str, Any]:
        """Provenance of an arm that is up, as JSON values: what its engines showed when they came.

        Call `arm_routes` for it first.
        """
        del arm
        return {}

    def stop(self) -> None:
        """Stop the balancers, and the engines unless they are to be kept."""
        ...


def targets_of(replicas: Sequence[Replica], api: Api | None = None) -> tuple[Target, ...]:
    """The replicas as targets, with requests as `api` writes them."""
    return tuple(Target(one.model, one.name, one.url, api or Api()) for one in replicas)


def model_facts(models: Sequence[Model]) -> Mapping[str, Any]:
    """The weights of `models`, and what they stand in for, as JSON values for `facts`."""
    return {
        "weights": {
            model.name: f"random weights, architecture {model.architecture}"
            if model.random_weights
            else f"weights of {model.hub or model.path}"
            for model in models
        },
        "counterparts": {model.name: model.counterpart for model in models},
    }
