"""A Docker daemon in memory, behind a unix socket: containers that are what a test says."""

from __future__ import annotations

import http.server
import json
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from bench.environments.docker.daemon import Daemon

ENGINE: dict[str, Any] = {
    "Id": "1",
    "Name": "/llm-bench-managed_tiny-llama-0_1",
    "RestartCount": 0,
    "State": {
        "Status": "running",
        "Pid": 77,
        "ExitCode": 0,
        "StartedAt": "2026-01-31T23:59:59.123456789Z",
        "Health": {"Status": "healthy"},
    },
    "Config": {
        "Tty": False,
        "Labels": {
            "llm-bench": "",
            "llm-bench.kind": "engine",
            "llm-bench.model": "tiny-llama",
            "com.docker.compose.project": "llm-bench-managed",
            "com.docker.compose.service": "tiny-llama-0",
        },
        "Env": ["ENABLE_KVCACHED=true", "HF_TOKEN=secret"],
        "Image": "llm-bench-engine-cpu:0.1.0",
    },
    "HostConfig": {"CpusetCpus": "1"},
    "NetworkSettings": {"Ports": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8001"}]}},
}


class Answers(http.server.BaseHTTPRequestHandler):
    """A daemon that has `containers`, by id, and refuses to remove the one with id `stuck`.

    A command that is `executed` in one ends with `exit_code`.
    """

    containers: dict[str, dict[str, Any]]
    log: bytes
    executed: list[str]
    exit_code = 0
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote_plus(self.path)
        if "/version" in path:
            self.answer(200, {"ApiVersion": "1.41", "Version": "20.10.24"})
        elif "/containers/json" in path:
            asked = json.loads(path.partition("filters=")[2].partition("&")[0])["label"]
            labels = {one.partition("=")[0]: one.partition("=")[2] for one in asked}
            self.answer(
                200,
                [
                    {"Id": one["Id"]}
                    for one in self.containers.values()
                    if labels.items() <= one["Config"]["Labels"].items()
                ],
            )
        elif "/logs" in path:
            self.reply(200, struct.pack(">BxxxL", 1, len(self.log)) + self.log)
        elif "/exec/" in path:
            self.answer(200, {"ExitCode": self.exit_code})
        elif "/containers/" in path:
            found = self.containers.get(path.split("/")[3])
            self.answer(200 if found else 404, found or {"message": "No such container"})
        else:
            self.answer(200, [])

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Answers.executed = asked["Cmd"]
        self.answer(201, {"Id": "run"})

    def do_DELETE(self) -> None:
        gone = self.path.split("/")[3].partition("?")[0]
        if gone == "stuck":
            self.answer(500, {"message": "device\nor resource busy"})
        else:
            self.answer(204 if self.containers.pop(gone, None) else 404, {"message": "No such"})

    def answer(self, status: int, body: object) -> None:
        self.reply(status, b"" if status == 204 else json.dumps(body).encode())

    def reply(self, status: int, text: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


def container(number: str, project: str, **labels: str) -> dict[str, Any]:
    own = {"llm-bench": "", "com.docker.compose.project": project, **labels}
    config = {**ENGINE["Config"], "Labels": own}
    return {**ENGINE, "Id": number, "Name": f"/{number}", "Config": config}


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def scripted_daemon(folder: Path, *containers: dict[str, Any]) -> Iterator[Daemon]:
    """A daemon with `containers`."""
    Answers.containers = {one["Id"]: one for one in containers}
    Answers.log = b""
    path = folder / "docker.sock"
    with Server(str(path), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Daemon(f"unix://{path}")
        finally:
            server.shutdown()
            thread.join()
