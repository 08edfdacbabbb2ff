"""The balancers of the arms: started when needed, ready before they are used."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.config.topology import Arm
from bench.environments import peers
from bench.errors import UserError
from bench.paths import PYTHON, ROOT
from bench.processes.guarded import Guarded, error_in_log
from bench.processes.ports import LOOPBACK, free_ports, is_free, port_holder
from bench.progress import Progress, Step
from bench.records import Replica

# LiteLLM took 19 to 27 s to start on two cores.
READY_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class Balancer:
    """A running balancer.

    `name` is its arm's, with the model if it serves only that, and a number from the second on.
    """

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

    An arm's first balancer listens on the arm's port, further ones, and those of peers, on the next
    ports that are free and not `reserved`.
    """

    def __init__(self, logs: Path, progress: Progress, reserved: Collection[int] = ()) -> None:
        self._replicas: Sequence[Replica] = ()
        self._max_num_seqs = peers.USUAL_SEQS
        self._logs = logs
        self._progress = progress
        self._reserved = reserved
        self._running: dict[tuple[str, str], list[Balancer]] = {}

    def serve(self, replicas: Sequence[Replica], max_num_seqs: int | None = None) -> None:
        """Balancers started from now on are in front of `replicas`.

        Each of these runs `max_num_seqs` sequences at once; None if that is not known.
        """
        self._replicas, self._max_num_seqs = replicas, max_num_seqs or peers.USUAL_SEQS

    def routes(self, arm: Arm, count: int, models: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """The `urls` of each model: the same for all, unless a peer's instance serves only one."""
        if arm.peer is None or arm.peer.models == "all":
            return dict.fromkeys(models, self.urls(arm, count))
        return {model: self.urls(arm, count, model) for model in models}

    def urls(self, arm: Arm, count: int, model: str = "") -> tuple[str, ...]:
        """Base URLs of the arm's balancers for `model`, or for all; `count` run when it returns.

        Raises UserError if a port is taken, or if one does not get ready or has died: one that
        dies under load is not started again, which would hide its death.
        """
        running = self._running.setdefault((arm.name, model), [])
        while len(running) > count:
            running.pop().process.terminate()
        while len(running) < count:
            running.append(self._start(arm, len(running), model))
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

    def _start(self, arm: Arm, index: int, model: str) -> Balancer:
        # A model of an endpoint may be called `org/name`.
        parts = (arm.name, re.sub(r"[^\w.-]+", "-", model), f"{index + 1}" if index else "")
        name = "-".join(filter(None, parts))
        replicas = [one for one in self._replicas if model in ("", one.model)]
        port, folder = self._port(arm, index), ROOT
        if arm.peer is None:
            command = balancer_command(arm, port, [replica.url for replica in replicas])
        else:
            folder = self._logs.absolute() / name
            command = peers.command_of(arm.peer, self._place(port, folder, replicas))
        log = self._logs / f"balancer-{name}.log"
        with self._progress.step(f"starting the balancer of {name}") as step, ExitStack() as undo:
            process = Guarded(command, log=log, folder=folder)
            undo.callback(process.terminate)
            balancer = Balancer(name, port, tuple(command), process)
            await_ready(arm, balancer.url, replicas, step, balancer.require_alive, log)
            undo.pop_all()
            return balancer

    def _place(self, port: int, folder: Path, replicas: Sequence[Replica]) -> peers.Place:
        metrics_port = next(free_ports(port + 1, self._reserved))
        return peers.Place(port, metrics_port, tuple(replicas), folder, self._max_num_seqs)

    def _port(self, arm: Arm, index: int) -> int:
        if arm.peer is not None:
            # Those of the arms in this run are reserved, also for itself if a file names the peer.
            return next(free_ports(arm.port, {*self._reserved} - {arm.port}))
        if index:
            return next(free_ports(arm.port + 1, self._reserved))
        require_free_port(arm)
        return arm.port


def require_free_port(arm: Arm) -> None:
    """Raise UserError if the arm's balancer could not listen on its port; a peer takes another."""
    if arm.peer is None and not is_free(arm.port):
        raise UserError(
            f"port {arm.port} of arm {arm.name} is held by {port_holder(arm.port)}; "
            "end that, or give the arm another port in the topology file"
        )


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


def why_not_ready(arm: Arm, text: str, replicas: Sequence[Replica]) -> str | None:
    """What a balancer lacks according to the `text` that it answers; None when it is ready.

    This project's own answers with the health of every replica (`/health`), any other with
    its models (`/v1/models`), unless the peer says what to ask.
    """
    if arm.peer is not None and arm.peer.ready is not None:
        return peers.why_not_ready(arm.peer, arm.peer.ready, replicas, text)
    try:
        answer: Any = json.loads(text)
        if arm.policy:
            wanted = {replica.balancer_url or replica.url for replica in replicas}
            found = {one["url"] for one in answer["replicas"] if one["healthy"]}
        else:
            wanted = {replica.model for replica in replicas}
            found = {one["id"] for one in answer["data"]}
    except (LookupError, TypeError, ValueError):
        return f"it answers {text[:100]!r}"
    return f"it lacks {', '.join(sorted(wanted - found))}" if wanted - found else None


def _ask(arm: Arm, url: str, replicas: Sequence[Replica]) -> str | None:
    path = "/health" if arm.policy else "/v1/models"
    if arm.peer is not None and arm.peer.ready is not None:
        path = arm.peer.ready.path
    try:
        answer = httpx.get(url + path, timeout=5.0, trust_env=False).text
    except httpx.HTTPError as error:
        return f"{path}: {error}"
    return why_not_ready(arm, answer, replicas)
