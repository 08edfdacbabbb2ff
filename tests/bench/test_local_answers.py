"""Ready means: every replica has answered a real completion, and nothing less."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.environments.answers import await_answers
from bench.errors import UserError
from bench.progress import PlainProgress
from bench.records import Replica

COMPLETION = json.dumps({"choices": [{"message": {"content": "some words"}}]})


@contextmanager
def upstream(body: str, status: int = 200, port: int = 0) -> Iterator[int]:
    """An upstream that gives every POST the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_request(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def replica(port: int, name: str = "m-0") -> Replica:
    return Replica("m", name, f"http://127.0.0.1:{port}")


def nothing() -> None:
    pass


def ready(
    *replicas: Replica, timeout_s: float = 30.0, check_alive: Callable[[], None] = nothing
) -> None:
    with PlainProgress(io.StringIO()).step("engines") as step:
        asyncio.run(await_answers(replicas, step, timeout_s, check_alive))


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_replicas_that_complete_a_chat_are_ready() -> None:
    with upstream(COMPLETION) as one, upstream(COMPLETION) as two:
        ready(replica(one), replica(two))


def test_a_replica_that_listens_late_is_waited_for(closed_port: int) -> None:
    asked = threading.Event()
    thread = threading.Thread(target=lambda: ready(replica(closed_port), check_alive=asked.set))
    thread.start()
    assert asked.wait(30)
    with upstream(COMPLETION, port=closed_port):
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("<html>hello</html>", 200),
        ("[]", 200),
        ('{"choices": []}', 200),
        ('{"choices": [{"message": {"content": ""}}]}', 200),
        ('{"choices": [{"message": {"content": null}}]}', 200),
        ('{"error": {"message": "no chat template"}}', 400),
        (COMPLETION, 500),
    ],
)
def test_an_answer_that_is_no_completion_is_told_with_what_was_seen(body: str, status: int) -> None:
    with upstream(body, status) as port, pytest.raises(UserError) as caught:
        ready(replica(port))
    message = str(caught.value)
    assert message.startswith(f"m-0 answered a chat request with status {status}: ")
    assert body in message
    assert "\n" not in message


def test_a_replica_that_never_answers_is_named(closed_port: int) -> None:
    with (
        upstream(COMPLETION) as port,
        pytest.raises(UserError, match=r"^m-1 did not answer within"),
    ):
        ready(replica(port), replica(closed_port, "m-1"), timeout_s=0.5)


def test_a_death_is_told_at_once(closed_port: int) -> None:
    def check_alive() -> None:
        raise UserError("engine died")

    with pytest.raises(UserError, match="engine died"):
        ready(replica(closed_port), check_alive=check_alive)
