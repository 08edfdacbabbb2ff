"""An OpenAI-like server with a script, for tests of what is asked of endpoints. It is no engine."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "served/model"
JSON = "application/json"


@dataclass
class Behaviour:
    """How an endpoint answers, and the requests it has seen: (path, headers, body).

    `fixed` are whole answers by path: status, content type and text. Fields in `unknown` are
    refused with 400. `prefix` is the base path of the API.
    """

    fixed: Mapping[str, tuple[int, str, str]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    prefix: str = ""
    text: str = "one two"
    counts: bool = True
    tokens: int | None = None
    newline: str = "\n"
    closes: bool = False
    delay_s: float = 0.0
    key: str = ""
    seen: list[tuple[str, Mapping[str, str], Any]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: Behaviour

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._answer(json.loads(self.rfile.read(length)))

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, body: Any) -> None:
        does = self.behaviour
        does.seen.append((self.path, dict(self.headers), body))
        path = self.path.removeprefix(does.prefix)
        if path in does.fixed:
            self._send(*does.fixed[path])
        elif does.key and self.headers.get("Authorization") != f"Bearer {does.key}":
            self._send(401, JSON, '{"error": {"message": "no key"}}')
        elif not self.path.startswith(does.prefix):
            self._send(404, JSON, '{"detail": "Not Found"}')
        elif path == "/v1/models":
            self._send(200, JSON, json.dumps({"data": [{"id": MODEL, "owned_by": "us"}]}))
        elif body is None or not path.endswith("/completions"):
            self._send(404, JSON, '{"detail": "Not Found"}')
        elif refused := [name for name in does.unknown if name in body]:
            self._send(400, JSON, json.dumps({"error": {"message": f"unknown {refused[0]}"}}))
        elif body.get("stream"):
            self._send(200, "text/event-stream", self._stream(body))
        else:
            choice = {"message": {"content": does.text}, "text": does.text}
            self._send(200, JSON, json.dumps({"choices": [choice]}))

    def _stream(self, body: Mapping[str, Any]) -> str:
        does = self.behaviour
        tokens = does.tokens or body["max_tokens"]
        chunks: list[Any] = [
            {"choices": [{"delta": {"content": f"{n} "}, "text": f"{n} ", "finish_reason": None}]}
            for n in range(tokens)
        ]
        chunks.append({"choices": [{"delta": {}, "finish_reason": "length"}]})
        if does.counts and "stream_options" in body:
            prompt = str(body.get("prompt") or body["messages"][0]["content"])
            counted = {"prompt_tokens": 5 + 2 * len(prompt.split()), "completion_tokens": tokens}
            chunks.append({"choices": [], "usage": counted})
        events = [*(json.dumps(one) for one in chunks), "[DONE]"]
        return "".join(f"data: {one}{does.newline}{does.newline}" for one in events)

    def _send(self, status: int, kind: str, text: str) -> None:
        time.sleep(self.behaviour.delay_s)
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if self.behaviour.closes:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def endpoint(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The base URL, without `/v1`, of a server that answers like that."""
    handler = type("Handler", (_Handler,), {"behaviour": behaviour})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}{behaviour.prefix}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
