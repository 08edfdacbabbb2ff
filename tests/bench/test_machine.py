"""The machine, held by one run at a time: who waits, who is named, and what is left behind."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

import pytest

from bench.errors import UserError
from bench.processes.machine import duration, hold_machine, user_name
from bench.progress import PlainProgress

ROOT = Path(__file__).parents[2]
RUN = """
import sys
from bench.processes.machine import hold_machine
from bench.progress import make_progress
name, what, timeout_s = sys.argv[1:]
with hold_machine(what, make_progress(), float(timeout_s), address="\\0" + name):
    print("held", flush=True)
    sys.stdin.readline()
    print("over", flush=True)
"""


@pytest.fixture
def name() -> str:
    """An address of its own, so that real runs are not in the way, nor disturbed."""
    return f"llm-bench-test-{uuid4()}"


def command(name: str, what: str, timeout_s: float = 60.0) -> list[str]:
    return [sys.executable, "-c", RUN, name, what, str(timeout_s)]


@contextmanager
def run(name: str, what: str = "run 1 (baseline, managed)") -> Iterator[subprocess.Popen[str]]:
    """A run of somebody else, which holds the machine when the context begins."""
    with subprocess.Popen(
        command(name, what), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n")


class Told(io.StringIO):
    """A stream that shows when something has been said."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if "waiting" in text:
            self.waits.set()
        return written


def refusal(name: str, timeout_s: float = 0.0) -> str:
    with (
        pytest.raises(UserError) as caught,
        hold_machine("run 2", PlainProgress(io.StringIO()), timeout_s, address=f"\0{name}"),
    ):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def must_be_free(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")


@pytest.mark.parametrize("ending", [end, subprocess.Popen.kill])
def test_a_second_run_waits_and_goes_on_when_the_first_ends_however_that_ends(
    name: str, ending: Callable[[subprocess.Popen[str]], None]
) -> None:
    told, holds = Told(), Event()

    def second() -> None:
        with hold_machine("run 2", PlainProgress(told), math.inf, address=f"\0{name}"):
            holds.set()

    with run(name) as first:
        thread = Thread(target=second, daemon=True)
        thread.start()
        assert told.waits.wait(60)
        assert not holds.is_set()
        ending(first)
        assert holds.wait(60)
        thread.join()
    line, *_ = told.getvalue().splitlines()
    user = user_name(os.getuid())
    assert line.startswith(
        f"this machine is in use by run 1 (baseline, managed) (user {user}, process {first.pid}, "
        f"folder {ROOT}, for "
    )


def test_whoever_does_not_wait_is_told_who_holds_it_and_what_to_do(name: str) -> None:
    with run(name) as first:
        said = refusal(name)
    assert f"in use by run 1 (baseline, managed) (user {user_name(os.getuid())}" in said
    assert "waited for 0 s, --wait-for-run S allows more" in said
    assert said.endswith(f"let it end, or end it (kill {first.pid})")


def test_the_time_of_waiting_is_limited(name: str) -> None:
    with run(name):
        assert "waited for 0.3 s" in refusal(name, timeout_s=0.3)


def test_a_holder_that_is_stopped_is_named_by_its_process(name: str) -> None:
    with run(name) as first:
        first.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, first.pid, os.WSTOPPED)
        said = refusal(name)
        first.send_signal(signal.SIGCONT)
    assert "in use by a program that does not answer" in said
    assert f"process {first.pid})" in said


def test_what_a_holder_starts_is_part_of_its_run(name: str) -> None:
    progress = PlainProgress(io.StringIO())
    with (
        hold_machine("run 1", progress, 0, address=f"\0{name}"),
        hold_machine("a run within it", progress, 0, address=f"\0{name}"),
    ):
        shell = ["sh", "-c", '"$@"; true', "-"]  # so that it is a grandchild
        done = subprocess.run(
            [*shell, *command(name, "a run within it", 0)],
            cwd=ROOT,
            input="\n",
            text=True,
            capture_output=True,
            check=False,
        )
    assert done.stdout == "held\nover\n", done.stderr
    must_be_free(name)


def test_it_is_free_at_the_end_also_while_others_ask(name: str) -> None:
    asking = Event()

    def ask() -> None:
        while not asking.is_set():
            with socket.socket(socket.AF_UNIX) as connection:
                if connection.connect_ex(f"\0{name}") == 0:
                    connection.recv(10)

    thread = Thread(target=ask)
    thread.start()
    for _ in range(100):
        with hold_machine("run 1", PlainProgress(io.StringIO()), 0, address=f"\0{name}"):
            pass
        must_be_free(name)
    asking.set()
    thread.join()


def test_of_many_runs_one_holds_it_at_a_time(name: str, tmp_path: Path) -> None:
    file = tmp_path / "said"
    with file.open("a") as said:
        runs = [
            subprocess.Popen(
                command(name, f"run {number}"), stdin=subprocess.DEVNULL, stdout=said, cwd=ROOT
            )
            for number in range(4)
        ]
    assert [one.wait() for one in runs] == [0] * 4
    assert file.read_text().split() == ["held", "over"] * 4


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"what": "x"}',
        b'{"what": "x", "folder": "y", "held_s": "z"}',
        b"[" * 9_000,
    ],
)
def test_another_program_with_the_name_is_named_by_its_process(name: str, answer: bytes) -> None:
    with served(name, answer):
        assert "in use by a program that does not answer (user " in refusal(name)


def test_what_a_holder_says_is_one_short_line_of_plain_text(name: str) -> None:
    said = {"what": "\x1b[31m\n" + "x" * 999, "folder": "[/red]\r", "held_s": 1}
    with served(name, json.dumps(said).encode()):
        told = refusal(name)
    assert "\x1b" not in told
    assert "\r" not in told
    assert "folder [/red], for 1 s now" in told
    assert len(told) < 600


@contextmanager
def served(name: str, answer: bytes) -> Iterator[None]:
    """Some program that listens there, and answers everybody with this."""
    script = (
        "import socket, sys\n"
        "listener = socket.socket(socket.AF_UNIX)\n"
        "listener.bind('\\0' + sys.argv[1])\n"
        "listener.listen()\n"
        "print(flush=True)\n"
        "while True:\n"
        "    connection, _ = listener.accept()\n"
        "    try: connection.sendall(bytes.fromhex(sys.argv[2]))\n"
        "    except OSError: pass\n"
        "    connection.close()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, name, answer.hex()], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def test_durations_are_short() -> None:
    assert [duration(seconds) for seconds in (0.4, 89.4, 90.0, 7200.0)] == [
        "0 s",
        "89 s",
        "2 min",
        "120 min",
    ]


def test_a_user_without_a_name_is_a_number() -> None:
    assert user_name(3_999_999_999) == "3999999999"
