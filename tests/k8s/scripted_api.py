"""An API server that answers what a test says, and the kubeconfig that leads to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

Answer = tuple[int, Mapping[str, Any]]


@dataclass
class Script:
    """Answers by method and path; anything else is a 404. `asked` is what came in."""

    answers: dict[tuple[str, str], Answer]
    asked: list[tuple[str, str]] = field(default_factory=list)
    server: str = ""


@contextmanager
def scripted_api(answers: Mapping[tuple[str, str], Answer]) -> Iterator[Script]:
    script = Script(dict(answers))

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = (self.command, self.path.partition("?")[0])
            script.asked.append(asked)
            status, body = script.answers.get(asked, (404, {"message": "not found"}))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    script.server = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def kubeconfig(folder: Path, servers: Mapping[str, str], current: str) -> Path:
    """A kubeconfig with a context for each server."""
    path = folder / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": current,
                "users": [{"name": "me", "user": {"token": "secret"}}],
                "clusters": [
                    {"name": name, "cluster": {"server": url}} for name, url in servers.items()
                ],
                "contexts": [
                    {"name": name, "context": {"cluster": name, "user": "me"}} for name in servers
                ],
            }
        ),
        encoding="utf-8",
    )
    return path
