"""The Docker daemon of this machine, and the suite's containers in it."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import psutil
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException

import docker
from bench.environments.containers.colocated import ports_of
from bench.environments.containers.engine import PORT
from bench.environments.docker.compose import ARM, ENGINE, KIND, MODEL, PART_OF
from bench.errors import UserError
from bench.processes.guarded import cause_in, error_in
from bench.processes.local import LocalProgram
from bench.processes.ports import LOOPBACK, listeners
from bench.processes.program import output_of

PROJECT_LABEL, SERVICE_LABEL = "com.docker.compose.project", "com.docker.compose.service"
SOCKET = "unix:///var/run/docker.sock"
_TIMEOUT_S = 60
_LOG_LINES = 400


@dataclass(frozen=True, slots=True)
class Container:
    """A container of the suite, as the daemon had it when it was asked.

    `project` is that of Compose, `kind` what the suite has it for. `pid` is 0 where it does not
    run. `started` is when it was started last. `ports` are those of this machine that lead to it,
    `urls` the same by its own port; empty where it does not run. `variables` are the names of its
    environment's.
    """

    id: str
    name: str
    service: str
    project: str
    kind: str
    model: str
    arm: str
    status: str
    health: str
    exit_code: int
    killed_for_memory: bool
    restarts: int
    started: datetime.datetime
    pid: int
    ports: tuple[int, ...]
    urls: Mapping[int, str]
    core: str
    gpus: tuple[str, ...]
    variables: tuple[str, ...]
    command: tuple[str, ...]

    @classmethod
    def seen(cls, shown: Mapping[str, Any]) -> Self:
        """From what `docker inspect` shows."""
        labels, state = shown["Config"]["Labels"] or {}, shown["State"]
        bound = (shown.get("NetworkSettings") or {}).get("Ports") or {}
        published = {int(port.partition("/")[0]): to for port, to in bound.items() if to}
        began = state.get("StartedAt") or "0001-01-01T00:00:00Z"
        return cls(
            id=shown["Id"],
            name=shown["Name"].lstrip("/"),
            service=labels.get(SERVICE_LABEL, ""),
            project=labels.get(PROJECT_LABEL, ""),
            kind=labels.get(KIND, ""),
            model=labels.get(MODEL, ""),
            arm=labels.get(ARM, ""),
            status=state["Status"],
            health=(state.get("Health") or {}).get("Status", ""),
            exit_code=state.get("ExitCode") or 0,
            killed_for_memory=bool(state.get("OOMKilled")),
            restarts=shown.get("RestartCount") or 0,
            started=datetime.datetime.fromisoformat(began),
            pid=state.get("Pid") or 0,
            ports=tuple(sorted({int(one["HostPort"]) for to in published.values() for one in to})),
            urls={port: _url(to[0]) for port, to in published.items()},
            core=shown["HostConfig"].get("CpusetCpus") or "",
            gpus=tuple(
                gpu
                for one in shown["HostConfig"].get("DeviceRequests") or ()
                for gpu in one.get("DeviceIDs") or ()
            ),
            variables=tuple(one.partition("=")[0] for one in shown["Config"]["Env"] or ()),
            command=tuple(shown["Config"].get("Cmd") or ()),
        )

    @property
    def url(self) -> str:
        """The first of its URLs; empty if it has none."""
        return next(iter(self.urls.values()), "")

    @property
    def engines(self) -> Mapping[str, int]:
        """The port of each engine in it, by the engine's model."""
        if self.kind != ENGINE:
            return {}
        return {self.model: PORT} if self.model else ports_of(self.command)

    @property
    def place(self) -> str:
        """Its GPUs or its core, in words; empty if it has no certain ones."""
        if self.gpus:
            return f"GPU {', '.join(self.gpus)}"
        return f"core {self.core}" if self.core else ""

    @property
    def runs(self) -> bool:
        """Whether its process runs."""
        return self.status == "running"

    @property
    def starts(self) -> tuple[str, int, datetime.datetime]:
        """Differs as soon as it has been replaced or started again, by whomever."""
        return self.id, self.restarts, self.started

    @property
    def end(self) -> str:
        """How it ended, in words; empty while it runs."""
        if self.runs:
            return ""
        if self.status == "exited":
            why = " (out of memory)" if self.killed_for_memory else ""
            return f"ended with exit code {self.exit_code}{why}"
        return self.status


class Daemon:
    """The daemon of this machine. Methods raise UserError, in one line, if it does not answer."""

    def __init__(self, url: str = SOCKET) -> None:
        """Raises UserError unless `url` (the value of DOCKER_HOST) is of this machine."""
        if urlsplit(url).scheme != "unix":
            raise UserError(
                f"environment docker needs the daemon of this machine, since load is sent to "
                f"{LOOPBACK}; DOCKER_HOST is {url!r}: unset it, or measure on that machine"
            )
        self.url = url
        with self._answers():
            self._client = docker.DockerClient(base_url=url, version="auto", timeout=_TIMEOUT_S)

    @classmethod
    def chosen(cls, environ: Mapping[str, str]) -> Self:
        """The daemon that DOCKER_HOST names, else that of the system."""
        return cls(environ.get("DOCKER_HOST") or SOCKET)

    def containers(self, project: str | None = None) -> tuple[Container, ...]:
        """The suite's containers by name, also those that have ended; of one project, or all."""
        labels = [PART_OF, *([f"{PROJECT_LABEL}={project}"] if project else [])]
        with self._answers():
            found = []
            for one in self._client.api.containers(all=True, filters={"label": labels}):
                with suppress(NotFound):  # it has just been removed
                    found.append(Container.seen(self._client.api.inspect_container(one["Id"])))
        return tuple(sorted(found, key=lambda one: one.name))

    def remove(self, containers: Collection[Container], said: Callable[[str], None]) -> None:
        """End and remove containers, at once; `said` gets the name of each before."""
        for one in containers:
            said(one.name)
            with self._answers(), suppress(NotFound):
                self._client.api.remove_container(one.id, force=True, v=True)

    def remove_networks(self, project: str) -> bool:
        """Remove the suite's networks of a project; False if there were none.

        One that other containers use stays.
        """
        labels = [PART_OF, f"{PROJECT_LABEL}={project}"]
        with self._answers():
            found = self._client.api.networks(filters={"label": labels})
            for one in found:
                with suppress(APIError):  # in use, or gone already
                    self._client.api.remove_network(one["Id"])
        return bool(found)

    def projects(self) -> tuple[str, ...]:
        """The projects that have containers or networks of the suite."""
        with self._answers():
            networks = self._client.api.networks(filters={"label": PART_OF})
        named = [(one.get("Labels") or {}).get(PROJECT_LABEL, "") for one in networks]
        return tuple(sorted({one.project for one in self.containers()} | set(named) - {""}))

    def log(self, container: Container) -> str:
        """The last lines of a container's log."""
        return "\n".join(self.lines(container, _LOG_LINES, follow=False))

    def lines(self, container: Container, count: int | None, *, follow: bool) -> Iterator[str]:
        """The last `count` lines of its log, None: all; with `follow` also those that come."""
        tail: Literal["all"] | int = "all" if count is None else count
        with self._answers():
            chunks = self._client.api.logs(
                container.id, stdout=True, stderr=True, stream=True, follow=follow, tail=tail
            )
            rest = b""
            for chunk in chunks:
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace").rstrip("\r") for line in whole)
            if rest:
                yield rest.decode(errors="replace")

    def execute(self, container: Container, command: Sequence[str]) -> str:
        """What a command in a container writes. Raises UserError if it does not succeed."""
        api = self._client.api
        with self._answers():
            started = api.exec_create(container.id, list(command))["Id"]
            output, errors = api.exec_start(started, demux=True)
            code = api.exec_inspect(started)["ExitCode"]
        return output_of(code, output or b"", errors or b"")

    def start(self, container: Container, command: Sequence[str]) -> LocalProgram:
        """Start a command in a container, whose input is closed when this process ends."""
        client = ["docker", "--host", self.url, "exec", "--interactive"]
        try:
            return LocalProgram([*client, container.id, *command])
        except OSError as error:
            raise UserError(f"docker cannot be run: {error.strerror}") from None

    def cause(self, container: Container, *, at_start: bool = False) -> str:
        """Why a container does not run or start: how it ended, and the last error in its log."""
        log = self.log(container)
        error = error_in(log) if at_start else cause_in(log)
        return f"{container.end}: {error}" if container.end else error

    def has_image(self, image: str) -> bool:
        """Whether the daemon has an image."""
        with self._answers():
            try:
                self._client.images.get(image)
            except ImageNotFound:
                return False
        return True

    def image_ids(self, containers: Collection[Container]) -> Mapping[str, str]:
        """The id of each image that some containers are of, by its name."""
        with self._answers():
            shown = [self._client.api.inspect_container(one.id) for one in containers]
        return {one["Config"]["Image"]: one["Image"] for one in shown}

    def version(self) -> str:
        """The daemon's version."""
        with self._answers():
            return str(self._client.version()["Version"])

    @contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except APIError as error:
            raise UserError(f"Docker refuses: {_one_line(error.explanation)}") from None
        except (DockerException, RequestException) as error:
            raise UserError(
                f"no Docker daemon answers at {self.url}: {_reason(error)}; is it running, and "
                "may you use it (group docker)?"
            ) from None


def processes(containers: Collection[Container]) -> tuple[int, ...]:
    """The processes of containers, and those that pass what comes to their ports on to them."""
    found = set(listeners(port for one in containers for port in one.ports))
    for one in containers:
        with suppress(psutil.Error):
            if one.pid:
                first = psutil.Process(one.pid)
                found |= {one.pid, *(child.pid for child in first.children(recursive=True))}
    return tuple(sorted(found - {os.getpid()}))


def _url(published: Mapping[str, str]) -> str:
    """The base URL of a port that Docker publishes, perhaps at all addresses of this machine."""
    host = published.get("HostIp") or LOOPBACK
    if ipaddress.ip_address(host).is_unspecified:
        host = LOOPBACK
    return f"http://{f'[{host}]' if ':' in host else host}:{published['HostPort']}"


def _reason(error: BaseException | None) -> str:
    """The operating system's own words, from inside what the client raises, else that in a line."""
    inner = error
    while inner is not None:
        for one in (inner, *inner.args):
            if isinstance(one, OSError) and one.strerror:
                return one.strerror
        inner = inner.__cause__ or inner.__context__
    return _one_line(error)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:300]
