"""The balancers of the arms: started when needed, ready before they are used."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.config.topology import Arm
from bench.errors import UserError
from bench.paths import PYTHON, ROOT
from bench.processes.guarded import Guarded, error_in_log
from bench.processes.ports import LOOPBACK, free_ports, is_free, port_holder
from bench.progress import Progress, Step
from bench.records import Replica

READY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Balancer:
    """A running balancer. `name` is its arm's, with a number from an arm's second one on."""

    name: str
    port: int
    command: tuple[str, ...]
    process: Guarded

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{LOOPBACK}:{self.port}"

    def require_alive(self) -> None:
        """Raise UserError, with the reason and the log, if it has died."""
        if self.process.poll() is not None:
            log = self.process.log
            raise UserError(f"the balancer of {self.name} died: {error_in_log(log)}; see {log}")


class Balancers:
    """The processes of the arms in use, in front of the replicas given to `serve`.

    An arm's first balancer listens on the arm's port, further ones on the next ports that
    are free and not `reserved`.
    """

    def __init__(self, logs: Path, progress: Progress, reserved: Collection[int] = ()) -> None:
        self._replicas: Sequence[Replica] = ()
        self._logs = logs
        self._progress = progress
        self._reserved = reserved
        self._running: dict[str, list[Balancer]] = {}

    def serve(self, replicas: Sequence[Replica]) -> None:
        """Balancers started from now on are in front of `replicas`."""
        self._replicas = replicas

    def urls(self, arm: Arm, count: int) -> tuple[str, ...]:
        """Base URLs of the arm's balancers; exactly `count` run when it returns.

        Raises UserError if a port is taken, or if one does not get ready or has died: one that
        dies under load is not started again, which would hide its death.
        """
        running = self._running.setdefault(arm.name, [])
        while len(running) > count:
            running.pop().process.terminate()
        while len(running) < count:
            running.append(self._start(arm, len(running)))
        for balancer in running:
            balancer.require_alive()
        return tuple(balancer.url for balancer in running)

    @property
    def running(self) -> tuple[Balancer, ...]:
        """All balancers that have been started and not been ended, also if they have died."""
        return tuple(itertools.chain.from_iterable(self._running.values()))

    def keep(self) -> None:
        """Let all balancers outlive this process: `stop` does not end them any more."""
        for balancer in self.running:
            balancer.process.keep()
        self._running.clear()

    def stop(self) -> None:
        """End all balancers."""
        for balancer in self.running:
            balancer.process.terminate()
        self._running.clear()

    def _start(self, arm: Arm, index: int) -> Balancer:
        name = f"{arm.name}-{index + 1}" if index else arm.name
        port = self._port(arm, index)
        command = balancer_command(arm, port, [replica.url for replica in self._replicas])
        log = self._logs / f"balancer-{name}.log"
        with self._progress.step(f"starting the balancer of {name}") as step, ExitStack() as undo:
            process = Guarded(command, log=log, folder=ROOT)
            undo.callback(process.terminate)
            balancer = Balancer(name, port, tuple(command), process)
            await_ready(arm, balancer.url, self._replicas, step, balancer.require_alive, log)
            undo.pop_all()
            return balancer

    def _port(self, arm: Arm, index: int) -> int:
        if index:
            return next(free_ports(arm.port + 1, self._reserved))
        if not is_free(arm.port):
            raise UserError(
                f"port {arm.port} of arm {arm.name} is held by {port_holder(arm.port)}; "
                "end that, or give the arm another port in the topology file"
            )
        return arm.port


def await_ready(
    arm: Arm,
    url: str,
    replicas: Sequence[Replica],
    step: Step,
    require_alive: Callable[[], None],
    log: object,
) -> None:
    """Return when a balancer of the arm, at `url`, serves all of `replicas`.

    Calls `require_alive`, which may raise, while it waits. Raises UserError, with its `log`, if it
    takes too long.
    """
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while missing := _ask(arm, url, replicas):
        require_alive()
        if time.monotonic() > deadline_s:
            raise UserError(
                f"the balancer of {arm.name} is not ready after {READY_TIMEOUT_S:.0f} s: "
                f"{missing}; see {log}"
            )
        step.update(missing)
        time.sleep(0.1)


def balancer_command(arm: Arm, port: int, endpoints: Sequence[str]) -> list[str]:
    """The command that runs a balancer of the arm in front of `endpoints` (base URLs)."""
    listed = ",".join(endpoints)
    if arm.command is not None:
        known = [part.replace("{port}", str(port)) for part in arm.command]
        return [part.replace("{endpoints}", listed) for part in known]
    assert arm.policy is not None
    lb = [*PYTHON, "-m", "lb", "--policy", arm.policy]
    return [*lb, "--endpoints", listed, "--port", str(port), *arm.options]


def why_not_ready(arm: Arm, answer: Any, replicas: Sequence[Replica]) -> str | None:
    """What a balancer lacks according to its `answer` (JSON); None when it is ready.

    This project's own answers with the health of every replica (`/health`), any other with
    its models (`/v1/models`).
    """
    try:
        if arm.policy:
            wanted = {replica.balancer_url or replica.url for replica in replicas}
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
