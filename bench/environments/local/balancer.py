"""One balancer in front of replicas: its command, and whether it is ready."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from bench.config.topology import Arm
from bench.errors import UserError
from bench.processes.guarded import Guarded
from bench.processes.logs import reason
from bench.progress import Step
from bench.records import Replica

READY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Balancer:
    """One running balancer; `name` tells an arm's second one from its first."""

    name: str
    url: str
    process: Guarded

    def require_alive(self) -> None:
        """Raise UserError, with the reason and the log, if it has died."""
        if self.process.poll() is not None:
            log = self.process.log
            raise UserError(f"the balancer of {self.name} died: {reason(log)}; see {log}")


def await_ready(balancer: Balancer, arm: Arm, replicas: Sequence[Replica], step: Step) -> None:
    """Return when it serves all of `replicas`.

    Raises UserError if it dies first, or takes too long.
    """
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while missing := _ask(arm, balancer.url, replicas):
        balancer.require_alive()
        if time.monotonic() > deadline_s:
            raise UserError(
                f"the balancer of {balancer.name} is not ready after {READY_TIMEOUT_S:.0f} s: "
                f"{missing}; see {balancer.process.log}"
            )
        step.update(missing)
        time.sleep(0.1)


def balancer_command(arm: Arm, port: int, endpoints: Sequence[str]) -> list[str]:
    """The command that runs a balancer of the arm in front of `endpoints` (base URLs)."""
    values = {"{port}": str(port), "{endpoints}": ",".join(endpoints)}
    if arm.command is not None:
        return [_fill(part, values) for part in arm.command]
    assert arm.policy is not None
    lb = [sys.executable, "-m", "lb", "--policy", arm.policy]
    where = ["--endpoints", values["{endpoints}"], "--port", values["{port}"]]
    return [*lb, *where, *arm.options]


def why_not_ready(arm: Arm, answer: Any, replicas: Sequence[Replica]) -> str | None:
    """What a balancer still lacks by its own `answer` (JSON); None when it is ready.

    This project's own tells the health of every replica (`/health`); of any other only
    the models are known (`/v1/models`).
    """
    try:
        if arm.policy:
            wanted = {replica.url for replica in replicas}
            found = {one["url"] for one in answer["replicas"] if one["healthy"]}
        else:
            wanted = {replica.model for replica in replicas}
            found = {one["id"] for one in answer["data"]}
    except (LookupError, TypeError):
        return f"it answers {str(answer)[:100]!r}"
    return f"it lacks {', '.join(sorted(wanted - found))}" if wanted - found else None


def _ask(arm: Arm, url: str, replicas: Sequence[Replica]) -> str | None:
    path = "/health" if arm.policy else "/v1/models"
    try:
        answer = httpx.get(url + path, timeout=5.0, trust_env=False).json()
    except httpx.HTTPError as error:
        return f"{path}: {error}"
    except ValueError:
        return f"{path} is not JSON"
    return why_not_ready(arm, answer, replicas)


def _fill(part: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        part = part.replace(name, value)
    return part
