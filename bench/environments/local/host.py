"""Starts an engine host with the engine's own Python, and holds a lease on it."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.environments.cpu_engine import flags
from bench.environments.cpu_engine.flags import ENGINE_VARIABLES
from bench.environments.local import enginehost
from bench.environments.local.enginehost.main import KEEP, SOCKET
from bench.environments.local.enginehost.replicas import ReplicaSpec

# Appended last, so that nothing beside the package can stand in for an installed module.
# -I ignores PYTHON* variables: PYTHONDONTWRITEBYTECODE would make every start compile.
_PACKAGE = str(Path(__file__).parent)
_IMPORT = "import sys; sys.path.append(sys.argv[1]); from enginehost import "
_RUN = ("-I", "-c", f"{_IMPORT}main; main.main(sys.argv[2])", _PACKAGE)
# Imports all that a host imports, and fails if the installation does not work. Leaves the
# byte code of what it imports, so that later starts need not compile it.
IMPORT_ALL = ("-I", "-c", f"{_IMPORT}serving; serving.preload()", _PACKAGE)


@dataclass(frozen=True, slots=True)
class HostSpec:
    """The specification of a host; see `enginehost.main`."""

    environment: Mapping[str, str]
    folder: str
    state: str
    fingerprint: str
    replicas: Sequence[ReplicaSpec]


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
    code = [Path(__file__), Path(flags.__file__)]
    for file in [*code, *sorted(Path(enginehost.__file__).parent.glob("*.py"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def host_spec(
    cache: Path, state: Path, fingerprint: str, replicas: Sequence[ReplicaSpec]
) -> HostSpec:
    """The specification of a host for `replicas`, with a new folder.

    The folder is not in the cache: the path of a unix socket may have about 100 bytes.
    """
    folder = tempfile.mkdtemp(prefix="llm-bench-")
    environment = {
        **ENGINE_VARIABLES,
        "TMPDIR": folder,
        "HF_HOME": str(cache / "huggingface"),
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
    }
    return HostSpec(environment, folder, str(state), fingerprint, replicas)


def write_spec(spec: HostSpec) -> Path:
    """Write `spec` into its folder, as a host reads it."""
    file = Path(spec.folder) / "spec.json"
    file.write_text(json.dumps(asdict(spec)), encoding="utf-8")
    return file


def start_host(python: Path, spec: HostSpec, log: Path) -> subprocess.Popen[bytes]:
    """Start a host; connect a Lease to it, or it ends after a while."""
    spec_file = write_spec(spec)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(python), *_RUN, str(spec_file)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C ends the lease, and that the engines
        )
