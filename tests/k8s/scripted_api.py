"""An API server that answers what a test says, and the kubeconfig that leads to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

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

    async def answer(request: Request) -> JSONResponse:
        asked = (request.method, request.url.path)
        script.asked.append(asked)
        status, body = script.answers.get(asked, (404, {"message": "not found"}))
        return JSONResponse(body, status)

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "PATCH", "DELETE"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=server.run, args=([listener],))
        thread.start()
        script.server = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield script
        finally:
            server.should_exit = True
            thread.join()


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
