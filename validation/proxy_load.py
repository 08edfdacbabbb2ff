"""Load on proxies: wrk's closed loop, and many event streams that are held open at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.errors import UserError
from bench.load.accuracy.answers import CHAT, ENDLESS, endless_body
from validation.harness import T, filled, output_of

_MARK = "RESULT "
_ERRORS = ("connect", "read", "write", "status", "timeout")
_OPENING_TIMEOUT_S = 20.0
_READ_BYTES = 64 * 1024
_BODY = endless_body()
_HEAD = (
    f"POST {ENDLESS} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    f"content-type: application/json\r\ncontent-length: {len(_BODY)}\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk counted: answers, seconds, latencies of whole answers, and errors by kind.

    Answers with a status other than 2xx or 3xx are among the requests and the errors.
    The latencies are wrk's own, which adds what a stalled connection did not send.
    """

    requests: int
    duration_s: float
    p50_s: float
    p99_s: float
    errors: dict[str, int]


@dataclass(frozen=True, slots=True)
class Wrk:
    """The program, and a folder for its scripts and its output."""

    program: str
    folder: Path

    def run(self, port: int, body: bytes, *, connections: int, seconds: int) -> Load:
        """POST `body` to `CHAT` over and over, on `connections` connections, one thread.

        Raises UserError when wrk does not measure.
        """
        path, url = self.folder / "wrk.lua", f"http://127.0.0.1:{port}{CHAT}"
        path.write_text(script(body), encoding="utf-8")
        size = ["--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
        command = [self.program, *size, "--script", str(path), url]
        return parse(output_of(command, self.folder / "wrk.log", seconds + 20.0))


def script(body: bytes) -> str:
    """The Lua script that posts `body` (JSON) and prints the result as one line of JSON."""
    return filled("wrk.lua", body=body.decode())


def parse(output: str) -> Load:
    """Read what `script` makes wrk print. Raises UserError, with what was printed instead."""
    lines = output.splitlines()
    found = [line.removeprefix(_MARK) for line in lines if line.startswith(_MARK)]
    if not found:
        raise UserError(f"wrk did not measure: {(lines or ['it printed nothing'])[-1].strip()!r}")
    result = orjson.loads(found[0])
    return Load(
        requests=result["requests"],
        duration_s=result["duration_us"] / 1e6,
        p50_s=result["p50_us"] / 1e6,
        p99_s=result["p99_us"] / 1e6,
        errors={kind: result[kind] for kind in _ERRORS if result[kind]},
    )


def while_streaming(port: int, count: int, look: Callable[[], T]) -> tuple[int, T]:
    """Open up to `count` endless streams at `port`; how many run, and what `look` returns then.

    A stream runs once its first event has come. After 20 s no more of them are opened.
    """
    deadline_s = time.monotonic() + _OPENING_TIMEOUT_S
    with ExitStack() as streams:
        opened = list[socket.socket]()
        while len(opened) < count and (left_s := deadline_s - time.monotonic()) > 0:
            stream = streams.enter_context(socket.socket())
            stream.settimeout(left_s)
            if _begins(stream, port):
                opened.append(stream)
        found = look()
        return sum(map(_goes_on, opened)), found


def _begins(stream: socket.socket, port: int) -> bool:
    """Ask for an endless stream; whether its first event comes in time."""
    beginning = b""
    try:
        stream.connect(("127.0.0.1", port))
        stream.sendall(_HEAD.encode() + _BODY)
        while b"data: " not in beginning:
            received = stream.recv(_READ_BYTES)
            if not received:
                return False
            beginning += received
    except OSError:
        return False
    return beginning.startswith(b"HTTP/1.1 200 ")


def _goes_on(stream: socket.socket) -> bool:
    """Whether a stream is still open, after all that has come is read."""
    stream.setblocking(False)
    try:
        while stream.recv(_READ_BYTES):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
