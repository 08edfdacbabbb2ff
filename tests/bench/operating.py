"""An environment of services that answer what a test says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.config.topology import Arm, Model
from bench.environments.operations import Operations, Service
from bench.errors import UserError

METRICS = """\
vllm:num_requests_running{engine="0",model_name="a"} 3.0
vllm:num_requests_waiting{engine="0",model_name="a"} 1.0
"""
ENGINE: Mapping[str, str] = {
    "/health": "",
    "/v1/models": json.dumps({"data": [{"id": "a"}]}),
    "/version": json.dumps({"version": "0.30.0"}),
    "/metrics": METRICS,
}
PATCHED = "INFO kvcached: Successfully patched vllm: kv_cache_utils"
NOT_PATCHED = "WARNING kvcached: Failed to patch vllm: no such module"


@dataclass
class ScriptedOperations(Operations):
    """What is deployed, what it answers by its name and the path, and its logs by its name.

    `done` is what has been asked for: the command, the arms, and `keep`.
    """

    found: Sequence[Service] = ()
    answers: dict[str, Mapping[str, str]] = field(default_factory=dict)
    texts: dict[str, Sequence[str]] = field(default_factory=dict)
    done: list[tuple[object, ...]] = field(default_factory=list)

    def deploy(self, arms: Sequence[Arm], models: Sequence[Model], *, keep: bool) -> None:
        names = tuple(model.name for model in models)
        self.done.append(("deploy", tuple(arm.name for arm in arms), names, keep))

    def services(self, arms: Sequence[Arm] | None) -> tuple[Service, ...]:
        names = None if arms is None else {arm.name for arm in arms}
        return tuple(one for one in self.found if names is None or one.arm in names)

    def fetch(self, service: Service, path: str) -> bytes:
        try:
            return self.answers[service.name][path].encode()
        except KeyError:
            raise UserError(f"{service.name} does not answer {path}") from None

    def logs(self, service: Service, lines: int | None, *, follow: bool) -> Iterator[str]:
        if service.name not in self.texts:
            raise UserError("it has no log")
        text = self.texts[service.name]
        yield from text if lines is None else text[-lines:]

    def teardown(self, arms: Sequence[Arm] | None) -> bool:
        self.done.append(("teardown", None if arms is None else tuple(arm.name for arm in arms)))
        return bool(self.found)


def balancer_answers(*, healthy: bool = True, draining: bool = False) -> Mapping[str, str]:
    """What this project's balancer answers in front of two replicas of model a."""
    replicas = [
        {"url": f"http://127.0.0.1:{port}", "healthy": good, "models": ["a"], "in_flight": 2}
        for port, good in ((1, True), (2, healthy))
    ]
    said = {"version": "0.1.0", "policy": "x", "draining": draining, "replicas": replicas}
    queued = 'lb_requests_queued{model="a"} 4\nlb_requests_queued{model="}b"} 1\n'
    return {"/health": json.dumps(said), "/metrics": queued}
