"""Runs the engines that share a GPU in one container. Needs Python's standard library alone.

    python3 -IS launcher.py "NAME PORT COMMAND..." ...   run these engines
    python3 -IS launcher.py --health NAME:PORT ...       exit with 0 if all answer /health

Each engine is started once the one before answers /health: at its start an engine measures how much
memory of the GPU is free, which must not change meanwhile. When one ends, all are ended: what runs
the container starts them again. Each line of an engine begins with its name in brackets.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock, Thread

_HOST, _ANSWER_TIMEOUT_S = "127.0.0.1", 5.0
_POLL_S = 0.2
# Engines finish their requests within 120 s, and have 20 s to exit.
_GRACE_S = 140.0
# How many of its last lines are shown again of an engine that has ended: what others say while they
# are ended would hide them.
_SHOWN_AGAIN = 40
_printing = Lock()


class Engine:
    """An engine that runs, in a process group of its own, and the last lines that it wrote."""

    def __init__(self, line: str) -> None:
        """Start it by its line, `NAME PORT COMMAND...`."""
        self.name, port, *command = shlex.split(line)
        self.port = int(port)
        self.lines: deque[str] = deque(maxlen=_SHOWN_AGAIN)
        self._process = subprocess.Popen(
            # A shell says what cannot be started, with exit code 127, as for any that ends.
            ["/bin/sh", "-c", 'exec "$@"', self.name, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def exit_code(self) -> int | None:
        """Its exit code, 128 + n after signal n; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it, and whatever it has left in its process group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=_ANSWER_TIMEOUT_S)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.lines.append(line)
            say(self.name, line)


def say(name: str, line: str) -> None:
    """Print a line of an engine, or of the launcher itself."""
    with _printing:
        sys.stdout.write(f"[{name}] {line.rstrip()}\n")
        sys.stdout.flush()


def is_healthy(port: int) -> bool:
    """Whether an engine on this machine answers /health with 200 within some seconds."""
    try:
        with socket.create_connection((_HOST, port), _ANSWER_TIMEOUT_S) as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def run(lines: Sequence[str], grace_s: float) -> int:
    """Run engines until one ends or a signal comes; return the exit code when none is left."""
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.append(number))
    waiting = deque(lines)
    running: list[Engine] = []
    ended: Engine | None = None
    try:
        while not signals and ended is None:
            if waiting and (not running or is_healthy(running[-1].port)):
                running.append(Engine(waiting.popleft()))
                say("launcher", f"{running[-1].name} starts on port {running[-1].port}")
            time.sleep(_POLL_S)
            ended = next((one for one in running if one.exit_code is not None), None)
    finally:
        _end(running, grace_s)
    if ended is None or signals:
        return 0
    code = ended.exit_code
    for line in ended.lines:
        say(ended.name, line)
    # What reads logs (bench/processes/guarded.py) knows by this line whose lines matter.
    say("launcher", f"{ended.name} ended with exit code {code}, so all are; above: its last lines")
    return code or 1


def _end(engines: Sequence[Engine], grace_s: float) -> None:
    """Return when no process of `engines` is left."""
    for one in engines:
        one.terminate()
    end_s = time.monotonic() + grace_s
    while any(one.exit_code is None for one in engines) and time.monotonic() < end_s:
        time.sleep(_POLL_S)
    for one in engines:
        one.kill()


def main() -> int:
    """Do what the arguments say; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("engines", nargs="*", metavar="'NAME PORT COMMAND...'")
    parser.add_argument("--health", nargs="+", metavar="NAME:PORT")
    parser.add_argument("--grace", type=float, default=_GRACE_S, metavar="S")
    typed = parser.parse_args()
    if typed.health:
        places = [one.rpartition(":") for one in typed.health]
        late = [name for name, _, port in places if not is_healthy(int(port))]
        print(f"not healthy: {', '.join(late)}" if late else "all are healthy")
        return 1 if late else 0
    return run(typed.engines, typed.grace)


if __name__ == "__main__":
    sys.exit(main())
