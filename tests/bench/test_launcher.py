"""The launcher of engines that share a container, with small programs as engines."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from bench.environments.containers import launcher
from bench.processes.guarded import cause_in, error_in

PYTHON = [sys.executable, "-IS"]
LAUNCHER = [*PYTHON, launcher.__file__]
# Is healthy once the file healthy-NAME exists, and ends with the code in the file dies-NAME. It has
# a child, as vLLM has, that does not hear SIGTERM.
ENGINE = """
import http.server, os, pathlib, signal, subprocess, sys, threading, time
name, port, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
child = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-IS", "-c", child])
class Server(http.server.HTTPServer):
    allow_reuse_port = True
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if (folder / f"healthy-{name}").exists() else 503)
        self.end_headers()
    def log_message(self, *_):
        pass
def leave(*_):
    print("goes in peace", flush=True)
    os._exit(0)
if (folder / f"stubborn-{name}").exists():
    signal.signal(15, signal.SIG_IGN)
else:
    signal.signal(15, leave)
server = Server(("127.0.0.1", port), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("variable", os.environ.get("OWN"), flush=True)
(folder / f"started-{name}").touch()
while not (folder / f"dies-{name}").exists():
    time.sleep(0.05)
sys.stderr.write("ValueError: no room\\n")
sys.stderr.flush()
os._exit(int((folder / f"dies-{name}").read_text()))
"""


class Running:
    """A launcher of engines `a`, `b` and `c`, whose files are in `folder`.

    They have `grace` seconds to end, by default more than they take on any machine.
    """

    def __init__(self, folder: Path, cleanup: ExitStack, grace: float = 60.0) -> None:
        self.folder = folder
        program = folder / "engine.py"
        program.write_text(ENGINE)
        self.ports = [held_port(cleanup) for _ in "abc"]
        lines = [
            shlex.join(
                [
                    *(name, str(port), "env", f"OWN=of {name}"),
                    *(*PYTHON, str(program), name, str(port), str(folder)),
                ]
            )
            for name, port in zip("abc", self.ports, strict=True)
        ]
        self.log = folder / "log"
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [*LAUNCHER, "--grace", f"{grace}", *lines], stdout=output, stderr=subprocess.STDOUT
            )
        self.seen: set[psutil.Process] = set()
        cleanup.callback(self.end)

    def note(self, name: str, text: str = "") -> None:
        (self.folder / name).write_text(text)

    def is_started(self, name: str) -> bool:
        return (self.folder / f"started-{name}").exists()

    def start_all(self) -> None:
        for name in "abc":
            self.note(f"healthy-{name}")
        until(lambda: self.is_started("c"))

    def left(self) -> list[psutil.Process]:
        """Processes below the launcher, also those that it has lost."""
        if self.process.poll() is None:
            self.seen |= set(psutil.Process(self.process.pid).children(recursive=True))
        return [one for one in self.seen if runs(one)]

    def await_none_left(self) -> None:
        """What was killed is gone once it has had a moment of CPU."""
        until(lambda: not self.left())

    def end(self) -> None:
        for one in self.left():
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.kill()
        self.process.wait()

    def unhealthy(self) -> str:
        """What the health check says; empty if it finds all healthy."""
        asked = [f"{name}:{port}" for name, port in zip("abc", self.ports, strict=True)]
        done = subprocess.run(
            [*LAUNCHER, "--health", *asked], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode else ""


def held_port(cleanup: ExitStack) -> int:
    """A port that nothing else is given; an engine may listen there, for it shares the port."""
    one = cleanup.enter_context(socket.socket())
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", 0))
    port: int = one.getsockname()[1]
    return port


def runs(process: psutil.Process) -> bool:
    """Whether it has not ended."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with ExitStack() as cleanup:
        yield Running(tmp_path, cleanup)


def test_each_engine_starts_when_the_one_before_is_healthy(running: Running) -> None:
    for name, after in ("ab", "bc"):
        until(partial(running.is_started, name))
        # It has been asked some times meanwhile, and was not healthy.
        time.sleep(1)
        assert not running.is_started(after)
        assert running.unhealthy().startswith(f"not healthy: {name}, {after}")
        running.note(f"healthy-{name}")
    until(lambda: running.is_started("c"))
    assert running.unhealthy() == "not healthy: c"
    running.note("healthy-c")
    assert not running.unhealthy()
    (running.folder / "healthy-a").unlink()
    assert running.unhealthy() == "not healthy: a"


def test_every_line_has_the_name_of_its_engine(running: Running) -> None:
    running.start_all()
    until(lambda: running.log.read_text().count("variable") == 3)
    assert re.findall(r"^\[(\w+)\] variable of (\w)$", running.log.read_text(), re.MULTILINE) == [
        (name, name) for name in "abc"
    ]


@pytest.mark.parametrize(("said", "code"), [("3", 3), ("0", 1)])
def test_when_one_dies_all_end_and_its_last_lines_are_at_the_end(
    running: Running, said: str, code: int
) -> None:
    running.start_all()
    assert len(running.left()) == 6
    running.note("dies-b", said)
    assert running.process.wait(60) == code
    running.await_none_left()
    log = running.log.read_text()
    assert log.count("goes in peace") == 2
    *_, again, last = log.splitlines()
    assert again == "[b] ValueError: no room"
    assert last == f"[launcher] b ended with exit code {said}, so all are; above: its last lines"
    assert error_in(log) == cause_in(log) == "b: ValueError: no room"


def test_an_engine_that_is_killed_is_said_to_be(running: Running) -> None:
    running.start_all()
    (killed,) = [
        one for one in psutil.Process(running.process.pid).children() if "a" in one.cmdline()
    ]
    running.left()
    killed.kill()
    assert running.process.wait(60) == 128 + signal.SIGKILL
    running.await_none_left()
    log = running.log.read_text()
    assert cause_in(log) == "a: no error in its log, so it was killed from outside"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_of_them(running: Running, number: int) -> None:
    running.start_all()
    running.left()
    running.process.send_signal(number)
    assert running.process.wait(60) == 0
    running.await_none_left()
    assert running.log.read_text().count("goes in peace") == 3


def test_a_signal_at_start_ends_what_is_there_and_starts_no_more(running: Running) -> None:
    until(lambda: running.is_started("a"))
    running.left()
    running.process.terminate()
    assert running.process.wait(60) == 0
    running.await_none_left()
    assert not running.is_started("b")


def test_an_engine_that_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    (tmp_path / "stubborn-b").touch()
    with ExitStack() as cleanup:
        running = Running(tmp_path, cleanup, grace=3.0)
        running.start_all()
        running.left()
        running.process.terminate()
        assert running.process.wait(60) == 0
        running.await_none_left()
        assert running.log.read_text().count("goes in peace") == 2


def test_a_command_that_is_not_there_is_said_like_any_that_ends() -> None:
    done = subprocess.run(
        [*LAUNCHER, "a 1 /no/such/engine --flag"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 127
    assert re.fullmatch(r"a: .*/no/such/engine: not found", error_in(done.stdout))
