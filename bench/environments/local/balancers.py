"""The balancers of the arms: started at first use, ready before they are used."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from bench.environments.local.ports import LOOPBACK, holder, is_free
from bench.environments.local.reasons import reason
from bench.errors import UserError
from bench.process import Guarded
from bench.progress import Progress, Step
from bench.records import Replica
from bench.topology import Arm

ROOT = Path(__file__).parents[3]
READY_TIMEOUT_S = 60.0


class Balancers:
    """One process per arm in use, in front of the replicas given to `serve`."""

    def __init__(self, logs: Path, progress: Progress) -> None:
        self._replicas: Sequence[Replica] = ()
        self._logs = logs
        self._progress = progress
        self._running: dict[str, Guarded] = {}

    def serve(self, replicas: Sequence[Replica]) -> None:
        """Balancers started from now on are in front of `replicas`."""
        self._replicas = replicas

    def url(self, arm: Arm) -> str:
        """Base URL of the arm's balancer, started at first use.

        Raises UserError if its port is taken, it does not get ready, or it has died: one
        that dies under load is not started again, which would hide that it did.
        """
        url = f"http://{LOOPBACK}:{arm.port}"
        if arm.name not in self._running:
            self._running[arm.name] = self._start(arm, url)
        _require_alive(arm, self._running[arm.name])
        return url

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        self._running.clear()

    def _start(self, arm: Arm, url: str) -> Guarded:
        if not is_free(arm.port):
            raise UserError(
                f"port {arm.port} of arm {arm.name} is held by {holder(arm.port)}; "
                "end that, or give the arm another port in the topology file"
            )
        command = balancer_command(arm, [replica.url for replica in self._replicas])
        log = self._logs / f"balancer-{arm.name}.log"
        starting = f"starting the balancer of {arm.name}"
        with self._progress.step(starting) as step, ExitStack() as undo:
            process = Guarded(command, log=log, folder=ROOT)
            undo.callback(process.terminate)
            self._await_ready(arm, url, process, step)
            undo.pop_all()
            return process

    def _await_ready(self, arm: Arm, url: str, process: Guarded, step: Step) -> None:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while missing := _ask(arm, url, self._replicas):
            _require_alive(arm, process)
            if time.monotonic() > deadline_s:
                raise UserError(
                    f"the balancer of {arm.name} is not ready after {READY_TIMEOUT_S:.0f} s: "
                    f"{missing}; see {process.log}"
                )
            step.update(missing)
            time.sleep(0.1)


def _require_alive(arm: Arm, process: Guarded) -> None:
    if process.poll() is not None:
        raise UserError(
            f"the balancer of {arm.name} died: {reason(process.log)}; see {process.log}"
        )


def balancer_command(arm: Arm, endpoints: Sequence[str]) -> list[str]:
    """The command that runs the arm's balancer in front of `endpoints` (base URLs)."""
    values = {"{port}": str(arm.port), "{endpoints}": ",".join(endpoints)}
    if arm.command is not None:
        return [_fill(part, values) for part in arm.command]
    assert arm.policy is not None
    lb = [sys.executable, "-m", "lb", "--policy", arm.policy]
    return [*lb, "--endpoints", values["{endpoints}"], "--port", values["{port}"]]


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
