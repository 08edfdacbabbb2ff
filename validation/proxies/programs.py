"""The proxies that are compared: how to find, to install, to configure and to start each."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from validation.harness import Program

REFERENCE = "nginx"
_ROUTERS = Path(".cache") / "routers-venv"
_ROUTER_VERSIONS = {"sglang-router": "0.3.2", "vllm-router": "0.1.17"}
# Twice the streams that are held open, and some.
_CONNECTIONS = 8192
_REQUESTS = 1_000_000_000
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
class Place:
    """The ports that a proxy may use on loopback, what is behind it, a folder for its files.

    `metrics_port` is for proxies that insist on one; `replicas` are `host:port` each.
    """

    port: int
    metrics_port: int
    replicas: tuple[str, ...]
    folder: Path


Proxy = Program[Place]


def known_proxies(root: Path) -> tuple[Proxy, ...]:
    """This project's balancer, servers of the system, and routers in an environment of theirs."""
    routers = {"sglang-router": "warn", "vllm-router": "warning"}
    found = (_router(name, root / _ROUTERS, level) for name, level in routers.items())
    return (_balancer(), _nginx(), _haproxy(), *found)


def _balancer() -> Proxy:
    def start(place: Place) -> list[str]:
        balancer = [sys.executable, "-m", "lb", "--policy", "round-robin"]
        endpoints = ",".join(f"http://{replica}" for replica in place.replicas)
        return [*balancer, "--endpoints", endpoints, "--port", str(place.port)]

    version = (sys.executable, "--version")
    return Program("lb", Path(sys.executable), "", version, start)


def _nginx() -> Proxy:
    program = _system_program("nginx")

    def start(place: Place) -> list[str]:
        path = place.folder / "nginx.conf"
        path.write_text(_nginx_conf(place), encoding="utf-8")
        return [str(program), "-e", "stderr", "-p", str(place.folder), "-c", str(path)]

    return Program("nginx", program, "apt install nginx", (str(program), "-v"), start)


def _haproxy() -> Proxy:
    program = _system_program("haproxy")

    def start(place: Place) -> list[str]:
        path = place.folder / "haproxy.cfg"
        path.write_text(_haproxy_cfg(place), encoding="utf-8")
        return [str(program), "-db", "-f", str(path)]

    return Program("haproxy", program, "apt install haproxy", (str(program), "-v"), start)


def _router(name: str, venv: Path, log_level: str) -> Proxy:
    package = name.replace("-", "_")
    python = venv / "bin" / "python"
    present = any(venv.glob(f"lib/python*/site-packages/{package}"))

    def start(place: Place) -> list[str]:
        options = [*_router_options(place), "--log-level", log_level]
        return [str(python), "-c", _START_ROUTER, package, *options]

    pin = f"{name}=={_ROUTER_VERSIONS[name]}"
    install = f"python3 -m venv {_ROUTERS} && {_ROUTERS}/bin/pip install --no-deps {pin}"
    ask = f"from importlib.metadata import version; print(version({name!r}))"
    return Program(name, python if present else None, install, (str(python), "-c", ask), start)


def _router_options(place: Place) -> list[str]:
    listen = ["--host", "127.0.0.1", "--port", str(place.port)]
    metrics = ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(place.metrics_port)]
    workers = ["--worker-urls", *(f"http://{replica}" for replica in place.replicas)]
    how = ["--policy", "round_robin", "--worker-startup-check-interval", "1"]
    return [*listen, *metrics, *workers, *how]


def _system_program(name: str) -> Path | None:
    # Debian keeps servers where only root's path leads.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def _nginx_conf(place: Place) -> str:
    """One worker; connections to the replicas are kept; no buffering of answers."""
    servers = "\n    ".join(f"server {replica};" for replica in place.replicas)
    return f"""\
daemon off;
worker_processes 1;
pid {place.folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections {_CONNECTIONS}; }}
http {{
  access_log off;
  client_body_temp_path {place.folder}/nginx-body;
  proxy_temp_path {place.folder}/nginx-proxy;
  fastcgi_temp_path {place.folder}/nginx-fastcgi;
  uwsgi_temp_path {place.folder}/nginx-uwsgi;
  scgi_temp_path {place.folder}/nginx-scgi;
  keepalive_requests {_REQUESTS};
  upstream source {{
    {servers}
    keepalive 256;
    keepalive_requests {_REQUESTS};
  }}
  server {{
    listen 127.0.0.1:{place.port} backlog=4096;
    location / {{
      proxy_pass http://source;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def _haproxy_cfg(place: Place) -> str:
    """One thread; connections to the replicas are shared; chunks are passed on at once."""
    servers = "\n  ".join(
        f"server replica{index} {replica}" for index, replica in enumerate(place.replicas)
    )
    return f"""\
global
  nbthread 1
  maxconn {_CONNECTIONS}
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-no-delay
  http-reuse always
listen proxy
  bind 127.0.0.1:{place.port} backlog 4096
  balance roundrobin
  {servers}
"""
