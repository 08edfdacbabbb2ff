"""Replicas with a script, and the balancers of others in front of them. They are no engines."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.config.peers import located
from bench.config.topology import Arm, load_topology
from bench.environments.balancers import Balancers
from bench.paths import ROOT
from bench.progress import PlainProgress
from bench.records import Replica

CHAT = "/v1/chat/completions"
PATIENCE_S = 60.0
# By kind of address: the host to listen on, and how a URL names it.
_LOOPBACK = {socket.AF_INET: ("127.0.0.1", "127.0.0.1"), socket.AF_INET6: ("::1", "[::1]")}


@dataclass
class Scripted:
    """A replica of `model`: each answer of it is a stream that ends when `finish` is set.

    `seen` are the prompts of the chats that have reached it. With `broken` it fails them.
    """

    model: str
    broken: bool = False
    finish: threading.Event = field(default_factory=threading.Event)
    seen: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scripted: Scripted

    def do_GET(self) -> None:
        listed = {"data": [{"id": self.scripted.model, "object": "model", "owned_by": "vllm"}]}
        known = {"/health": {}, "/v1/models": {"object": "list", **listed}}
        path = self.path.partition("?")[0]
        self._send(200 if path in known else 404, known.get(path, {}))

    def do_POST(self) -> None:
        body = json.loads(self._body())
        if self.path != CHAT:
            self._send(404, {})
            return
        self.scripted.seen.append(body["messages"][0]["content"])
        if self.scripted.broken:
            self._send(500, {"error": {"message": "broken"}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._event(json.dumps(self._chunk({"role": "assistant", "content": "first"}, None)))
        self.scripted.finish.wait(PATIENCE_S)
        self._event(json.dumps(self._chunk({"content": "last"}, "length")))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _body(self) -> bytes:
        """The whole body, which SMG sends in chunks."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _chunk(self, delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1}
        return {**head, "model": self.scripted.model, "choices": [choice]}

    def _event(self, text: str) -> None:
        data = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _send(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(
    replicas: Sequence[Scripted], family: socket.AddressFamily = socket.AF_INET
) -> Iterator[tuple[Replica, ...]]:
    """The replicas, each at a port of its own."""
    with ExitStack() as cleanup:
        yield tuple(
            cleanup.enter_context(_serving(one, n, family)) for n, one in enumerate(replicas)
        )


@contextmanager
def _serving(scripted: Scripted, number: int, family: socket.AddressFamily) -> Iterator[Replica]:
    handler = type("Handler", (_Handler,), {"scripted": scripted})
    kind = type("Server", (ThreadingHTTPServer,), {"address_family": family})
    host, named = _LOOPBACK[family]
    server = kind((host, 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        url = f"http://{named}:{server.server_address[1]}"
        yield Replica(scripted.model, f"{scripted.model}-{number}", url)
    finally:
        scripted.finish.set()
        server.shutdown()
        server.server_close()
        thread.join()


def installed(name: str) -> Arm:
    """The arm of a peer, with the path of its program; the test is skipped without that."""
    arm = load_topology().arm(name)
    assert arm.peer is not None
    if (peer := located(arm.peer, ROOT / ".cache")) is None:
        pytest.skip(arm.peer.absent)
    return replace(arm, peer=peer)


@contextmanager
def balancing(logs: Path, replicas: Sequence[Replica]) -> Iterator[Balancers]:
    """Balancers in front of the replicas, which end with the context."""
    balancers = Balancers(logs, PlainProgress(io.StringIO()))
    balancers.serve(replicas, 4)
    try:
        yield balancers
    finally:
        balancers.stop()
