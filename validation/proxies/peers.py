"""The proxies that are compared: how to find, to install and to start each of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from validation.proxies.configs import haproxy_cfg, nginx_conf
from validation.proxies.site import Site

REFERENCE = "nginx"
_ROUTERS = Path(".cache") / "routers-venv"
_ROUTER_VERSIONS = {"sglang-router": "0.3.2", "vllm-router": "0.1.17"}
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
    routers = {"sglang-router": "warn", "vllm-router": "warning"}
    found = (_router(name, root / _ROUTERS, level) for name, level in routers.items())
    return (_balancer(), _nginx(), _haproxy(), *found)


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


def _router(name: str, venv: Path, log_level: str) -> Peer:
    package = name.replace("-", "_")
    python = venv / "bin" / "python"
    present = any(venv.glob(f"lib/python*/site-packages/{package}"))

    def start(site: Site) -> list[str]:
        options = [*_router_options(site), "--log-level", log_level]
        return [str(python), "-c", _START_ROUTER, package, *options]

    pin = f"{name}=={_ROUTER_VERSIONS[name]}"
    install = f"python3 -m venv {_ROUTERS} && {_ROUTERS}/bin/pip install --no-deps {pin}"
    ask = f"from importlib.metadata import version; print(version({name!r}))"
    return Peer(name, python if present else None, install, (str(python), "-c", ask), start)


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
