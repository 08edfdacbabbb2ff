"""The engines of a run: taken over from an earlier run or started, watched, released."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from bench.environments.answers import await_answers
from bench.environments.local.enginehost.replicas import ReplicaSpec
from bench.environments.local.host import (
    Engines,
    Lease,
    RunningReplica,
    end_engines,
    read_engines,
    start_host,
    state_file,
    why_unusable,
)
from bench.errors import UserError
from bench.processes.guarded import cause_of_death, error_in_log
from bench.processes.ports import LOOPBACK
from bench.progress import Progress, Step
from bench.records import Replica

START_TIMEOUT_S = 600.0
REUSE_TIMEOUT_S = 30.0

Found = TypeVar("Found")


class EngineSet:
    """The engines of a cache folder, of which there is one set; its user holds their lock."""

    def __init__(self, cache: Path, logs: Path, progress: Progress) -> None:
        self._cache = cache
        self._logs = logs
        self._progress = progress
        self._state = state_file(cache)
        self._lease: Lease | None = None
        self._host: subprocess.Popen[bytes] | None = None
        self._running: tuple[RunningReplica, ...] = ()

    def find(self, wanted: Sequence[ReplicaSpec], fingerprint: str) -> tuple[Replica, ...]:
        """Replicas of running engines that serve `wanted`; each has answered a request.

        If the engines cannot serve them, they are ended and the result is empty.
        """
        engines = read_engines(self._state)
        if engines is None:
            return ()
        unusable = why_unusable(engines, wanted, fingerprint) or self._take_over(engines, wanted)
        if unusable is None:
            return self._replicas(wanted)
        self._progress.note(f"the engines that were kept are ended: {unusable}")
        self.release(keep=False)
        return ()

    def start(
        self, python: Path, wanted: Sequence[ReplicaSpec], fingerprint: str, ports: Iterator[int]
    ) -> tuple[Replica, ...]:
        """Start engines for `wanted`; return when each has answered.

        Raises UserError with one line and the log when one dies or does not answer.
        """
        specs = [replace(spec, port=next(ports), log=str(self._log(spec.name))) for spec in wanted]
        with self._progress.step(f"starting {len(specs)} engines") as step:
            log = self._log("host")
            folder, self._host = start_host(python, self._cache, fingerprint, specs, log)
            self._lease = self._await(lambda: _connect(folder), step, "starting Python")
            self._running = self._await(self._forked, step, "importing vLLM")
            replicas = self._replicas(wanted)
            asyncio.run(await_answers(replicas, step, START_TIMEOUT_S, self._require_alive))
        return replicas

    def dead(self) -> tuple[str, ...]:
        """Replicas that no longer run, each with the reason and its log."""
        return tuple(
            f"{spec.name} ({cause_of_death(Path(spec.log))}; see {spec.log})"
            for spec in (replica.spec for replica in self._running if not replica.alive)
        )

    def processes(self, names: Collection[str] | None = None) -> tuple[int, ...]:
        """The process of every replica that runs, or of those with `names`.

        All processes of a replica descend from it, and are in its process group.
        """
        return tuple(
            running.process.pid
            for running in self._running
            if running.alive and (names is None or running.spec.name in names)
        )

    def release(self, *, keep: bool) -> None:
        """End the engines, or with `keep` leave them running. Safe to repeat."""
        if self._lease is not None:
            if keep:
                self._lease.keep()
            self._lease.close()
            self._lease = None
        if not keep:
            self._running = ()
            if engines := read_engines(self._state):
                end_engines(engines, self._state)
            if self._host is not None:
                self._host.kill()  # it may not have written the state file yet
                self._host.wait()

    def _take_over(self, engines: Engines, wanted: Sequence[ReplicaSpec]) -> str | None:
        """Lease running engines and ask each for an answer; None, or what went wrong."""
        names = {spec.name for spec in wanted}
        self._running = tuple(one for one in engines.replicas if one.spec.name in names)
        try:
            self._lease = Lease(engines.folder)
            replicas = self._replicas(wanted)
            with self._progress.step("asking the engines that were kept") as step:
                asyncio.run(await_answers(replicas, step, REUSE_TIMEOUT_S, self._require_alive))
        except OSError as error:
            return f"their host does not answer ({error.strerror})"
        except UserError as error:
            return str(error)
        return None

    def _await(self, look: Callable[[], Found | None], step: Step, doing: str) -> Found:
        assert self._host is not None
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while (found := look()) is None:
            step.update(doing)
            if self._host.poll() is not None:
                log = self._log("host")
                raise UserError(f"the engines' host died at start: {error_in_log(log)}; see {log}")
            if time.monotonic() > deadline_s:
                raise UserError(f"{doing} took more than {START_TIMEOUT_S:.0f} s; try again")
            time.sleep(0.05)
        return found

    def _forked(self) -> tuple[RunningReplica, ...] | None:
        engines = read_engines(self._state)
        return engines.replicas or None if engines else None

    def _require_alive(self) -> None:
        if dead := self.dead():
            raise UserError(f"engine died: {dead[0]}")

    def _replicas(self, wanted: Sequence[ReplicaSpec]) -> tuple[Replica, ...]:
        ports = {running.spec.name: running.spec.port for running in self._running}
        return tuple(
            Replica(spec.model, spec.name, f"http://{LOOPBACK}:{ports[spec.name]}")
            for spec in wanted
        )

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def _connect(folder: Path) -> Lease | None:
    try:
        return Lease(folder)
    except OSError:
        return None
