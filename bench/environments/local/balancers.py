"""The balancers of the arms: started when needed, ready before they are used."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.config.topology import Arm
from bench.environments.local.balancer import Balancer, await_ready, balancer_command
from bench.errors import UserError
from bench.processes.guarded import Guarded
from bench.processes.resources import LOOPBACK, free_ports, holder, is_free
from bench.progress import Progress
from bench.records import Replica

ROOT = Path(__file__).parents[3]


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

        Raises UserError if a port is taken, one does not get ready, or one has died: what
        dies under load is not started again, which would hide that it did.
        """
        running = self._running.setdefault(arm.name, [])
        while len(running) > count:
            running.pop().process.terminate()
        while len(running) < count:
            running.append(self._start(arm, len(running)))
        for balancer in running:
            balancer.require_alive()
        return tuple(balancer.url for balancer in running)

    def stop(self) -> None:
        for balancer in itertools.chain.from_iterable(self._running.values()):
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
            balancer = Balancer(name, f"http://{LOOPBACK}:{port}", process)
            await_ready(balancer, arm, self._replicas, step)
            undo.pop_all()
            return balancer

    def _port(self, arm: Arm, index: int) -> int:
        if index:
            return next(free_ports(arm.port + 1, self._reserved))
        if not is_free(arm.port):
            raise UserError(
                f"port {arm.port} of arm {arm.name} is held by {holder(arm.port)}; "
                "end that, or give the arm another port in the topology file"
            )
        return arm.port
