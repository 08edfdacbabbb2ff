"""The host of the engines, as those who start or use it see it.

It is started with the engine's own Python, kept by leases, and found again by the state file
that it writes. Whoever starts engines, takes them over or ends them holds their lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.environments import cpu_engine
from bench.environments.local import enginehost
from bench.environments.local.enginehost.main import KEEP, SOCKET
from bench.environments.local.enginehost.replicas import ProcessIdentity, ReplicaSpec, is_alive
from bench.errors import UserError
from bench.processes.guard import signal_group
from bench.processes.lock import exclusive
from bench.progress import Progress

Found = TypeVar("Found")

STOP_TIMEOUT_S = 15.0
LOCK_TIMEOUT_S = 1800.0
# Appended last, so that nothing beside the package can stand in for an installed module.
# -I ignores PYTHON* variables: PYTHONDONTWRITEBYTECODE would make every start compile.
_PACKAGE = str(Path(__file__).parent)
_IMPORT = "import sys; sys.path.append(sys.argv[1]); from enginehost import "
_RUN = ("-I", "-c", f"{_IMPORT}main; main.main(sys.argv[2])", _PACKAGE)
# Imports all that a host imports, and fails if the installation does not work. Leaves the
# byte code of what it imports, so that later starts need not compile it.
IMPORT_ALL = ("-I", "-c", f"{_IMPORT}serving; serving.preload()", _PACKAGE)


@dataclass(frozen=True, slots=True)
class RunningReplica:
    """A replica that was started, and its process."""

    spec: ReplicaSpec
    process: ProcessIdentity

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return is_alive(self.process)


@dataclass(frozen=True, slots=True)
class Engines:
    """What the state file holds: a host, the folder that is its own, and its replicas."""

    fingerprint: str
    folder: Path
    host: ProcessIdentity
    replicas: tuple[RunningReplica, ...]


class Lease:
    """Keeps the engines of a host alive until it is closed or this process ends."""

    def __init__(self, folder: Path) -> None:
        """Connect to the host that owns `folder`. Raises OSError if it does not listen."""
        self._connection = socket.socket(socket.AF_UNIX)
        try:
            self._connection.connect(str(folder / SOCKET))
        except OSError:
            self._connection.close()
            raise

    def keep(self) -> None:
        """Let the engines outlive this lease. Raises OSError if the host is gone."""
        self._connection.sendall(KEEP)

    def close(self) -> None:
        self._connection.close()


def host_fingerprint(venv_fingerprint: str) -> str:
    """What engines must have been started with to be used again: packages and this code."""
    digest = hashlib.sha256(venv_fingerprint.encode())
    code = [Path(__file__), Path(cpu_engine.__file__)]
    for file in [*code, *sorted(Path(enginehost.__file__).parent.glob("*.*"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def start_host(
    python: Path, cache: Path, fingerprint: str, replicas: Sequence[ReplicaSpec], log: Path
) -> tuple[Path, subprocess.Popen[bytes]]:
    """Start a host for `replicas`: its new folder, and its process.

    It ends after a while unless a Lease is connected to it. The folder is not in the cache: the
    path of a unix socket may have about 100 bytes.
    """
    folder = Path(tempfile.mkdtemp(prefix="llm-bench-"))
    environment = {
        **cpu_engine.ENGINE_VARIABLES,
        "TMPDIR": str(folder),
        "HF_HOME": str(cache / "huggingface"),
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
    }
    spec_file = write_spec(folder, state_file(cache), fingerprint, replicas, environment)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(python), *_RUN, str(spec_file)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C ends the lease, and that the engines
        )
    return folder, process


def write_spec(
    folder: Path,
    state: Path,
    fingerprint: str,
    replicas: Sequence[ReplicaSpec],
    environment: Mapping[str, str],
) -> Path:
    """Write the specification of a host into its folder, as `enginehost.main` reads it."""
    spec = {
        "environment": environment,
        "folder": str(folder),
        "state": str(state),
        "fingerprint": fingerprint,
        "replicas": [asdict(one) for one in replicas],
    }
    file = folder / "spec.json"
    file.write_text(json.dumps(spec), encoding="utf-8")
    return file


def state_file(cache: Path) -> Path:
    """The state file of a cache folder's engines, which their host writes."""
    return cache / "run" / "local" / "state.json"


def read_engines(state: Path) -> Engines | None:
    """The engines of a state file; None if there are none. Raises UserError like `read_state`."""
    return read_state(
        state,
        lambda found: Engines(
            fingerprint=found["fingerprint"],
            folder=Path(found["folder"]),
            host=ProcessIdentity(**found["host"]),
            replicas=tuple(_replica(**replica) for replica in found["replicas"]),
        ),
    )


def read_state(file: Path, made: Callable[[Any], Found]) -> Found | None:
    """What is made of the JSON in a state file; None without the file.

    Raises UserError for a damaged one, and for that of another version.
    """
    try:
        return made(json.loads(file.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UserError(
            f"{file} is damaged or of another version: end what it has left running, and remove it"
        ) from None


def _replica(process: dict[str, int], **spec: Any) -> RunningReplica:
    return RunningReplica(ReplicaSpec.from_json(spec), ProcessIdentity(**process))


def why_unusable(engines: Engines, wanted: Sequence[ReplicaSpec], fingerprint: str) -> str | None:
    """Why `engines` cannot serve `wanted`; None if nothing in the state file or /proc says so."""
    if not is_alive(engines.host):
        return "their host is gone"
    if engines.fingerprint != fingerprint:
        return "they are of another version"
    replicas = {replica.spec.name: replica for replica in engines.replicas}
    for plan in wanted:
        running = replicas.get(plan.name)
        if running is None:
            return f"{plan.name} is not among them"
        if not running.alive:
            return f"{plan.name} has died"
        if (running.spec.core, running.spec.argv) != (plan.core, plan.argv):
            return f"{plan.name} runs with other settings"
    return None


def end_engines(engines: Engines, state: Path) -> None:
    """End what is left of `engines`, and remove their folder and the state file."""
    for number in (signal.SIGTERM, signal.SIGKILL):  # a live host ends its replicas in order
        if is_alive(engines.host):
            with contextlib.suppress(ProcessLookupError):
                os.kill(engines.host.pid, number)
        await_end(engines.host, STOP_TIMEOUT_S)
    for replica in engines.replicas:
        if replica.alive:
            signal_group(replica.process.pid, signal.SIGKILL)
            await_end(replica.process, STOP_TIMEOUT_S)
    shutil.rmtree(engines.folder, ignore_errors=True)
    state.unlink(missing_ok=True)


def await_end(process: ProcessIdentity, timeout_s: float) -> bool:
    """Whether `process` has ended, after waiting for that at most `timeout_s` seconds."""
    deadline_s = time.monotonic() + timeout_s
    while is_alive(process) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return not is_alive(process)


def engines_lock(
    cache: Path, progress: Progress, timeout_s: float = LOCK_TIMEOUT_S
) -> AbstractContextManager[None]:
    """The lock on the engines of a cache folder, which their user holds; see `exclusive`.

    Runs that measure hold the machine, too. This lock is between a run and `teardown`, which may
    end engines while another folder's are measured, and between containers that share a folder.
    """
    return exclusive(state_file(cache).with_name("lock"), "the engines", progress, timeout_s)
