"""Runs the host: import, wait for a lease, fork the replicas, stop them when it ends.

The specification is a JSON file: `environment` (variables to set before the import, in
place of any VLLM_ ones), `folder` (for the socket and temporary files, removed at the
end), `state` (written here, read by whoever looks for running engines), `fingerprint`
(copied into the state) and `replicas` (see ReplicaSpec).
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from .replicas import (
    ProcessIdentity,
    ReplicaSpec,
    Serve,
    identify,
    reap_dead_children,
    start_replica,
    stop_replicas,
    tie_children_to_parents,
)

SOCKET = "host.sock"
KEEP = b"keep"
FIRST_LEASE_TIMEOUT_S = 30.0
STOP_GRACE_S = 5.0


class Leases:
    """Listens on a unix socket; every connection is a lease.

    A lease ends with its connection, however its holder ends. With the last lease the
    engines end, unless its holder has sent KEEP; then they wait for the next lease.
    """

    def __init__(self, address: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen()
        self._held: set[socket.socket] = set()
        self._kept = False

    def await_first(self, timeout_s: float) -> bool:
        """Whether somebody holds a lease, after waiting for one at most `timeout_s`."""
        self._handle_events(timeout_s)  # somebody connects
        self._handle_events(timeout_s=0.0)  # and may have gone already
        return bool(self._held)

    def run_until_over(self) -> None:
        """Return when the last lease has ended without KEEP."""
        while self._held or self._kept:
            self._handle_events(timeout_s=None)

    def close(self) -> None:
        """Close the listener and all connections, which a forked child must not hold."""
        for one in (self._listener, *self._held):
            one.close()

    def _handle_events(self, timeout_s: float | None) -> None:
        # The listener last: who connects now takes over from whoever has just sent KEEP.
        ready, _, _ = select.select([*self._held, self._listener], [], [], timeout_s)
        for one in ready:
            if one is self._listener:
                connection, _ = one.accept()
                self._held.add(connection)
                self._kept = False
            else:
                self._receive(one)

    def _receive(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(64)
        except ConnectionError:
            data = b""
        if data == KEEP:
            self._kept = True
        elif not data:
            self._held.discard(connection)
            connection.close()


def main(spec_file: str) -> None:
    """Run a host for vLLM servers."""
    spec = json.loads(Path(spec_file).read_text(encoding="utf-8"))
    # VLLM_ variables of the user's shell would silently override the topology.
    for name in [name for name in os.environ if name.startswith("VLLM_")]:
        del os.environ[name]
    os.environ.update(spec["environment"])

    def load() -> Serve:
        serving = importlib.import_module(".serving", __package__)
        serving.preload()
        serve: Serve = serving.serve
        return serve

    run(spec, load)


def run(spec: dict[str, Any], load: Callable[[], Serve]) -> None:
    """Run a host for servers of the function that `load` returns; returns when all have ended."""
    folder, state = Path(spec["folder"]), Path(spec["state"])
    processes: list[BaseProcess] = []
    try:
        try:
            signal.signal(signal.SIGTERM, _leave)
            _serve(spec, load, processes)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # so that all is cleaned up
    finally:
        stop_replicas(processes, STOP_GRACE_S)
        state.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _serve(spec: dict[str, Any], load: Callable[[], Serve], processes: list[BaseProcess]) -> None:
    """Fork the replicas into `processes` once there is a lease; return when that is over."""
    leases = Leases(str(Path(spec["folder"]) / SOCKET))
    _write_state(spec, [], [])
    serve = load()
    if leases.await_first(FIRST_LEASE_TIMEOUT_S):
        specs = [ReplicaSpec.from_json(one) for one in spec["replicas"]]
        tie_children_to_parents()
        reap_dead_children()
        processes.extend(start_replica(one, serve, leases.close) for one in specs)
        _write_state(spec, specs, processes)
        leases.run_until_over()


def _leave(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut this short
    sys.exit()


def _write_state(
    spec: dict[str, Any], specs: Sequence[ReplicaSpec], processes: Sequence[BaseProcess]
) -> None:
    replicas = [
        {**dataclasses.asdict(one), "process": _identity(process.pid)}
        for one, process in zip(specs, processes, strict=True)
    ]
    found = {
        "fingerprint": spec["fingerprint"],
        "folder": spec["folder"],
        "host": _identity(os.getpid()),
        "replicas": replicas,
    }
    state = Path(spec["state"])
    draft = state.with_suffix(".tmp")
    draft.write_text(json.dumps(found, indent=1), encoding="utf-8")
    draft.replace(state)


def _identity(pid: int | None) -> dict[str, int]:
    return dataclasses.asdict(identify(pid or 0) or ProcessIdentity(pid or 0, start=0))
