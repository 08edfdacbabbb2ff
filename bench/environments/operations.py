"""What an environment offers to the commands that operate it: deploy, status, health, ...

An environment that can be operated has a module `operations` in its package, with
`make_operations(options, topology, progress) -> Operations`. Tables, JSON and exit codes are made
from this by `bench.cli.operating`, for all environments alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import httpx

from bench.config.topology import Arm, Model
from bench.errors import UserError
from bench.processes.machine import hold_machine
from bench.progress import Progress

Kind = Literal["balancer", "engine"]
_ANSWER_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Service:
    """A balancer or an engine that has been deployed.

    `arm` is empty for an engine that several arms share, `model` for a balancer. `url` is empty
    where it cannot be reached from this machine (`fetch` may reach it all the same). `place` is
    what it runs on: a node, a core, a GPU. `state` is one line: `running`, `starting`, or what is
    wrong. `ready` says whether it takes requests as far as the environment knows, which has not
    asked it. `uptime_s` are seconds since its latest start; None if it does not run. `kvcached`
    says whether it is an engine that should have KVCached. `log` is the file of its log, or the
    command that prints it.
    """

    kind: Kind
    name: str
    arm: str = ""
    model: str = ""
    url: str = ""
    place: str = ""
    state: str = ""
    ready: bool = False
    restarts: int = 0
    uptime_s: float | None = None
    kvcached: bool = False
    log: str = ""


class Operations(Protocol):
    """An environment to which arms are deployed, and what has been deployed there.

    What is deployed outlives this process. `arms` are arms of the topology file. Where None is
    allowed it stands for everything of the suite's that is there, whoever has deployed it, also of
    arms that the topology file does not have any more. Every method raises UserError, in one line,
    if the environment cannot be reached or used.
    """

    def hold(self, what: str, progress: Progress, timeout_s: float) -> AbstractContextManager[None]:
        """A context in which no run measures where arms are deployed; see `Environment.hold`."""
        return hold_machine(what, progress, timeout_s)

    def deploy(self, arms: Sequence[Arm], models: Sequence[Model], *, keep: bool) -> None:
        """Bring arms up with `models`; return when all of it is ready. Safe to repeat.

        Raises UserError with the reason, and the log, of what does not become ready. Then, and
        after KeyboardInterrupt, what this call has started is ended again unless `keep`; what was
        there before stays.
        """
        ...

    def services(self, arms: Sequence[Arm] | None) -> tuple[Service, ...]:
        """The balancers and engines of arms, also dead ones; the engines that arms share too.

        Empty if nothing is there. By arm, balancers first, then by name.
        """
        ...

    def fetch(self, service: Service, path: str) -> bytes:
        """The body of the answer to GET `path` (`/metrics`). May be called from several threads.

        Raises UserError if there is no answer within some seconds, or not one with status 200.
        """
        ...

    def logs(self, service: Service, lines: int | None, *, follow: bool) -> Iterator[str]:
        """The last `lines` lines of its log, oldest first and without line ends; None: all lines.

        With `follow` also those that are written from now on, until it ends. May be called from
        several threads, and may be closed before its end.
        """
        ...

    def teardown(self, arms: Sequence[Arm] | None) -> bool:
        """End arms; return when all is gone. False if nothing of them was there.

        Engines that arms share end with the last of these arms, or with any of them where it is
        not known which are up.
        """
        ...


def fetch_directly(service: Service, path: str) -> bytes:
    """`Operations.fetch` for a service that this machine reaches at its `url`."""
    try:
        answer = httpx.get(service.url + path, timeout=_ANSWER_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{service.name} does not answer {path}: {reason}") from None
    if answer.status_code != httpx.codes.OK:
        raise UserError(f"{service.name} answers {path} with status {answer.status_code}")
    return answer.content
