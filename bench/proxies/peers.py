"""The proxies that are compared: how to find, to install and to start each of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.proxies.configs import haproxy_cfg, nginx_conf
from bench.proxies.site import Site

REFERENCE = "nginx"
_ROUTERS = Path(".cache") / "routers-venv"
_ROUTER_VERSIONS = {"sglang-router": "0.3.2", "vllm-router": "0.1.17"}


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy. `program` is None where it is absent, `install` the line that mends that.

    `start` makes its command for a site, with whatever files it needs; `ask_version`
    prints its version first.
    """

    name: str
    program: Path | None
    install: str
    ask_version: tuple[str, ...]
    start: Callable[[Site], list[str]]


def known_peers(root: Path) -> tuple[Peer, ...]:
    """This project's balancer, servers of the system, and routers in an environment of theirs."""
    routers = [_sglang_router(root / _ROUTERS), _vllm_router(root / _ROUTERS)]
    return (_balancer(), _nginx(), _haproxy(), *routers)


def _balancer() -> Peer:
    def start(site: Site) -> list[str]:
        balancer = [sys.executable, "-m", "lb", "--policy", "round-robin"]
        endpoints = ",".join(f"http://{replica}" for replica in site.replicas)
        return [*balancer, "--endpoints", endpoints, "--port", str(site.port)]

    version = (sys.executable, "--version")
    return Peer("lb", Path(sys.executable), "", version, start)


def _nginx() -> Peer:
    program = _system_program("nginx")

    def start(site: Site) -> list[str]:
        path = site.folder / "nginx.conf"
        path.write_text(nginx_conf(site), encoding="utf-8")
        return [str(program), "-e", "stderr", "-p", str(site.folder), "-c", str(path)]

    return Peer("nginx", program, "apt install nginx", (str(program), "-v"), start)


def _haproxy() -> Peer:
    program = _system_program("haproxy")

    def start(site: Site) -> list[str]:
        path = site.folder / "haproxy.cfg"
        path.write_text(haproxy_cfg(site), encoding="utf-8")
        return [str(program), "-db", "-f", str(path)]

    return Peer("haproxy", program, "apt install haproxy", (str(program), "-v"), start)


def _sglang_router(venv: Path) -> Peer:
    program = venv / "bin" / "sglang-router"

    def start(site: Site) -> list[str]:
        return [str(program), "launch", *_router_options(site), "--log-level", "warn"]

    return _router("sglang-router", venv, start)


def _vllm_router(venv: Path) -> Peer:
    program = venv / "bin" / "vllm-router"

    def start(site: Site) -> list[str]:
        return [str(program), *_router_options(site), "--log-level", "warning"]

    return _router("vllm-router", venv, start)


def _router(name: str, venv: Path, start: Callable[[Site], list[str]]) -> Peer:
    program = venv / "bin" / name
    pin = f"{name}=={_ROUTER_VERSIONS[name]}"
    install = f"python3 -m venv {_ROUTERS} && {_ROUTERS}/bin/pip install {pin}"
    ask = f"from importlib.metadata import version; print(version({name!r}))"
    version = (str(venv / "bin" / "python"), "-c", ask)
    return Peer(name, program if program.exists() else None, install, version, start)


def _router_options(site: Site) -> list[str]:
    listen = ["--host", "127.0.0.1", "--port", str(site.port)]
    metrics = ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(site.metrics_port)]
    workers = ["--worker-urls", *(f"http://{replica}" for replica in site.replicas)]
    how = ["--policy", "round_robin", "--worker-startup-check-interval", "1"]
    return [*listen, *metrics, *workers, *how]


def _system_program(name: str) -> Path | None:
    # Debian keeps servers where only root's path leads.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None
