"""Environment `external`: endpoints that serve already. None of theirs is started or stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.config.config import Config
from bench.config.endpoints import Endpoint, Endpoints
from bench.config.topology import Arm, Model
from bench.console import log_folder
from bench.environments.balancers import Balancers
from bench.environments.base import Environment, Target
from bench.environments.external.checks import Examined, examine, requests_for_all
from bench.environments.external.comparing import answers_note, round_trip_note
from bench.environments.peers import balancer_facts, require_reachable
from bench.errors import UserError
from bench.load.client.api import Api
from bench.processes.local import LocalSite
from bench.processes.ports import is_loopback, listeners
from bench.progress import Progress
from bench.records import Replica, Role


def make_environment(config: Config, progress: Progress) -> ExternalEnvironment:
    """The environment as the options want it; nothing is asked yet."""
    assert config.endpoints is not None
    return ExternalEnvironment(config.endpoints, config.arms, config.cache, progress)


class ExternalEnvironment(Environment):
    """Endpoints by role, or one set of replicas with each arm's balancers in front of them.

    All requests are written alike: with the fields that every endpoint takes.
    """

    name = "external"
    alternates = False

    def __init__(
        self, endpoints: Endpoints, arms: Mapping[Role, Arm], cache: Path, progress: Progress
    ) -> None:
        self._endpoints = endpoints
        self._roles = {arm.name: role for role, arm in sorted(arms.items(), reverse=True)}
        self._arms = arms
        self._progress = progress
        self._cache = cache
        self._logs: Path
        self._balancers: Balancers
        self._balancer_options: tuple[str, ...] = ()
        self._apis: dict[Role, Api] = {role: one.api for role, one in endpoints.arms.items()}
        self._facts: Mapping[str, Any] = {}
        self._arm_facts: Mapping[str, Mapping[str, Any]] = {}
        self._cleanup = ExitStack()

    def site(self) -> LocalSite:
        return LocalSite()

    def start(self, models: Sequence[Model]) -> tuple[Replica, ...]:
        """Ask every endpoint for each model; see `examine` for what it must be able to do."""
        names = [model.name for model in models]
        if self._endpoints.balanced:
            self._look_at_peers()
        with self._progress.step("asking the endpoints") as step:
            found: dict[str, list[Examined]] = {}
            for name, url, model, api in self._asked(names):
                step.update(f"{name} for {model}")
                found.setdefault(model, []).append(examine(name, url, api, model))
            everything = [one for of_model in found.values() for one in of_model]
            self._apis = {
                role: requests_for_all(api, everything) for role, api in self._apis.items()
            }
            step.update("comparing their answers and round trips")
            self._facts = self._facts_of(names, found)
        for note in self._facts["notes"]:
            self._progress.note(note)
        if self.processes() and not any(one.replicas for one in self._endpoints.arms.values()):
            self._progress.note(
                "an endpoint is on this machine: if it is a proxy in front of servers here, "
                "list them as replicas (--endpoints=FILE); else they count as other programs"
            )
        if self._endpoints.balanced:
            self._start_balancing()
        return self.replicas(self._arms["control"])

    def arm_routes(
        self, arm: Arm, balancers: int, models: Sequence[str]
    ) -> Mapping[str, tuple[str, ...]]:
        if self._endpoints.balanced:
            with_options = replace(arm, options=(*arm.options, *self._balancer_options))
            return self._balancers.routes(with_options, balancers, models)
        urls = self._endpoint(arm).urls
        return {model: (urls[model],) for model in models}

    def replicas(self, arm: Arm) -> tuple[Replica, ...]:
        return self._endpoint(arm).replicas

    def api(self, arm: Arm) -> Api:
        return self._apis[self._roles[arm.name]]

    def targets(self, arms: Mapping[Role, Arm]) -> tuple[Target, ...]:
        if self._endpoints.balanced:
            return super().targets(arms)
        found = {
            (model, url): Target(model, arm.name, url, self.api(arm), arm.name)
            for arm in arms.values()
            for model, url in self._endpoint(arm).urls.items()
        }
        return tuple(found.values())

    def other_targets(self, arms: Mapping[Role, Arm]) -> tuple[tuple[Target, ...], ...]:
        """None: all endpoints are among `targets`."""
        del arms
        return ()

    def slowed(self, replicas: Sequence[Replica], share: float) -> AbstractContextManager[None]:
        del replicas, share
        raise UserError("replicas of endpoints cannot be slowed; leave `slowed` out of the arm")

    def tokenizer_folder(self, model: str) -> Path | None:
        return self._endpoints.models[model].tokenizer

    def dead_replicas(self) -> tuple[str, ...]:
        """None is known: an endpoint that ends fails its requests."""
        return ()

    def processes(self) -> tuple[int, ...]:
        """Those that listen at endpoints and replicas of this machine. Others are elsewhere."""
        urls = [url for one in self._endpoints.arms.values() for url in one.urls.values()]
        urls += [replica.url for one in self._endpoints.arms.values() for replica in one.replicas]
        parts = [urlsplit(url) for url in urls]
        return listeners(
            one.port or (443 if one.scheme == "https" else 80)
            for one in parts
            if is_loopback(one.hostname or "")
        )

    def facts(self) -> Mapping[str, Any]:
        """Where the endpoints are, what they run as far as they say, and what is not known."""
        return self._facts

    def arm_facts(self, arm: Arm) -> Mapping[str, Any]:
        """The version of the arm's balancer, where that is a peer."""
        return self._arm_facts.get(arm.name, {})

    def stop(self) -> None:
        self._cleanup.close()

    def _endpoint(self, arm: Arm) -> Endpoint:
        return self._endpoints.arms[self._roles[arm.name]]

    def _asked(self, models: Sequence[str]) -> list[tuple[str, str, str, Api]]:
        """(name, base URL, model, how requests are written) of all that is asked, each once."""
        if self._endpoints.balanced:
            one = self._endpoints.arms["control"]
            return [(r.name, r.url, r.model, one.api) for r in one.replicas if r.model in models]
        found = {
            (url, model): (endpoint.name, url, model, endpoint.api)
            for endpoint in self._endpoints.arms.values()
            for model, url in endpoint.urls.items()
            if model in models
        }
        return list(found.values())

    def _facts_of(self, models: Sequence[str], found: Mapping[str, Sequence[Examined]]) -> Any:
        everything = [one for of_model in found.values() for one in of_model]
        notes = [f"{one.name}: {note}" for one in everything for note in one.notes]
        notes += filter(None, (answers_note(model, of) for model, of in found.items()))
        for model in models:
            if self.tokenizer_folder(model) is None:
                notes.append(
                    f"{model}: its tokenizer is not known here: prompts have about the number of "
                    "tokens that the scenario names, and the same words in both arms"
                )
        round_trips = [round_trip_note(found[model]) for model in models]
        return {
            "engine": "; ".join(dict.fromkeys(one.engine for one in everything)),
            "machine": "hardware of the endpoints not known",
            "weights": dict.fromkeys(models, "weights not known"),
            "endpoints": {one.name: one.url for one in everything},
            "round_trips": list(filter(None, round_trips)),
            "notes": list(dict.fromkeys(notes)),
        }

    def _look_at_peers(self) -> None:
        """Raise UserError where one cannot be in front of the replicas, or is another program."""
        self._logs = log_folder(self._cache.parent, "external")
        one = self._endpoints.arms["control"]
        for arm in self._arms.values():
            if arm.peer is not None:
                require_reachable(arm.name, one.replicas, one.api.headers)
        self._arm_facts = balancer_facts(self._arms.values(), self._logs)

    def _start_balancing(self) -> None:
        ports = {arm.port for arm in self._arms.values()}
        self._balancers = Balancers(self._logs, self._progress, reserved=ports)
        self._balancers.serve(self.replicas(self._arms["control"]), self._endpoints.max_num_seqs)
        self._balancer_options = self._options_of(self._endpoints.arms["control"])
        self._cleanup.callback(self._balancers.stop)

    def _in_memory(self, key: str) -> str:
        """The path of a file with the key, which ends with this process, however that ends."""
        file = os.memfd_create("key")
        self._cleanup.callback(os.close, file)
        os.fchmod(file, 0o600)
        os.write(file, key.encode())
        return f"/proc/{os.getpid()}/fd/{file}"

    def _options_of(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Options of a balancer with which it reaches the replicas as the client does."""
        options: list[str] = []
        if endpoint.api.tls.ca is not None:
            options += ("--upstream-ca-file", str(endpoint.api.tls.ca.resolve()))
        key = endpoint.api.headers.get("Authorization", "").removeprefix("Bearer ")
        if key:
            options += ("--upstream-api-key-file", self._in_memory(key))
        return tuple(options)
