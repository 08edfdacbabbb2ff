"""Arms in containers: all at once where there is room for their engines, else by turns."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from bench.analysis.kvcached import ArmEvidence, as_provenance, not_proven
from bench.config.fitting import room_texts
from bench.config.topology import Arm, Hardware, Model, Topology
from bench.environments.base import Environment
from bench.environments.containers.engine import engine_group, has_kvcached
from bench.environments.cpu_engine.models import model_folder
from bench.environments.kvcached.collecting import Console, collect
from bench.environments.kvcached.memory import MemoryWatch, watching
from bench.errors import UserError
from bench.progress import Progress
from bench.records import Replica

_TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]


class ContainerEnvironment(Environment):
    """Engines in containers, in the group that each arm's engines are of; see `Environment`.

    Arms with the same engines share them. Where there is no room for the engines of all `arms` at
    once, one group is up at a time (`alternates`). Containers may take `timeout_s` seconds to
    become ready, or to end. With `keep`, what is up stays after `stop`.
    """

    def __init__(
        self,
        topology: Topology,
        arms: Sequence[Arm],
        cache: Path,
        progress: Progress,
        *,
        timeout_s: float,
        keep: bool,
    ) -> None:
        self._topology = topology
        self._wanted = tuple(dict.fromkeys(arms))
        self._cache = cache
        self._progress = progress
        self._timeout_s = timeout_s
        self._keep = keep
        self.alternates = False
        self._models: dict[str, Model] = {}
        # By group that is up: the names of the arms that are reached, and the latest start of each
        # engine when it became ready.
        self._up: dict[str, Collection[str]] = {}
        self._starts: dict[str, Mapping[str, Hashable]] = {}
        # By group: how many times its engines have come up.
        self._times_up = Counter[str]()
        # By group: what its engines showed when they came up last.
        self._evidence: dict[str, ArmEvidence] = {}
        self._facts: Mapping[str, Any] = {}
        self._cleanup = ExitStack()

    def start(self, models: Sequence[Model]) -> tuple[Replica, ...]:
        """Bring up the first arm, and all others if there is room for them."""
        started_s = time.monotonic()
        self._models = {model.name: model for model in models}
        self._note_room(models)
        self._prepare(models)
        self.alternates = len(self._groups) > 1 and not self._all_fit()
        if self.alternates:
            self._progress.note("there is no room for all engines at once: arms take turns")
        self._cleanup.callback(self._release)
        first = self._wanted[0]
        for arm in (first,) if self.alternates else self._wanted[::-1]:
            self._bring_up(arm)
        took_s = round(time.monotonic() - started_s, 1)
        self._facts = {**self._provenance(), "alternates": self.alternates, "start_s": took_s}
        return self.replicas(first)

    def tokenizer_folder(self, model: str) -> Path:
        """Folder on this machine with the model's tokenizer.json and chat template.

        Those of a model of the hub are downloaded, with HF_TOKEN of this machine; raises UserError
        if that fails.
        """
        hub = self._models[model].hub
        if hub is None:
            return model_folder(self._models[model], self._cache)
        try:
            return Path(snapshot_download(hub, allow_patterns=_TOKENIZER_FILES))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise UserError(
                f"cannot download the tokenizer of {hub}, which prompts are made with: "
                f"{' '.join(str(error).split())[:300]}; set HF_TOKEN on this machine too"
            ) from None

    def dead_replicas(self) -> tuple[str, ...]:
        """Engines that are gone or have been restarted since their group became ready."""
        return tuple(
            self._dead(group, name, gone=name not in now)
            for group, before in self._starts.items()
            for now in (self._latest_starts(group),)
            for name, start in before.items()
            if name not in now or now[name] != start
        )

    def engines(self, arm: Arm) -> str:
        group = self._group(arm)
        return f"{group} {self._times_up[group]}" if len(self._groups) > 1 else ""

    def facts(self) -> Mapping[str, Any]:
        """Versions, images, hardware, weights, and whether arms took turns."""
        return self._facts

    def arm_facts(self, arm: Arm) -> Mapping[str, Any]:
        """What the arm's engines showed, where some arm should have KVCached."""
        evidence = self._evidence.get(self._group(arm))
        return {} if evidence is None else as_provenance(evidence)

    def memory(self, arm: Arm) -> AbstractContextManager[MemoryWatch]:
        """Where engines share GPUs, or some arm should have KVCached."""
        wanted = self._topology.layout == "colocated" or self._any_kvcached
        return watching(self._consoles(self._group(arm)) if wanted else ())

    def stop(self) -> None:
        self._cleanup.close()

    @abstractmethod
    def _prepare(self, models: Sequence[Model]) -> None:
        """Look at what is wanted before anything is started."""

    @abstractmethod
    def _all_fit(self) -> bool:
        """Whether there is room for the engines and balancers of all groups."""

    @abstractmethod
    def _deploy(self, arm: Arm) -> Collection[str]:
        """Return when the arm is ready, with the names of the group's arms that are reached now."""

    @abstractmethod
    def _stop_group(self, group: str) -> None:
        """Return when none of the group's containers is left."""

    @abstractmethod
    def _teardown(self, group: str) -> None:
        """Return when nothing of the group is left."""

    @abstractmethod
    def _latest_starts(self, group: str) -> Mapping[str, Hashable]:
        """By name of each engine of the group that is there: what differs after another start."""

    @abstractmethod
    def _dead(self, group: str, name: str, *, gone: bool) -> str:
        """What to say of an engine that is `gone`, or else has been restarted."""

    @abstractmethod
    def _consoles(self, group: str) -> Sequence[Console]:
        """How to look at the engines of a group that is up."""

    @abstractmethod
    def _provenance(self) -> Mapping[str, Any]:
        """What is measured on, as JSON values."""

    def _group(self, arm: Arm) -> str:
        """The group of the arm's engines."""
        return engine_group(arm)

    @property
    def _groups(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(self._group, self._wanted)))

    @property
    def _hardware(self) -> Hardware:
        return next(iter(self._models.values())).hardware

    @property
    def _any_kvcached(self) -> bool:
        return any(has_kvcached(one, self._hardware) for one in self._wanted)

    def _note_room(self, models: Sequence[Model]) -> None:
        """Say where KVCached may give a gain: of each arm where the flags of engines differ."""
        arms: dict[tuple[str, ...], list[str]] = {}
        for arm in self._wanted:
            texts = room_texts(self._topology.for_arm(arm), models, self.name)
            arms.setdefault(texts, []).append(arm.name)
        for texts, names in arms.items():
            for text in texts:
                self._progress.note(f"{', '.join(names)}: {text}" if len(arms) > 1 else text)

    def _bring_up(self, arm: Arm) -> None:
        """Return when the arm is ready. Where arms take turns, other groups go down first."""
        group = self._group(arm)
        if arm.name in self._up.get(group, ()):
            return
        if self.alternates:
            for other in self._groups:
                if other != group:
                    self._stop_group(other)
                    self._up.pop(other, None)
                    self._starts.pop(other, None)
        is_new = group not in self._up
        self._up[group] = self._deploy(arm)
        if is_new:
            self._times_up[group] += 1
            self._starts[group] = self._latest_starts(group)
            self._collect(arm)

    def _collect(self, arm: Arm) -> None:
        """Look at the engines of an arm that has come up, where some arm should have KVCached.

        Without it they give the answers that those with it are compared with.
        """
        if not self._any_kvcached:
            return
        group = self._group(arm)
        with self._progress.step(f"looking at the engines of {group}") as step:
            self._evidence[group] = collect(
                self._consoles(group),
                wanted=has_kvcached(arm, self._hardware),
                utilization=self._topology.for_arm(arm).gpu_engine.gpu_memory_utilization,
                step=step,
            )
        for reason in not_proven(self._evidence[group]):
            self._progress.note(f"KVCached of {arm.name} is not proven: {reason}")

    def _release(self) -> None:
        if self._keep and self._up:
            self._progress.note(
                f"left running: {', '.join(self._up)}; "
                f"python -m bench teardown --env {self.name} ends it"
            )
            return
        for group in self._groups:
            self._teardown(group)
