"""Replicas as forked processes: started, pinned, logged, ended."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """A server to run: its CPU core, vLLM arguments, HTTP port and log file.

    Name, model, core and arguments stay the same from one start to the next. Port and log are
    chosen at the start; before that they are 0 and empty.
    """

    name: str
    model: str
    core: int
    argv: tuple[str, ...]
    port: int = 0
    log: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ReplicaSpec:
        """The spec of which `values` is the JSON."""
        # The state files of earlier versions have no model.
        return cls(**{"model": "", **values, "argv": tuple(values["argv"])})


Serve = Callable[[ReplicaSpec], None]


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process number and its start time in clock ticks since boot (proc(5))."""

    pid: int
    start: int


def identify(pid: int) -> ProcessIdentity | None:
    """The process that has this number now; None if there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is a name in parentheses that may hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    state, start = fields[0], int(fields[19])
    return None if state in "ZX" else ProcessIdentity(pid, start)


def is_alive(process: ProcessIdentity) -> bool:
    return identify(process.pid) == process


def tie_children_to_parents() -> None:
    """From now on every forked process is killed when the one that forked it dies.

    Holds for the replicas, and for the engine process that each forks in turn.
    """
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def note_parent() -> None:
        nonlocal parent
        parent = os.getpid()

    def die_with_parent() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    os.register_at_fork(before=note_parent, after_in_child=die_with_parent)


def reap_dead_children() -> None:
    """From now on a replica that dies is gone at once and not a zombie until the host ends."""
    signal.signal(signal.SIGCHLD, lambda *_: multiprocessing.active_children())


def start_replica(spec: ReplicaSpec, serve: Serve, close: Callable[[], None]) -> BaseProcess:
    """Fork a process that serves `spec`; there `close` closes what only the host may hold open."""
    process = multiprocessing.get_context("fork").Process(
        target=_run, args=(spec, serve, close), name=spec.name
    )
    process.start()
    return process


def stop_replicas(processes: Sequence[BaseProcess], grace_s: float) -> None:
    """SIGTERM to every process group, SIGKILL to what is left after `grace_s` seconds."""
    _signal_groups(processes, signal.SIGTERM)
    deadline_s = time.monotonic() + grace_s
    for process in processes:
        process.join(max(0.0, deadline_s - time.monotonic()))
    _signal_groups(processes, signal.SIGKILL)
    for process in processes:
        process.join()


def _run(spec: ReplicaSpec, serve: Serve, close: Callable[[], None]) -> None:
    close()
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.sched_setaffinity(0, {spec.core})
    log = os.open(spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    serve(spec)


def _signal_groups(processes: Sequence[BaseProcess], number: signal.Signals) -> None:
    for process in processes:
        if process.pid is None or process.exitcode is not None:
            continue  # its number may belong to somebody else by now
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            process.kill()  # it has not come to lead a group of its own
