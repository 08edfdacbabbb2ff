"""Balancers that outlive the command that started them, recorded beside the engines."""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.environments.balancers import Balancer
from bench.environments.local.enginehost.replicas import ProcessIdentity, identify, is_alive
from bench.environments.local.host import (
    STOP_TIMEOUT_S,
    await_end,
    end_engines,
    engines_lock,
    read_engines,
    read_state,
    state_file,
)
from bench.errors import UserError
from bench.processes.guard import signal_group
from bench.progress import Progress
from bench.store.files import strict_json, write_whole


@dataclass(frozen=True, slots=True)
class KeptBalancer:
    """A balancer that was left running: its arm, port, command, log, and its process."""

    arm: str
    port: int
    command: tuple[str, ...]
    log: str
    process: ProcessIdentity

    @classmethod
    def of(cls, balancer: Balancer) -> KeptBalancer:
        """The record of a balancer that runs. Raises UserError if it has died."""
        pid = balancer.process.command_pid
        process = None if pid is None else identify(pid)
        if process is None:
            raise UserError(f"the balancer of {balancer.name} died; see {balancer.process.log}")
        return cls(
            balancer.name, balancer.port, balancer.command, str(balancer.process.log), process
        )

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return is_alive(self.process)


def balancers_file(cache: Path) -> Path:
    """The state file of the balancers in front of a cache folder's engines."""
    return state_file(cache).with_name("balancers.json")


def read_balancers(cache: Path) -> tuple[KeptBalancer, ...]:
    """The balancers of the state file, also those that have died. Raises UserError."""
    return read_state(balancers_file(cache), lambda found: tuple(map(_kept, found))) or ()


def _kept(one: dict[str, Any]) -> KeptBalancer:
    command, process = tuple(one["command"]), ProcessIdentity(**one["process"])
    return KeptBalancer(**{**one, "command": command, "process": process})


def write_balancers(cache: Path, balancers: Iterable[KeptBalancer]) -> None:
    """Write the state file. Whoever does holds the run lock. Raises UserError."""
    file = balancers_file(cache)
    records = [asdict(one) for one in balancers]
    if not records:
        file.unlink(missing_ok=True)
        return
    write_whole(file, strict_json(file, records))


def end_balancers(cache: Path, balancers: Collection[KeptBalancer]) -> None:
    """End some balancers and take them out of the state file. Whoever does holds the run lock."""
    alive = [one for one in balancers if one.alive]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for one in alive:
            if one.alive:
                signal_group(one.process.pid, number)
        for one in alive:
            await_end(one.process, STOP_TIMEOUT_S)
    write_balancers(cache, [one for one in read_balancers(cache) if one not in balancers])


def end_all_balancers(cache: Path, progress: Progress, reason: str) -> None:
    """End all balancers that were left, and say so with the `reason`."""
    if kept := read_balancers(cache):
        if arms := [one.arm for one in kept if one.alive]:
            several = "balancers" if len(arms) > 1 else "balancer"
            are = "are" if len(arms) > 1 else "is"
            progress.note(f"the deployed {several} of {', '.join(arms)} {are} ended: {reason}")
        end_balancers(cache, kept)


def stop_kept(cache: Path, progress: Progress) -> bool:
    """End all balancers and engines that were left; False if there were none.

    Raises UserError if a run is using them.
    """
    with engines_lock(cache, progress, timeout_s=0.0):
        balancers, engines = read_balancers(cache), read_engines(state_file(cache))
        end_balancers(cache, balancers)
        if engines is not None:
            end_engines(engines, state_file(cache))
        return engines is not None or bool(balancers)
