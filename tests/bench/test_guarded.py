"""Guarded commands: they tell how they ended, and never outlive their parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.processes.guarded import Guarded, last_lines

# Holds the FIFO open in a child and in a grandchild, until both have ended.
FAMILY = "exec 3>{fifo}; {trap} sleep 600 & echo ready >&3; wait; sleep 600"
PATIENCE_S = 30.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "alive"
    os.mkfifo(path)
    return path


def family(fifo: Path, trap: str = "") -> list[str]:
    return ["sh", "-c", FAMILY.format(fifo=fifo, trap=trap)]


def open_when_ready(fifo: Path) -> int:
    reader = os.open(fifo, os.O_RDONLY)
    assert os.read(reader, 100) == b"ready\n"
    return reader


def all_writers_ended(reader: int) -> bool:
    """The kernel reports the end of a FIFO once nobody has it open for writing."""
    readable, _, _ = select.select([reader], [], [], PATIENCE_S)
    ended = bool(readable) and os.read(reader, 100) == b""
    os.close(reader)
    return ended


def test_kill_9_of_the_parent_ends_child_and_grandchild(tmp_path: Path, fifo: Path) -> None:
    parent_code = (
        "import sys, time; from pathlib import Path; from bench.processes.guarded import Guarded\n"
        "child = Guarded(sys.argv[2:], log=Path(sys.argv[1])); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_code, str(tmp_path / "log"), *family(fifo)], cwd=ROOT
    )
    reader = open_when_ready(fifo)
    parent.kill()
    parent.wait()
    assert all_writers_ended(reader)


def test_terminate_ends_a_family_that_ignores_sigterm(tmp_path: Path, fifo: Path) -> None:
    process = Guarded(family(fifo, trap="trap '' TERM;"), log=tmp_path / "log", grace_s=0.1)
    reader = open_when_ready(fifo)
    process.terminate()
    assert all_writers_ended(reader)
    assert process.poll() == 128 + signal.SIGKILL


def test_terminate_lets_a_command_end_in_its_own_way(tmp_path: Path, fifo: Path) -> None:
    process = Guarded(family(fifo, trap="trap 'exit 7' TERM;"), log=tmp_path / "log")
    reader = open_when_ready(fifo)
    process.terminate()
    process.terminate()
    assert process.poll() == 7
    assert all_writers_ended(reader)


def test_what_a_finished_command_left_running_is_ended(tmp_path: Path, fifo: Path) -> None:
    script = f"exec 3>{fifo}; sleep 600 & echo ready >&3"
    process = Guarded(["sh", "-c", script], log=tmp_path / "log")
    reader = open_when_ready(fifo)
    assert process.wait(PATIENCE_S) == 0
    assert all_writers_ended(reader)


def test_exit_code_and_output_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "folder" / "log"
    process = Guarded(["sh", "-c", "echo out; echo err >&2; exit 3"], log=log)
    assert process.wait(PATIENCE_S) == 3
    process.terminate()
    assert log.read_text() == "out\nerr\n"


def test_a_command_that_does_not_exist_exits_with_127_and_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = Guarded([str(tmp_path / "nothing")], log=log)
    assert process.wait(PATIENCE_S) == 127
    process.terminate()
    assert last_lines(log) == f"cannot start {tmp_path / 'nothing'}: No such file or directory"


def test_waiting_for_a_running_command_gives_none(tmp_path: Path) -> None:
    process = Guarded(["sleep", "600"], log=tmp_path / "log")
    assert process.wait(0.01) is None
    assert process.poll() is None
    process.terminate()


def test_last_lines_skips_blank_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a\nb\n\nc\n\n")
    assert last_lines(log, 2) == "b\nc"


def test_a_log_that_is_missing_has_no_last_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "log") == ""


def test_what_is_kept_outlives_kill_9_of_the_parent_and_is_known_by_its_process(
    tmp_path: Path, fifo: Path
) -> None:
    parent_code = (
        "import sys, time; from pathlib import Path; from bench.processes.guarded import Guarded\n"
        "child = Guarded(sys.argv[2:], log=Path(sys.argv[1])); sys.stdin.readline()\n"
        "print(child.command_pid); child.keep(); print('kept', flush=True); time.sleep(600)"
    )
    command = ["sh", "-c", f"exec 3>{fifo}; echo ready >&3; sleep 600"]
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_code, str(tmp_path / "log"), *command],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    reader = open_when_ready(fifo)
    assert parent.stdin is not None
    assert parent.stdout is not None
    print(file=parent.stdin, flush=True)
    pid = int(parent.stdout.readline())
    assert parent.stdout.readline() == "kept\n"
    parent.kill()
    parent.communicate()
    readable, _, _ = select.select([reader], [], [], 0.5)
    assert not readable, "it has ended with its parent"
    os.killpg(pid, signal.SIGTERM)
    assert all_writers_ended(reader)
